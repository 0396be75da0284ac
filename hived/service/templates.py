"""The unit and plist templates, wherever hived was installed from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

UNITS = {"systemd": "hived.service", "launchd": "dev.hive.hived.plist"}


def read_template(manager: str) -> str:
    """Return the template for ``systemd`` or ``launchd``. Raises KeyError for another manager.

    In a wheel the templates lie in the package; in an editable install they lie beside it.
    """
    name = UNITS[manager]
    packaged = files("hived").joinpath("_units", manager, name)
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (Path(__file__).parent.parent.parent / manager / name).read_text("utf-8")
