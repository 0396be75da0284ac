"""The end of a log, and room for a new one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hived_client.doors.regular import open_regular

LOG_TAIL = 65_536
"""Bytes at the end of a log that are searched for the reason of an end."""


LOG_MOST = 64 * 1024 * 1024
"""Bytes that a server's log may have."""

LOG_KEPT = 1024 * 1024
"""Bytes of its end that are kept when it is emptied."""


def read_tail(log: str | os.PathLike[str], *, since: int = 0) -> str:
    """Return the end of a log as text, at most 64 KiB of it; empty where it cannot be read. Blocks.

    ``since`` is the length that the file had before, so that what is older is not told again.
    """
    try:
        with open_regular(log) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - LOG_TAIL))
            return file.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


def keep_short(log: Path, *, most: int = LOG_MOST) -> bool:
    """Empty a log that has grown beyond ``most`` bytes, its end kept as ``*.1``; tell whether it was. Blocks.

    Whoever writes it appends, and goes on at its new end: no server has to be told. Where there is no room
    for the copy, the log is emptied all the same.
    """
    try:
        if os.stat(log).st_size <= most:
            return False
        with contextlib.suppress(OSError):
            _write_end(log, Path(f"{log}.1"))
        os.truncate(log, 0)
    except OSError:
        return False
    return True


def _write_end(log: Path, other: Path) -> None:
    with open_regular(log) as file:
        file.seek(-min(LOG_KEPT, file.seek(0, os.SEEK_END)), os.SEEK_END)
        end = file.read(LOG_KEPT)
    other.unlink(missing_ok=True)
    fd = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(end)


def put_aside(log: Path) -> None:
    """Keep the log of the run before as ``*.1``, in place of the one before that. Blocks."""
    with contextlib.suppress(OSError):
        os.replace(log, f"{log}.1")
