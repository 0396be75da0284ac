"""The snapshot and the beat: what was written is read, and nothing else is believed."""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from hived_client.doors import boot as module
from hived_client.doors.beat import BYTES as BEAT_BYTES
from hived_client.doors.beat import (
    STALE,
    STOPPED,
    YOUNG,
    BeatReader,
    decode_beat,
    encode_beat,
    read_beat,
    verdict_of,
)
from hived_client.doors.boot import boot_bytes
from hived_client.doors.ours import open_ours
from hived_client.doors.paths import Places, ensure_folder
from hived_client.doors.snapshot import (
    WARM,
    Body,
    Entry,
    decode_snapshot,
    encode_endpoint,
    encode_snapshot,
    read_snapshot,
)
from hived_client.doors.whole import write_whole
from hived_client.errors import Unavailable
from hived_client.resolution import Question, Refusal, Target, WorldCatalogue, answer
from hived_client.vocabulary.world import SLOTS, Verdict, World
from tests.client.worlds import endpoint, questions, world, worlds

ID = bytes(range(16))
SMALL = world(endpoint("lab", "vllm", "x", slot=3), endpoint("gpu", "ollama", "y", slot=70))


def packed(found: World, *, daemon_id: bytes = ID, flags: int = 0) -> bytes:
    return encode_snapshot(
        found, list(map(encode_endpoint, found.endpoints)), daemon_id=daemon_id, flags=flags
    )


def refused(data: bytes) -> None:
    with pytest.raises(Unavailable) as error:
        decode_snapshot(data, "/the/path")
    assert error.value.code == "snapshot.foreign"


@given(worlds)
def test_any_world_comes_back_whole(found: World) -> None:
    snapshot = decode_snapshot(packed(found))
    assert snapshot.world() == found
    assert snapshot.generation == found.generation
    assert (snapshot.header.daemon_id, snapshot.header.boot) == (ID, boot_bytes())


@given(worlds, questions)
def test_a_file_answers_as_the_world_that_was_written(found: World, question: Question) -> None:
    snapshot = decode_snapshot(packed(found))
    result = answer(WorldCatalogue(found), question)
    assert snapshot.answer(question) == result
    assert snapshot.answer(question) == result


def test_a_snapshot_cut_anywhere_is_refused() -> None:
    whole = packed(SMALL)
    for length in range(len(whole)):
        refused(whole[:length])
    refused(whole + b"\0")


def test_a_snapshot_with_any_bit_flipped_is_refused() -> None:
    whole = packed(SMALL)
    for position in range(len(whole) * 8):
        data = bytearray(whole)
        data[position // 8] ^= 1 << position % 8
        refused(bytes(data))


def sealed(body: bytes, *, magic: bytes = b"HIVE", schema: int = 1) -> bytes:
    """A body under a header whose checksum is right."""
    head = struct.pack("<4sHHQQ16s16sI", magic, schema, 0, 1, 0, ID, boot_bytes(), len(body))
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


@pytest.mark.parametrize(
    "data",
    [
        sealed(b"\x80", magic=b"HIVX"),
        sealed(b"\x80", schema=2),
        sealed(b""),
        sealed(b"\x91" * 100_000),
        sealed(b"\x81\xa3new" + b"\x91" * 100_000),
        sealed(b"\x81\xa8problems\xdf\xff\xff\xff\xff"),
        sealed(b"\x81\xa9endpoints\xa1\xff"),
        sealed(b"\xc0"),
        b"",
        b"HIVE",
        bytes(64),
        os.urandom(500),
    ],
    ids=range(12),
)
def test_a_body_that_makes_no_sense_is_refused_although_it_is_whole(data: bytes) -> None:
    refused(data)


def test_a_header_is_64_bytes_and_its_layout_is_frozen() -> None:
    found = decode_snapshot(sealed(b"\x80"))
    assert found.world() == World(generation=1)
    assert packed(World(generation=7))[:16] == b"HIVE\1\0\0\0\7\0\0\0\0\0\0\0"


def test_words_that_a_newer_daemon_adds_are_passed_over() -> None:
    body = msgspec.msgpack.encode({"endpoints": [], "news": {"a": [1, 2]}})
    assert decode_snapshot(sealed(body)).world() == World(generation=1)


NOT_ENDPOINTS = [
    b"\x80",
    b"\xc0",
    b"\x81\xa4name\xa1\xff",
    msgspec.msgpack.encode(
        msgspec.to_builtins(SMALL.endpoints[0]) | {"name": "new", "state": "a state of the future"}
    ),
]


@pytest.mark.parametrize("body", NOT_ENDPOINTS, ids=range(len(NOT_ENDPOINTS)))
def test_an_endpoint_that_makes_no_sense_hides_no_other(body: bytes) -> None:
    good = encode_endpoint(endpoint("lab", "vllm", "x"))
    bad = Entry(name="new", provider="vllm", slot=1, body=msgspec.Raw(body))
    snapshot = decode_snapshot(sealed(msgspec.msgpack.encode(Body(endpoints=(bad, good)))))
    assert [each.name for each in snapshot.world().endpoints] == ["lab"]
    assert [each.code for each in snapshot.world().problems] == ["snapshot.unknown"]
    assert isinstance(snapshot.answer(Question(model="lab/x")), Target)
    assert isinstance(snapshot.answer(Question(model="vllm/x")), Target)
    assert isinstance(snapshot.answer(Question(model="new/x")), Refusal)
    assert isinstance(snapshot.answer(Question(model="lab/missing")), Refusal)
    with pytest.raises(Unavailable):
        snapshot.endpoint("new")


def test_endpoints_whose_bytes_did_not_change_are_not_decoded_again() -> None:
    first = decode_snapshot(packed(SMALL))
    lab, gpu = first.endpoint("lab"), first.endpoint("gpu")
    changed = world(endpoint("lab", "vllm", "x", "z", slot=3), SMALL.endpoints[1], generation=2)
    second = decode_snapshot(packed(changed), "", first)
    assert second.endpoint("gpu") is gpu
    assert second.endpoint("lab") is not lab
    assert second.world() == changed


def test_flags_are_kept() -> None:
    assert decode_snapshot(packed(SMALL, flags=WARM)).warm
    assert not decode_snapshot(packed(SMALL)).warm


# The beat


def beat(at: float = 100.0, *, flags: int = 0, slots: tuple[tuple[int, int, int], ...] = ()) -> bytes:
    return encode_beat(generation=7, at_ns=int(at * 1e9), daemon_id=ID, slots=slots, flags=flags)


def test_a_beat_comes_back_whole() -> None:
    found = decode_beat(beat(slots=((5_000_000_000, 1500, 4000), (0, 0, 15_000))))
    assert (found.generation, found.at, found.daemon_id, found.boot) == (7, 100.0, ID, boot_bytes())
    assert (found.seen(0).at, found.seen(0).latency, found.seen(0).cadence) == (5.0, 0.0015, 4.0)
    assert (found.seen(1).at, found.seen(1).latency, found.seen(1).cadence) == (None, None, 15.0)


@pytest.mark.parametrize("slot", [-1, SLOTS, SLOTS + 6, 2**40])
def test_a_slot_that_is_none_was_never_seen(slot: int) -> None:
    assert decode_beat(beat(slots=((1, 1, 1),) * SLOTS)).seen(slot).at is None


def test_a_beat_cut_anywhere_or_with_any_bit_flipped_is_refused() -> None:
    whole = beat()
    assert len(whole) == BEAT_BYTES
    damaged = [whole[:length] for length in range(len(whole))] + [whole + b"\0"]
    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        with pytest.raises(Unavailable) as error:
            decode_beat(data)
        assert error.value.code == "snapshot.foreign"


@pytest.mark.parametrize(("magic", "schema"), [(b"HIVE", 1), (b"HVBT", 2), (b"HVBT", 0)])
def test_a_beat_of_another_format_is_refused(magic: bytes, schema: int) -> None:
    data = magic + struct.pack("<H", schema) + beat()[6:-4]
    with pytest.raises(Unavailable):
        decode_beat(data + struct.pack("<I", zlib.crc32(data)))


VERDICTS: list[tuple[float, int, Verdict]] = [
    (0.0, 0, "fresh"),
    (YOUNG, 0, "fresh"),
    (YOUNG + 0.01, 0, "lagging"),
    (STALE, 0, "lagging"),
    (STALE + 0.01, 0, "stale"),
    (1e6, 0, "stale"),
    (-0.9, 0, "fresh"),
    (-1.1, 0, "foreign"),
    (-1e6, 0, "foreign"),
    (0.0, STOPPED, "stopped"),
    (1e6, STOPPED, "stopped"),
]


@pytest.mark.parametrize(("age", "flags", "verdict"), VERDICTS)
def test_a_verdict_depends_on_the_age_alone(age: float, flags: int, verdict: Verdict) -> None:
    assert verdict_of(decode_beat(beat(2e6, flags=flags)), 2e6 + age) == verdict


def test_no_beat_is_absent_and_one_of_another_boot_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict_of(None, 1.0) == "absent"
    found = decode_beat(beat())
    monkeypatch.setattr(module, "_bytes", [b"another boot ..."])
    assert verdict_of(found, 100.0) == "foreign"


# Files


@pytest.fixture
def folder(where: Places) -> Places:
    ensure_folder(where.folder)
    return where


def test_files_that_were_written_are_read(folder: Places) -> None:
    write_whole(folder.snapshot, packed(SMALL))
    write_whole(folder.beat, beat())
    assert read_snapshot(folder.snapshot).world() == SMALL
    assert read_beat(folder.beat).generation == 7


def test_missing_files_are_missing(folder: Places) -> None:
    for path in (folder.snapshot, folder.beat, f"{folder.folder}/no/snapshot"):
        for read in (read_snapshot, read_beat):
            with pytest.raises(FileNotFoundError):
                read(path)


def in_the_way(path: Path, what: str) -> None:
    if what == "link":
        (path.parent / "real").write_bytes(packed(SMALL) if path.name == "snapshot" else beat())
        path.symlink_to(path.parent / "real")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "empty":
        path.touch()
    elif what == "giant":
        with path.open("wb") as file:
            file.truncate(65 * 1024 * 1024)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "theirs":
        path.write_bytes(packed(SMALL) if path.name == "snapshot" else beat())
        os.chown(path, 12345, 12345)


@pytest.mark.parametrize("what", ["link", "fifo", "folder", "empty", "giant", "device", "theirs"])
def test_what_is_not_a_file_of_ours_is_refused_at_once(folder: Places, what: str) -> None:
    if what == "theirs" and os.getuid() != 0:
        pytest.skip("only root can give a file away")
    for path in (folder.snapshot, folder.beat):
        in_the_way(Path(path), what)
        with pytest.raises(Unavailable) as error:
            read_snapshot(path) if path == folder.snapshot else read_beat(path)
        assert error.value.code == "snapshot.foreign"
        assert path in error.value.message
        if Path(path).parent.joinpath("real").exists():
            Path(path).parent.joinpath("real").unlink()


def test_what_may_not_be_read_is_no_strangers_file_to_be_removed(
    folder: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unavailable) as error:
        read_snapshot(folder.snapshot)
    assert error.value.code == "runtime.unsafe"
    assert "rm " not in error.value.hint


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_snapshot_in_a_folder_that_others_may_write_to_is_refused(folder: Places, mode: int) -> None:
    write_whole(folder.snapshot, packed(SMALL))
    Path(folder.folder).chmod(mode)
    with pytest.raises(Unavailable) as error:
        read_snapshot(folder.snapshot)
    assert error.value.code == "runtime.unsafe"


def beat_at(path: Path, generation: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, encode_beat(generation=generation, at_ns=1, daemon_id=ID, slots=()), 0)
    os.close(fd)


def test_a_beat_that_is_overwritten_in_place_is_read_anew(tmp_path: Path) -> None:
    reader, path = BeatReader(), tmp_path / "beat"

    for generation in (1, 2, 2, 3):
        beat_at(path, generation)
        assert reader.read(str(path)).generation == generation


def test_a_beat_file_that_was_replaced_is_found_by_its_path(tmp_path: Path) -> None:
    reader, path = BeatReader(), tmp_path / "beat"
    beat_at(path, 1)
    assert reader.read(str(path)).generation == 1

    beat_at(tmp_path / "other", 2)
    (tmp_path / "other").rename(path)

    assert reader.read(str(path)).generation == 1  # the old file, believed while it is young
    assert reader.read_again(str(path)).generation == 2
    assert reader.read(str(path)).generation == 2


def descriptors_of(path: Path) -> list[int]:
    """Return the descriptors of this process that are open on a file."""
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # that of the listing itself
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                found.append(number)
    return found


def test_a_descriptor_that_somebody_closed_and_reused_is_neither_believed_nor_closed(tmp_path: Path) -> None:
    reader, path = BeatReader(), tmp_path / "beat"
    beat_at(path, 7)
    reader.read(str(path))
    (tmp_path / "mine").write_bytes(b"not a beat")
    mine = os.open(tmp_path / "mine", os.O_RDONLY)
    [taken] = descriptors_of(path)
    os.dup2(mine, taken)

    assert reader.read(str(path)).generation == 7

    assert os.pread(taken, 10, 0) == b"not a beat"
    os.close(taken)
    os.close(mine)
    assert reader.read(str(path)).generation == 7


def test_a_reader_that_is_dropped_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    path = tmp_path / "beat"
    beat_at(path, 1)
    reader = BeatReader()
    reader.read(str(path))
    assert len(descriptors_of(path)) == 1

    del reader

    assert descriptors_of(path) == []


def test_threads_that_look_at_once_leave_one_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, path, all_opened = BeatReader(), tmp_path / "beat", threading.Barrier(4, timeout=10.0)
    beat_at(path, 1)

    def open_together(name: str) -> tuple[int, os.stat_result]:
        opened = open_ours(name)
        all_opened.wait()
        return opened

    monkeypatch.setattr("hived_client.doors.beat.open_ours", open_together)
    with ThreadPoolExecutor(4) as pool:
        beats = list(pool.map(reader.read_again, [str(path)] * 4))

    assert [beat.generation for beat in beats] == [1] * 4
    assert len(descriptors_of(path)) == 1


def test_a_reader_that_outlives_its_modules_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "beat"
    beat_at(path, 1)
    reader = BeatReader()
    reader.read(str(path))
    [number] = descriptors_of(path)

    with monkeypatch.context() as at_the_end:
        at_the_end.setattr("hived_client.doors.beat.os", None)
        del reader
    os.close(number)  # nobody has: a warning would have been an error
