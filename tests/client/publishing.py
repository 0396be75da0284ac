"""Write the files that a daemon would write."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hived_client.doors.beat import encode_beat
from hived_client.doors.paths import Places, ensure_folder
from hived_client.doors.since_boot import since_boot_ns
from hived_client.doors.snapshot import encode_endpoint, encode_snapshot
from hived_client.doors.whole import write_whole
from hived_client.vocabulary.world import World

ID = bytes(range(16))
Slots = tuple[tuple[int, int, int], ...]


def young(endpoints: int = 4, ago: float = 0.0) -> Slots:
    """Rows of endpoints that were all seen just now."""
    return ((since_boot_ns() - int(ago * 1e9), 1000, 4000),) * endpoints


def write_snapshot(where: Places, world: World, *, daemon_id: bytes = ID, path: str | None = None) -> None:
    """Write a World to the snapshot or another file."""
    path = path or where.snapshot
    ensure_folder(os.path.dirname(path))
    write_whole(
        path, encode_snapshot(world, list(map(encode_endpoint, world.endpoints)), daemon_id=daemon_id)
    )


def write_beat(
    where: Places,
    generation: int = 1,
    *,
    ago: float = 0.0,
    slots: Slots | None = None,
    daemon_id: bytes = ID,
    flags: int = 0,
) -> None:
    """Write a beat of some seconds ago."""
    ensure_folder(where.folder)
    at = since_boot_ns() - int(ago * 1e9)
    rows = young() if slots is None else slots
    data = encode_beat(generation=generation, at_ns=max(0, at), daemon_id=daemon_id, slots=rows, flags=flags)
    fd = os.open(where.beat, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # in place, as the daemon does
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def publish(
    where: Places, world: World, *, ago: float = 0.0, slots: Slots | None = None, flags: int = 0
) -> None:
    """Write both."""
    write_snapshot(where, world)
    write_beat(where, world.generation, ago=ago, slots=slots, flags=flags)


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """A socket that accepts, as the kernel does for a daemon that is busy."""
    ensure_folder(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(8)
        yield listener
    os.unlink(path)
