"""The end of a log, and room for a new one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOG_TAIL = 65_536
"""Bytes at the end of a log that are searched for the reason of an end."""


def read_tail(log: str | os.PathLike[str], *, since: int = 0) -> str:
    """Return the end of a log as text, at most 64 KiB of it; empty where it cannot be read. Blocks.

    ``since`` is the length that the file had before, so that what is older is not told again.
    """
    try:
        with open(os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - LOG_TAIL))
            return file.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


def put_aside(log: Path) -> None:
    """Keep the log of the run before as ``*.1``, in place of the one before that. Blocks."""
    with contextlib.suppress(OSError):
        os.replace(log, f"{log}.1")
