"""A state folder has one daemon, whatever runtime folders there are.

Where a daemon has its runtime folder depends on the login that began it, and its state folder does not. So
there may be two that hold a lock each and read the same records: both would adopt, keep and stop the same
servers. The folder therefore says which runtime folder works with it, and the lock there says whether anybody
still does. In the same runtime folder that lock alone decides.
"""

from __future__ import annotations

import fcntl
import os
import time

import msgspec

from hived.machine.owners import holder_of_lock
from hived_client.doors.boot import boot_id
from hived_client.doors.paths import Places
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import fault

PATIENCE = 1.0
"""Seconds for another daemon to read and write the few bytes of a claim."""

POLL = 0.01
"""Seconds between two tries: nobody tells that the file was unlocked."""

MOST_BYTES = 8192


class StateTaken(Unavailable):
    """A daemon with another runtime folder works with this state folder."""


class Claim(msgspec.Struct, frozen=True):
    """Which runtime folder works with a state folder, and in which boot of which machine."""

    lock: str
    """Path of the runtime folder's lock."""
    runtime: str
    boot: str


def claim_state(places: Places) -> None:
    """Claim the state folder for the runtime folder whose lock the caller holds. Raises ``StateTaken``.

    A folder in which nothing can be written holds nobody up. Neither does a claim of another boot: its daemon
    is dead, or of another machine that shares this home, and has no server here. Blocks, for ``PATIENCE``.
    """
    mine = Claim(lock=places.lock, runtime=places.runtime, boot=boot_id())
    try:
        fd = os.open(places.claim, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return
    try:
        _lock(fd)
        other = _read(fd)
        if other is not None and other.boot == mine.boot and other.lock != mine.lock:
            pid = holder_of_lock(other.lock)
            if pid is not None:
                raise StateTaken(fault("state.taken", pid=pid, path=places.state, runtime=other.runtime))
        os.ftruncate(fd, 0)
        os.pwrite(fd, msgspec.json.encode(mine), 0)
    except OSError:
        return  # a full disk, or a file system without locks: no worse than without a claim
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(POLL)
        else:
            return


def _read(fd: int) -> Claim | None:
    try:
        return msgspec.json.decode(os.pread(fd, MOST_BYTES, 0), type=Claim)
    except msgspec.MsgspecError:
        return None
