"""Plugs hived into Hive at the moment that Hive's provider is imported, and not before.

The start of every Python in Hive's environment pays only for ``LINE``: a finder that knows one name. What
goes wrong in there, or here, is said in one line and leaves Hive as it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULE = "framework.llm.litellm"
FINDER = "HivedFinder"

_WHEN_NEEDED = """\
import sys
try:
    from hived_client.agent.hook import find
except Exception as error:
    sys.stderr.write(f"hived is not plugged into Hive: {error}\\n")
    def find(*_):
        return None
"""
_PLUG = (
    "sys.meta_path.insert(0, "
    f"(lambda f: setattr(f, 'find_spec', f) or setattr(f, '__name__', {FINDER!r}) or f)"
    f"(lambda n, p=None, t=None: None if n != {MODULE!r} else "
    f"exec({_WHEN_NEEDED!r}, d := {{}}) or d['find'](n, p, t)))"
)
LINE = f"import sys; {FINDER!r} in [getattr(f, '__name__', '') for f in sys.meta_path] or exec({_PLUG!r})\n"
"""What plugs hived in: a line for a ``.pth`` file, of which Python runs those that begin with ``import``.

One expression, and a function that is its own finder: a module or a class would cost twice as much. The rest
is text until Hive's module is asked for. Python 3.11 runs the ``.pth`` files of a virtual environment twice:
the second time costs a look.
"""


def activate() -> None:
    """Do what the line does, in this process. Idempotent."""
    exec(LINE)


def find(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
    """Find Hive's module as Python would without us, and have hived plugged in when it has run."""
    for finder in sys.meta_path:
        # One of the old kind has no such function, and Python passes it over.
        look = getattr(finder, "find_spec", None)
        if look is not None and getattr(finder, "__name__", "") != FINDER:
            spec: ModuleSpec | None = look(name, path, target)
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

    try:
        loader.exec_module = exec_module
    except AttributeError as error:
        _say(error)


def plug_in(module: ModuleType) -> None:
    """Install hived there; say in one line where that cannot be done, and leave Hive as it is."""
    try:
        from hived_client.agent.hive import install

        install(module)
    except Exception as error:  # noqa: BLE001 - Hive runs without us
        _say(error)


def _say(error: Exception) -> None:
    import logging

    logging.getLogger("hived").warning("hived is not plugged into Hive: %r", error)


PACKAGES = "HIVED_ON_PATH"
"""The variable that names the folders in which ``on_path`` finds this package and what it needs."""


def plugged(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which every Python plugs hived into Hive, with nothing installed.

    Its first folder of modules holds ``sitecustomize``, which Python runs at its start; one that was there
    already is run, too. Of our own packages it shows two, and only where there are none of that name.
    """
    import msgspec

    here = os.path.dirname(os.path.abspath(__file__))
    first = os.path.join(here, "on_path")
    folders = (os.path.dirname(os.path.dirname(here)), os.path.dirname(os.path.dirname(msgspec.__file__)))
    others = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each != first]
    return dict(environment) | {
        "PYTHONPATH": os.pathsep.join([first, *others]).rstrip(os.pathsep),
        PACKAGES: os.pathsep.join(folders),
    }
