"""The beat file: that the daemon lives, which generation is the newest, when each endpoint was last seen.

A small file of fixed size, overwritten in place twice a second. Its times are since the boot, which no change
of the wall clock moves and which every process of one boot shares, so a dead daemon can not look alive, and
what was seen before the machine slept can not look new. A checksum tells a torn read, which is simply read
again. Layout (little endian):

    4s magic | u16 schema | u16 flags | u64 generation | u64 beat, ns | 16s daemon id | 16s boot
    | 64 × (u64 seen, ns | u32 latency, µs | u32 cadence, ms) | u32 crc32 of all before it
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence

import msgspec

from hived_client.doors.boot import boot_bytes
from hived_client.doors.ours import foreign, open_ours, read_ours
from hived_client.errors import Unavailable
from hived_client.vocabulary.world import SLOTS, Verdict

SCHEMA = 1
MAGIC = b"HVBT"
STOPPED = 1
"""Flag: the daemon ended in good order, and this is the last that it knew."""

FULL = 4
"""Flag: the disk is full, so the snapshot beside this beat is an old one."""

UNWRITABLE = 8
"""Flag: the same for another reason, which the daemon's log and its World have."""

INTERVAL = 0.5
"""Seconds between two beats."""
YOUNG = 1.5
"""Seconds for which a beat proves that the daemon lives."""
STALE = 15.0
"""Seconds after which a daemon that still accepts connections is called stale, not lagging."""

_HEADER = struct.Struct("<4sHHQQ16s16s")
_SLOT = struct.Struct("<QII")
_SLOTS = struct.Struct("<" + "QII" * SLOTS)
_CRC = struct.Struct("<I")
BYTES = _HEADER.size + _SLOTS.size + _CRC.size
"""Length of the file."""


class Seen(msgspec.Struct, frozen=True):
    """When an endpoint was last seen and how long that took."""

    at: float | None
    """Seconds since the boot; ``None``: not since the daemon started."""
    latency: float | None
    cadence: float
    """Seconds until the next look."""

    def age(self, now: float) -> float | None:
        """Return the seconds since then."""
        return None if self.at is None else max(0.0, now - self.at)

    def is_young(self, now: float) -> bool:
        """Tell whether the fact is younger than two cadences (and a moment for the look itself)."""
        return self.at is not None and now - self.at < 2 * self.cadence + 0.5


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The beat file, decoded: ``slots`` stay packed until one is asked for."""

    flags: int
    generation: int
    at: float
    """Seconds since the boot."""
    daemon_id: bytes
    boot: bytes
    slots: bytes

    def seen(self, slot: int) -> Seen:
        """Return what the beat says of an endpoint."""
        if not 0 <= slot < SLOTS:
            return Seen(None, None, 15.0)
        at, latency, cadence = _SLOT.unpack_from(self.slots, slot * _SLOT.size)
        return Seen(at / 1e9 if at else None, latency / 1e6 if latency else None, cadence / 1e3)


def encode_beat(
    *, generation: int, at_ns: int, daemon_id: bytes, slots: Sequence[tuple[int, int, int]], flags: int = 0
) -> bytes:
    """Encode a beat. ``slots`` are (seen, ns | latency, µs | cadence, ms), ``SLOTS`` of them at most."""
    rows = [number for slot in slots for number in slot]
    rows += [0] * (3 * SLOTS - len(rows))
    data = _HEADER.pack(MAGIC, SCHEMA, flags, generation, at_ns, daemon_id, boot_bytes()) + _SLOTS.pack(*rows)
    return data + _CRC.pack(zlib.crc32(data))


def decode_beat(data: bytes, path: str = "") -> Beat:
    """Decode a beat. Raises ``Unavailable`` (``snapshot.foreign``) for anything else."""
    if len(data) != BYTES or _CRC.unpack_from(data, len(data) - 4)[0] != zlib.crc32(data[:-4]):
        raise foreign(path, "the beat is damaged")
    magic, schema, flags, generation, at, daemon_id, boot = _HEADER.unpack_from(data)
    if magic != MAGIC or schema != SCHEMA:
        raise foreign(path, "the beat has another format")
    return Beat(
        flags=flags,
        generation=generation,
        at=at / 1e9,
        daemon_id=daemon_id,
        boot=boot,
        slots=data[_HEADER.size : -4],
    )


def read_beat(path: str) -> Beat:
    """Read the beat file. Raises FileNotFoundError, or ``Unavailable`` for one that is not ours."""
    for _ in range(3):
        data = read_ours(path, BYTES + 1)
        try:
            return decode_beat(data, path)
        except Unavailable as error:
            torn = error  # the writer was in the middle of it: read again
    raise torn


def verdict_of(beat: Beat | None, now: float) -> Verdict:
    """Judge a beat by its age alone: ``now`` is the time since the boot.

    ``lagging`` and ``stale`` are provisional: only a connection tells a slow daemon from a dead one.
    """
    if beat is None:
        return "absent"
    if beat.boot != boot_bytes() or beat.at > now + 1.0:
        return "foreign"
    if beat.flags & STOPPED:
        return "stopped"
    age = now - beat.at
    if age <= YOUNG:
        return "fresh"
    return "lagging" if age <= STALE else "stale"


class BeatReader:
    """Reads one beat file again and again, through a descriptor that is kept: a microsecond a read.

    What is read through it is only believed while it is young. A beat that is not, and a descriptor that
    somebody closed or that now belongs to another file, is read again by its path, so that a file that
    was replaced is found. Threads may share one: each swaps whole values, and what it swaps out is closed
    when the last of them has done with it.
    """

    def __init__(self) -> None:
        self._open: _OpenFile | None = None
        self._last: tuple[bytes, Beat] | None = None

    def __repr__(self) -> str:
        return f"<BeatReader {self._open.path if self._open else ''!r}>"

    def read(self, path: str) -> Beat:
        """Read quickly what was read before. Raises as ``read_again`` does."""
        kept, last = self._open, self._last
        if kept is None or path != kept.path:
            return self.read_again(path)
        try:
            data = os.pread(kept.fd, BYTES + 1, 0)
        except OSError:
            return self.read_again(path)
        if last is not None and data == last[0]:
            return last[1]
        try:
            beat = decode_beat(data, path)
        except Unavailable:
            return self.read_again(path)
        self._last = data, beat
        return beat

    def read_again(self, path: str) -> Beat:
        """Read what is at the path now. Raises FileNotFoundError, or ``Unavailable`` where it is not ours."""
        self._open = self._last = None
        beat = read_beat(path)
        self._open = _OpenFile(path, *open_ours(path))
        return beat


class _OpenFile:
    """A descriptor and the file that it was opened on: closed with the last reference to the two."""

    def __init__(self, path: str, fd: int, found: os.stat_result) -> None:
        self.path = path
        self.fd = fd
        self._identity = found.st_dev, found.st_ino

    def __del__(self) -> None:
        if os is None:  # at the interpreter's end modules go first, and then the system closes what is open
            return
        try:
            found = os.fstat(self.fd)
            if (found.st_dev, found.st_ino) == self._identity:  # else its number means another file by now
                os.close(self.fd)
        except OSError:
            return
