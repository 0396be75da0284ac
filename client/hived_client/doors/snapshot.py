"""The snapshot file: the World, readable without waking anybody.

A header of 64 bytes, then one msgpack map. Written to a temporary name and renamed, so that a reader sees
one whole World or another, never a mixture. Each endpoint in it is a message of its own that is decoded
when a question needs it, and kept when the next snapshot holds the same bytes. No secret is ever in it.
Header (little endian):

    4s magic | u16 schema | u16 flags | u64 generation | u64 published, ns | 16s daemon id | 16s boot
    | u32 body length | u32 crc32 of all the rest
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from hived_client._version import __version__
from hived_client.doors.boot import boot_bytes
from hived_client.doors.ours import foreign, read_ours
from hived_client.doors.paths import check_folder
from hived_client.doors.since_boot import since_boot_ns
from hived_client.doors.wire import BROKEN
from hived_client.errors import Unavailable
from hived_client.resolution import Answer, Question, WorldCatalogue, answer
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import Configuration, Daemon, Endpoint, World

SCHEMA = 1
MAGIC = b"HIVE"
WARM = 2
"""Flag: read from disk at start; nothing in it has been looked at by this daemon yet."""

MOST_BYTES = 64 * 1024 * 1024
"""A snapshot that says it is longer than this is not one of ours."""

_HEADER = struct.Struct("<4sHHQQ16s16sII")
_CRC = struct.Struct("<I")


NIL = msgspec.Raw(b"\xc0")
"""Nothing, as msgpack writes it."""


Part = TypeVar("Part", Daemon, Configuration, Hardware)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint in the snapshot: enough to tell whether a question concerns it, and the rest raw."""

    name: str
    provider: str
    slot: int
    body: msgspec.Raw
    aliases: tuple[str, ...] = ()


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot's map."""

    daemon: msgspec.Raw = NIL
    configuration: msgspec.Raw = NIL
    hardware: msgspec.Raw = NIL
    """Raw too, all three: no question is about them, and to learn to decode them costs a new process time."""
    problems: tuple[Fault, ...] = ()
    kinds: tuple[ProviderKind, ...] = ()
    endpoints: tuple[Entry, ...] = ()


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot's header."""

    flags: int
    generation: int
    published: float
    """Seconds since the boot that the file is from."""
    daemon_id: bytes
    boot: bytes
    length: int
    checksum: int


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
                raise Unavailable(_unknown(f"the server {name}")) from error
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

        def part(raw: msgspec.Raw, shape: type[Part], what: str) -> Part | None:
            try:
                return msgspec.msgpack.decode(raw, type=shape | None)
            except BROKEN:
                problems.append(_unknown(what))
                return None

        return World(
            generation=self.generation,
            daemon=part(self.body.daemon, Daemon, "the daemon"),
            configuration=part(self.body.configuration, Configuration, "the configuration"),
            hardware=part(self.body.hardware, Hardware, "this machine"),
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
        aliases=endpoint.aliases,
    )


def encode_snapshot(world: World, entries: Sequence[Entry], *, daemon_id: bytes, flags: int = 0) -> bytes:
    """Encode a World whose endpoints are already encoded."""
    body = _encode(
        Body(
            daemon=msgspec.Raw(_encode(world.daemon)),
            configuration=msgspec.Raw(_encode(world.configuration)),
            hardware=msgspec.Raw(_encode(world.hardware)),
            problems=world.problems,
            kinds=world.kinds,
            endpoints=tuple(entries),
        )
    )
    header = _HEADER.pack(
        MAGIC,
        SCHEMA,
        flags,
        world.generation,
        since_boot_ns(),
        daemon_id,
        boot_bytes(),
        len(body),
        0,
    )[: -_CRC.size]
    return header + _CRC.pack(_checksum(header, body)) + body


def decode_snapshot(data: bytes, path: str = "", before: Snapshot | None = None) -> Snapshot:
    """Decode a snapshot. Raises ``Unavailable`` (``snapshot.foreign``) for anything else."""
    if len(data) < _HEADER.size:
        raise foreign(path, f"it has {len(data)} bytes")
    magic, schema, flags, generation, published, daemon_id, boot, length, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise foreign(path, "it does not begin as one")
    if schema != SCHEMA:
        raise foreign(path, f"it has schema {schema}, and this client reads {SCHEMA}")
    body = memoryview(data)[_HEADER.size :]
    if len(body) != length or _checksum(data[: _HEADER.size - _CRC.size], body) != checksum:
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
    return decode_snapshot(read_ours(path, MOST_BYTES), path, before)


def _checksum(header: bytes, body: bytes | memoryview) -> int:
    """Sum the header too: a damaged generation or daemon id would tie these facts to another beat."""
    return zlib.crc32(body, zlib.crc32(header))


def _unknown(what: str) -> Fault:
    """Say that a daemon of another version uses words that are not ours."""
    return fault("snapshot.unknown", what=what, ours=__version__)
