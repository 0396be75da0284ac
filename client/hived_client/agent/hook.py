"""Plugs hived into Hive at the moment that Hive's provider is imported, and not before.

The start of every Python in Hive's environment pays only for ``LINE``: a finder that knows one name. Python
runs a line of a ``.pth`` file that begins with ``import``; what goes wrong in there, or here, leaves Hive as
it was.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULE = "framework.llm.litellm"
FINDER = "HivedFinder"

_SOURCE = f"""\
class {FINDER}:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {MODULE!r}:
            try:
                from hived_client.agent.hook import find
                return find(name, path, target)
            except Exception:
                return None
import sys
sys.meta_path.insert(0, {FINDER})
"""
LINE = f"import sys; exec({_SOURCE!r})\n"
"""What stands in the ``.pth`` file."""


def activate() -> None:
    """Do what the line does, in this process. Idempotent."""
    if not any(getattr(each, "__name__", "") == FINDER for each in sys.meta_path):
        exec(_SOURCE, {})


def find(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
    """Find Hive's module as Python would without us, and have hived plugged in when it has run."""
    for finder in sys.meta_path:
        if getattr(finder, "__name__", "") == FINDER:
            continue
        spec = finder.find_spec(name, path, target)
        if spec is not None:
            _follow(spec)
            return spec
    return None


def _follow(spec: ModuleSpec) -> None:
    loader: Any = spec.loader
    run = getattr(loader, "exec_module", None)
    if run is None:
        return

    def exec_module(module: ModuleType) -> None:
        run(module)
        if module.__name__ == MODULE:
            plug_in(module)

    loader.exec_module = exec_module


def plug_in(module: ModuleType) -> None:
    """Install hived there; say in one line where that cannot be done, and leave Hive as it is."""
    try:
        from hived_client.agent.hive import install

        install(module)
    except Exception as error:  # noqa: BLE001 - Hive runs without us
        import logging

        logging.getLogger("hived").warning("hived is not plugged into Hive: %r", error)
