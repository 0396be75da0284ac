"""A daemon that has one of its folders on a small disk of its own, which can be filled and made read-only.

The disk is mounted in a namespace of the daemon's, so that nobody else sees it and it goes with the daemon;
where user namespaces are allowed no root is needed for it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping

from tests.daemon.running import Running

NEW_MOUNTS = ("unshare", "-Urm")


class OnSmallDisk(Running):
    """A daemon whose ``folder`` is a disk of some kilobytes. Starting it does not wait for it."""

    mode = "0700"
    """Options of the mount: the mode of its folder, and what a subclass adds."""

    def __init__(self, environment: Mapping[str, str], folder: str, kilobytes: int) -> None:
        super().__init__(environment, wait=False)
        self.folder = folder
        self._mount = f"mount -t tmpfs -o mode={self.mode},size={kilobytes}k none '{folder}' && exec \"$@\""

    def begin(self) -> None:
        os.makedirs(self.folder, 0o700, exist_ok=True)
        command = (sys.executable, "-P", "-m", "hived", "serve")
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [*NEW_MOUNTS, "sh", "-c", self._mount, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )

    def fill(self) -> None:
        """Write to the disk until there is no room."""
        with contextlib.suppress(OSError), open(self.seen("filling"), "wb", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def make_room(self) -> None:
        """Remove what ``fill`` wrote."""
        os.unlink(self.seen("filling"))

    def remount(self, mode: str) -> None:
        """Make the disk read-only (``ro``) or not (``rw``)."""
        inside = ("nsenter", "-t", str(self.pid), "-U", "-m", "--preserve-credentials")
        subprocess.run([*inside, "mount", "-o", f"remount,{mode}", self.folder], check=True)

    def seen(self, name: str) -> str:
        """Return the path by which somebody outside sees a file on the small disk."""
        return f"/proc/{self.pid}/root{self.folder}/{name}"
