"""Write a file whole: a reader sees the old one or the new one, and a crash leaves one of them."""

from __future__ import annotations

import os


def write_whole(path: str, data: bytes, *, sync: bool = False) -> None:
    """Write to a temporary name in the same folder (0600) and rename. Raises OSError; leaves nothing behind.

    ``sync``: survive a loss of power too; not needed for what the next start makes again.
    """
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
