"""Being the one daemon: the lock, the socket, and noticing that they are gone.

The lock is a ``flock`` on a file that is never unlinked: the kernel gives it back at once when its holder
dies, so nothing stale can stand in the way. Whoever holds it knows that any socket still lying there is
nobody's, and renames its own over it. Nobody ever unlinks a socket that is not the one it bound.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct

import msgspec

from hived_client.doors.paths import Places, ensure_folder, unwritable
from hived_client.doors.whole import remove_unfinished, write_whole
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import fault

BACKLOG = 512
"""Connections that may wait to be accepted."""

_UCRED = struct.Struct("=iII")
"""Linux's ``struct ucred``: pid, uid, gid."""


class AlreadyRunning(Unavailable):
    """Another daemon holds the lock."""


class Instance:
    """The lock and the listening socket of this daemon."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = -1
        self._socket: socket.socket | None = None
        self._bound: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<Instance {self._places.socket}>"

    def acquire(self) -> None:
        """Take the lock. Raises ``AlreadyRunning``, or ``Unavailable`` for a folder that is not safe."""
        ensure_folder(self._places.runtime, close=False)
        for path in (self._places.folder, os.path.dirname(self._places.socket)):
            ensure_folder(path)
        for _ in range(10):
            try:
                fd = os.open(self._places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise Unavailable(unwritable(self._places.lock, error)) from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise AlreadyRunning(fault("daemon.already_running", pid=holder or "?")) from error
            if _is_same(fd, self._places.lock):
                self._lock = fd
                self._sign()
                return
            os.close(fd)  # somebody removed the file between open and lock: try on the new one
        raise Unavailable(fault("runtime.unwritable", path=self._places.lock, why="it keeps changing"))

    def holds_lock(self) -> bool:
        """Tell whether the folder that clients look at is ours."""
        return _is_same(self._lock, self._places.lock)

    def bind(self) -> socket.socket:
        """Bind under a temporary name and rename it into place; return the listening socket."""
        path = self._places.socket
        beside = os.path.join(os.path.dirname(path), "")
        temporary = f"{beside}.{os.getpid()}"  # short: a socket's path may have no more than some 100 bytes
        remove_unfinished(beside)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(temporary)
            os.chmod(temporary, 0o600)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            os.rename(temporary, path)
            found = os.stat(path)
        except OSError as error:
            listener.close()
            raise Unavailable(unwritable(path, error)) from error
        self._socket, self._bound = listener, (found.st_dev, found.st_ino)
        return listener

    def leave_breadcrumb(self, about: dict[str, str | int | float | None]) -> None:
        """Say where the daemon is to clients that see another environment. Not needed, so it may fail."""
        try:
            ensure_folder(os.path.dirname(self._places.breadcrumb))
            write_whole(self._places.breadcrumb, msgspec.json.encode(about))
        except (OSError, Unavailable):
            return

    def is_intact(self) -> bool:
        """Tell whether lock and socket are still where clients look for them."""
        try:
            found = os.stat(self._places.socket)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._bound and _is_same(self._lock, self._places.lock)

    def recover(self) -> socket.socket:
        """Make the folder, the lock and the socket again. Raises ``AlreadyRunning`` for a quicker one."""
        if not _is_same(self._lock, self._places.lock):
            if self._lock >= 0:  # the last try may have failed after it was given back
                os.close(self._lock)
                self._lock = -1
            self.acquire()
        return self.bind()

    def _sign(self) -> None:
        """Write our number into the lock, for people. Nothing believes it, so a full disk is no matter."""
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            return

    def release(self) -> None:
        """Unlink the socket, if it is still the one we bound, and give the lock back."""
        if self._socket is not None:
            try:
                found = os.stat(self._places.socket)
                if stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == self._bound:
                    os.unlink(self._places.socket)
            except OSError:
                pass
            self._socket = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user at the other end of a Unix socket, as the kernel knows it."""
    if hasattr(socket, "SO_PEERCRED"):
        _pid, uid, _gid = _UCRED.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        return int(uid)
    try:
        # macOS: SOL_LOCAL, LOCAL_PEERCRED, struct xucred {u32 version; u32 uid; …} (unproven there)
        raw = connection.getsockopt(0, 1, 76)
    except OSError:
        return None
    return int.from_bytes(raw[4:8], "little") if len(raw) >= 8 else None


def _is_same(fd: int, path: str) -> bool:
    try:
        mine, there = os.fstat(fd), os.stat(path)
    except OSError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
