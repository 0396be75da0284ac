"""Writing and removing what a service consists of, so that a second time changes nothing."""

from __future__ import annotations

import contextlib
import os

from hived_client.doors.regular import open_regular
from hived_client.doors.whole import write_whole
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import Fault, fault

MOST_BYTES = 262_144


def read_file(path: str) -> bytes | None:
    """Return what is there; ``None``: nothing that can be read."""
    try:
        with open_regular(path) as file:
            return file.read(MOST_BYTES)
    except OSError:
        return None


def ensure_file(path: str, data: bytes) -> bool:
    """Have a file hold these bytes (0600), whole; tell whether that changed anything.

    A link in its place is replaced, and what it led to left alone. Raises ``Unavailable``.
    """
    if read_file(path) == data and not os.path.islink(path) and os.lstat(path).st_mode & 0o077 == 0:
        return False
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise Unavailable(_unwritable(path, error)) from error
    return True


def remove_file(path: str) -> bool:
    """Have no file there; tell whether there was one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unavailable(_unwritable(path, error)) from error
    return True


def remove_empty(folder: str, *, above: str) -> None:
    """Remove a folder, and those above it as far as ``above``, while they are empty."""
    while folder != above and folder.startswith(f"{above}/"):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        if os.path.isdir(folder):
            return
        folder = os.path.dirname(folder)


def _unwritable(path: str, error: OSError) -> Fault:
    why = error.strerror or type(error).__name__
    return fault("runtime.unwritable", path=path, why=why)
