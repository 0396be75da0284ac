"""Open a file that somebody else wrote: a regular one, and nothing is waited for."""

from __future__ import annotations

import io
import os
import stat


class NotAFile(OSError):
    """It is a folder, a pipe, a socket or a device."""

    def __init__(self) -> None:
        super().__init__(0, "it is not a file")


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> io.BufferedReader:
    """Open a regular file to be read; without ``follow`` its last part may not be a link.

    Raises OSError, and ``NotAFile`` for anything else that lies there.
    """
    # NONBLOCK: opening a pipe that somebody put there would wait for its writer for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return open(fd, "rb")
    os.close(fd)
    raise NotAFile
