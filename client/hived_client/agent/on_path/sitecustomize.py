"""Runs at the start of every Python below ``hived exec -- COMMAND``; the folder is first on its path.

It shows two of hived's packages, where the environment has none of that name, and nothing else of hived's
environment; then it gives way to the ``sitecustomize`` that it stands before.
"""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))
_FOLDERS = os.environ.get("HIVED_ON_PATH", "").split(os.pathsep)


class _Packages:
    """Finds ``hived_client`` and ``msgspec`` where nobody else does."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where they are."""
        return PathFinder.find_spec(name, _FOLDERS) if name in ("hived_client", "msgspec") else None


def _give_way() -> None:
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or ".") != _HERE]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = type(sys)("sitecustomize")
        module.__spec__, module.__file__, module.__loader__ = spec, spec.origin, spec.loader
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _plug_in() -> None:
    sys.meta_path.append(_Packages)
    spec = PathFinder.find_spec("hook", [os.path.dirname(_HERE)])
    if spec is not None and spec.loader is not None:
        module = type(sys)(spec.name)
        module.__file__ = spec.origin
        spec.loader.exec_module(module)
        module.activate()


try:
    _plug_in()
except Exception as error:  # noqa: BLE001 - the command runs without us
    sys.stderr.write(f"hived is not plugged into Hive: {error}\n")
_give_way()
