"""``systemctl --user`` as a function: it knows what it was told, and answers as systemd 252 was seen to."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from hived.machine.commands import Done


class FakeSystemctl:
    """A ``Run`` for one unit. ``refusals`` are what a verb is answered with instead."""

    def __init__(self, unit_path: Sequence[str]) -> None:
        self.unit_path = list(unit_path)
        self.asked: list[tuple[str, ...]] = []
        self.environment: Mapping[str, str] = {}
        self.refusals: dict[str, str] = {}
        self.properties = {
            "ActiveState": "inactive",
            "UnitFileState": "disabled",
            "MainPID": "0",
            "Result": "success",
        }

    def __call__(
        self, words: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None
    ) -> Done:
        assert tuple(words[:2]) == ("systemctl", "--user"), words
        self.environment = environment or {}
        verb = next(word for word in words[2:] if not word.startswith("-"))
        self.asked.append(tuple(words[2:]))
        if verb in self.refusals:
            return Done(code=1, out="", err=self.refusals[verb])
        if verb == "show" and "--property=UnitPath" in words:
            return Done(code=0, out=f"UnitPath={' '.join(self.unit_path)}\n", err="")
        if verb == "show":
            return Done(code=0, out="".join(f"{n}={v}\n" for n, v in self.properties.items()), err="")
        if verb == "enable":
            self.properties["UnitFileState"] = "enabled"
        if verb in ("start", "restart"):
            self.properties["ActiveState"] = "active"
        if verb in ("stop", "disable"):
            self.properties["ActiveState"] = "inactive"
        return Done(code=0, out="", err="")

    @property
    def verbs(self) -> list[str]:
        """What it was told to do, and not only asked."""
        verbs = (next(word for word in words if not word.startswith("-")) for words in self.asked)
        return [verb for verb in verbs if verb != "show"]


def root_with_systemd(folder: Path, *, session: bool = True) -> str:
    """Make the folders of a system that systemd started, and of a user who is logged in."""
    (folder / "run/systemd/system").mkdir(parents=True)
    if session:
        private = folder / f"run/user/{os.getuid()}/systemd"
        private.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(private / "private"))
    return str(folder)
