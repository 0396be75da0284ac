"""Write a file whole: a reader sees the old one or the new one, and a crash leaves one of them."""

from __future__ import annotations

import os


def remove_unfinished(path: str) -> None:
    """Remove what writers of this file left beside it when they were killed: theirs, if they are no more."""
    folder, name = os.path.split(path)
    try:
        found = [each for each in os.listdir(folder) if each.startswith(f"{name}.")]
    except OSError:
        return
    for each in found:
        number = each.removeprefix(f"{name}.")
        if number.isdecimal() and not _lives(int(number)):
            try:
                os.unlink(os.path.join(folder, each))
            except OSError:
                continue


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return False  # we have not written yet: it is from another boot, or another container
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


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
