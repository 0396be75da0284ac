"""Read a file that only we may have written: a regular file, of our user, of a length that can be."""

from __future__ import annotations

import os
import stat

from hived_client.doors.paths import denied
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import fault

# A link is not followed, and a fifo that somebody put there is not waited for.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_ours(path: str) -> tuple[int, os.stat_result]:
    """Open a file of ours; return its descriptor and what it is.

    Raises FileNotFoundError, or ``Unavailable``: ``runtime.unsafe`` for one that we may not read,
    ``snapshot.foreign`` for one that is not ours.
    """
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise Unavailable(denied(path, error)) from error
    except OSError as error:
        raise foreign(path, error.strerror or "it cannot be read") from error
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
        return fd, found
    os.close(fd)
    regular = stat.S_ISREG(found.st_mode)
    raise foreign(path, f"it belongs to user {found.st_uid}" if regular else "it is not a file")


def read_ours(path: str, most: int) -> bytes:
    """Read a whole file of ours. Raises as ``open_ours`` does, and for one of more than ``most`` bytes."""
    fd, found = open_ours(path)
    try:
        size = found.st_size
        if size > most:
            raise foreign(path, f"it has {size} bytes")
        data = os.read(fd, size + 1)
        while len(data) < size:  # one read is enough for any regular file; a signal may cut it short
            more = os.read(fd, size - len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise foreign(path, error.strerror or "it cannot be read") from error
    else:
        return data
    finally:
        os.close(fd)


def foreign(path: str, why: str) -> Unavailable:
    """Return the error for a file that is not one of ours."""
    return Unavailable(fault("snapshot.foreign", path=path, why=why))
