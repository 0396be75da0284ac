"""The snapshot file and the beat file: the World, readable without waking anybody.

Snapshot: a header of 64 bytes, then one msgpack map. Written to a temporary name and renamed, so that a
reader sees one whole World or another, never a mixture. Each endpoint in it is a message of its own
that is decoded when a question needs it, and kept when the next snapshot holds the same bytes.

Beat: a small file of fixed size, overwritten in place twice a second: that the daemon lives, which
generation is the newest, and when each endpoint was last seen. Its times are CLOCK_MONOTONIC, which no
change of the wall clock moves and which every process of one boot shares, so a dead daemon can not
look alive. A checksum tells a torn read, which is simply read again.

No secret is ever in either file. Layout (little endian):

    snapshot  4s magic | u16 schema | u16 flags | u64 generation | u64 published, ns | 16s daemon id
              | 16s boot | u32 body length | u32 crc32 of all the rest
    beat      4s magic | u16 schema | u16 flags | u64 generation | u64 beat, ns | 16s daemon id | 16s boot
              | 64 × (u64 seen, ns | u32 latency, µs | u32 cadence, ms) | u32 crc32 of all before it
"""

from __future__ import annotations

import os
import stat
import struct
import time
import zlib
from collections.abc import Sequence

import msgspec

from hived_client.doors.boot import boot_id
from hived_client.doors.paths import check_folder
from hived_client.doors.wire import BROKEN
from hived_client.errors import Unavailable
from hived_client.resolution import Answer, Question, WorldCatalogue, answer
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import SLOTS, Configuration, Daemon, Endpoint, Verdict, World

SCHEMA = 1
SNAPSHOT_MAGIC = b"HIVE"
BEAT_MAGIC = b"HVBT"
STOPPED = 1
"""Flag: the daemon ended in good order, and this is the last that it knew."""
WARM = 2
"""Flag: read from disk at start; nothing in it has been looked at by this daemon yet."""

MOST_BYTES = 64 * 1024 * 1024
"""A snapshot that says it is longer than this is not one of ours."""

BEAT_INTERVAL = 0.5
"""Seconds between two beats."""
BEAT_YOUNG = 1.5
"""Seconds for which a beat proves that the daemon lives."""
BEAT_STALE = 15.0
"""Seconds after which a daemon that still accepts connections is called stale, not lagging."""

_SNAPSHOT = struct.Struct("<4sHHQQ16s16sII")
_BEAT = struct.Struct("<4sHHQQ16s16s")
_SLOT = struct.Struct("<QII")
_SLOTS = struct.Struct("<" + "QII" * SLOTS)
_CRC = struct.Struct("<I")
BEAT_BYTES = _BEAT.size + _SLOTS.size + _CRC.size


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint in the snapshot: enough to tell whether a question concerns it, and the rest raw."""

    name: str
    provider: str
    slot: int
    body: msgspec.Raw


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot's map."""

    daemon: Daemon | None = None
    configuration: Configuration | None = None
    hardware: dict[str, str | int | float | None] | None = None
    problems: tuple[Fault, ...] = ()
    kinds: tuple[ProviderKind, ...] = ()
    endpoints: tuple[Entry, ...] = ()


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot's header."""

    flags: int
    generation: int
    published: float
    """Seconds of CLOCK_MONOTONIC in the boot that the file is from."""
    daemon_id: bytes
    boot: bytes
    length: int
    checksum: int


class Seen(msgspec.Struct, frozen=True):
    """When an endpoint was last seen and how long that took."""

    at: float | None
    """Seconds of CLOCK_MONOTONIC; ``None``: not since the daemon started."""
    latency: float | None
    cadence: float
    """Seconds until the next look."""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The beat file, decoded: ``slots`` stay packed until one is asked for."""

    flags: int
    generation: int
    at: float
    """Seconds of CLOCK_MONOTONIC."""
    daemon_id: bytes
    boot: bytes
    slots: bytes

    def seen(self, slot: int) -> Seen:
        """Return what the beat says of an endpoint."""
        if not 0 <= slot < SLOTS:
            return Seen(None, None, 15.0)
        at, latency, cadence = _SLOT.unpack_from(self.slots, slot * _SLOT.size)
        return Seen(at / 1e9 if at else None, latency / 1e6 if latency else None, cadence / 1e3)


_encode = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(Body).decode
_decode_endpoint = msgspec.msgpack.Decoder(Endpoint).decode


class Snapshot:
    """A snapshot that was read. Endpoints are decoded when asked for; answers are kept by question."""

    def __init__(self, header: Header, body: Body, before: Snapshot | None = None) -> None:
        self.header = header
        self.body = body
        self.heads: Sequence[Entry] = body.endpoints
        self.kinds = body.kinds
        self.warm = bool(header.flags & WARM)
        self._entries = {entry.name: entry for entry in body.endpoints}
        self._endpoints: dict[str, Endpoint] = {}
        self._answers: dict[Question, Answer] = {}
        if before is not None:
            self._keep_unchanged(before)

    def __repr__(self) -> str:
        return f"<Snapshot generation {self.generation}, {len(self.heads)} endpoints>"

    @property
    def generation(self) -> int:
        """The World's generation."""
        return self.header.generation

    def endpoint(self, name: str) -> Endpoint:
        """Return one endpoint, decoded. Raises ``Unavailable`` for bytes that are not one."""
        known = self._endpoints.get(name)
        if known is None:
            try:
                known = _decode_endpoint(self._entries[name].body)
            except BROKEN as error:
                raise foreign("", f"endpoint {name} makes no sense") from error
            self._endpoints[name] = known
        return known

    def slot(self, name: str) -> int:
        """Return the endpoint's row in the beat file."""
        entry = self._entries.get(name)
        return -1 if entry is None else entry.slot

    def answer(self, question: Question) -> Answer:
        """Answer a question from this World; the same question is decided once."""
        known = self._answers.get(question)
        if known is None:
            if len(self._answers) >= 256:
                self._answers.clear()
            try:
                known = answer(self, question)
            except Unavailable:
                known = answer(WorldCatalogue(self.world()), question)
            self._answers[question] = known
        return known

    def world(self) -> World:
        """Return the whole World, without the endpoints that make no sense.

        One that a newer daemon wrote in words that this client does not know must not hide the others.
        """
        endpoints, problems = [], list(self.body.problems)
        for entry in self.heads:
            try:
                endpoints.append(self.endpoint(entry.name))
            except Unavailable as error:
                problems.append(error.fault)
        return World(
            generation=self.generation,
            daemon=self.body.daemon,
            configuration=self.body.configuration,
            hardware=self.body.hardware,
            endpoints=tuple(endpoints),
            problems=tuple(problems),
            kinds=self.kinds,
        )

    def _keep_unchanged(self, before: Snapshot) -> None:
        for name, entry in self._entries.items():
            old = before._entries.get(name)
            if old is not None and name in before._endpoints and bytes(old.body) == bytes(entry.body):
                self._endpoints[name] = before._endpoints[name]


def encode_endpoint(endpoint: Endpoint) -> Entry:
    """Encode one endpoint for a snapshot."""
    return Entry(
        name=endpoint.name,
        provider=endpoint.provider,
        slot=endpoint.slot,
        body=msgspec.Raw(_encode(endpoint)),
    )


def encode_snapshot(world: World, entries: Sequence[Entry], *, daemon_id: bytes, flags: int = 0) -> bytes:
    """Encode a World whose endpoints are already encoded."""
    body = _encode(
        Body(
            daemon=world.daemon,
            configuration=world.configuration,
            hardware=world.hardware,
            problems=world.problems,
            kinds=world.kinds,
            endpoints=tuple(entries),
        )
    )
    header = _SNAPSHOT.pack(
        SNAPSHOT_MAGIC,
        SCHEMA,
        flags,
        world.generation,
        time.monotonic_ns(),
        daemon_id,
        boot_bytes(),
        len(body),
        0,
    )[: -_CRC.size]
    return header + _CRC.pack(_checksum(header, body)) + body


def decode_snapshot(data: bytes, path: str = "", before: Snapshot | None = None) -> Snapshot:
    """Decode a snapshot. Raises ``Unavailable`` (``snapshot.foreign``) for anything else."""
    if len(data) < _SNAPSHOT.size:
        raise foreign(path, f"it has {len(data)} bytes")
    magic, schema, flags, generation, published, daemon_id, boot, length, checksum = _SNAPSHOT.unpack_from(
        data
    )
    if magic != SNAPSHOT_MAGIC:
        raise foreign(path, "it does not begin as one")
    if schema != SCHEMA:
        raise foreign(path, f"it has schema {schema}, and this client reads {SCHEMA}")
    body = memoryview(data)[_SNAPSHOT.size :]
    if len(body) != length or _checksum(data[: _SNAPSHOT.size - _CRC.size], body) != checksum:
        raise foreign(path, "it is damaged")
    header = Header(
        flags=flags,
        generation=generation,
        published=published / 1e9,
        daemon_id=daemon_id,
        boot=boot,
        length=length,
        checksum=checksum,
    )
    try:
        return Snapshot(header, _decode_body(body), before)
    except BROKEN as error:
        raise foreign(path, "its body makes no sense") from error


def read_snapshot(path: str, before: Snapshot | None = None) -> Snapshot:
    """Read a snapshot file. Raises FileNotFoundError, or ``Unavailable`` for one that is not ours."""
    check_folder(os.path.dirname(path))
    return decode_snapshot(_read(path, MOST_BYTES), path, before)


def encode_beat(
    *, generation: int, at_ns: int, daemon_id: bytes, slots: Sequence[tuple[int, int, int]], flags: int = 0
) -> bytes:
    """Encode a beat. ``slots`` are (seen, ns | latency, µs | cadence, ms), ``SLOTS`` of them at most."""
    rows = [number for slot in slots for number in slot]
    rows += [0] * (3 * SLOTS - len(rows))
    data = _BEAT.pack(BEAT_MAGIC, SCHEMA, flags, generation, at_ns, daemon_id, boot_bytes()) + _SLOTS.pack(
        *rows
    )
    return data + _CRC.pack(zlib.crc32(data))


def decode_beat(data: bytes, path: str = "") -> Beat:
    """Decode a beat. Raises ``Unavailable`` (``snapshot.foreign``) for anything else."""
    if len(data) != BEAT_BYTES or _CRC.unpack_from(data, len(data) - 4)[0] != zlib.crc32(data[:-4]):
        raise foreign(path, "the beat is damaged")
    magic, schema, flags, generation, at, daemon_id, boot = _BEAT.unpack_from(data)
    if magic != BEAT_MAGIC or schema != SCHEMA:
        raise foreign(path, "the beat has another format")
    return Beat(
        flags=flags,
        generation=generation,
        at=at / 1e9,
        daemon_id=daemon_id,
        boot=boot,
        slots=data[_BEAT.size : -4],
    )


def read_beat(path: str) -> Beat:
    """Read the beat file. Raises FileNotFoundError, or ``Unavailable`` for one that is not ours."""
    for _ in range(3):
        data = _read(path, BEAT_BYTES + 1)
        try:
            return decode_beat(data, path)
        except Unavailable as error:
            torn = error  # the writer was in the middle of it: read again
    raise torn


def verdict_of(beat: Beat | None, now: float) -> Verdict:
    """Judge a beat by its age alone: ``now`` is CLOCK_MONOTONIC.

    ``lagging`` and ``stale`` are provisional: only a connection tells a slow daemon from a dead one.
    """
    if beat is None:
        return "absent"
    if beat.boot != boot_bytes() or beat.at > now + 1.0:
        return "foreign"
    if beat.flags & STOPPED:
        return "stopped"
    age = now - beat.at
    if age <= BEAT_YOUNG:
        return "fresh"
    return "lagging" if age <= BEAT_STALE else "stale"


_boot: list[bytes] = []


def boot_bytes() -> bytes:
    """Return this boot as 16 bytes."""
    if not _boot:
        digits = boot_id().replace("-", "")[:32]
        try:
            _boot.append(bytes.fromhex(digits.ljust(32, "0")))
        except ValueError:
            _boot.append(bytes(16))
    return _boot[0]


def foreign(path: str, why: str) -> Unavailable:
    """Return the error for a file that is not a snapshot of ours."""
    return Unavailable(fault("snapshot.foreign", path=path, why=why))


def _checksum(header: bytes, body: bytes | memoryview) -> int:
    """Sum the header too: a damaged generation or daemon id would tie these facts to another beat."""
    return zlib.crc32(body, zlib.crc32(header))


def _read(path: str, most: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise foreign(path, error.strerror or "it cannot be read") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise foreign(path, "it is not a file")
        if found.st_uid != os.getuid():
            raise foreign(path, f"it belongs to user {found.st_uid}")
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
