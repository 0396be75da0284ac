from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from hived.machine.processes import Identity
from hived.machine.records import Records, Started


def started(endpoint: str = "llamacpp", **changes: object) -> Started:
    record = Started(
        endpoint=endpoint,
        provider="llamacpp",
        url="http://127.0.0.1:8080",
        identity=Identity(pid=4121, started=123456.0, boot="b"),
        argv=("llama-server", "--model", "/m/é.gguf"),
        model="/m/é.gguf",
        alias="é",
        log="/s/llamacpp.log",
        started_at=1795350249.25,
    )
    return msgspec.structs.replace(record, **changes)


def test_what_was_written_is_read_again_by_name(tmp_path: Path) -> None:
    records = Records(tmp_path / "state" / "started")
    assert records.read_all() == []
    records.write(started("b", context=4096))
    records.write(started("a"))
    records.write(started("a", alias="second"))
    assert records.read_all() == [started("a", alias="second"), started("b", context=4096)]
    assert sorted(os.listdir(records.folder)) == ["a.json", "b.json"]


def test_records_are_private(tmp_path: Path) -> None:
    records = Records(tmp_path / "started")
    records.write(started())
    assert stat.S_IMODE((records.folder / "llamacpp.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(records.folder.stat().st_mode) == 0o700


def test_a_record_is_removed_once_or_twice(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.write(started())
    records.remove("llamacpp")
    records.remove("llamacpp")
    assert records.read_all() == []


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "A", "-x", "a" * 65, "a\n", "ä"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    records = Records(tmp_path / "started")
    with pytest.raises(ValueError, match="endpoint is named"):
        records.write(started(name))
    with pytest.raises(ValueError, match="endpoint is named"):
        records.remove(name)
    assert not records.folder.exists()


GOOD = msgspec.json.encode(started())


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("llamacpp.json", b""),
        ("llamacpp.json", GOOD[:-9]),
        ("llamacpp.json", b"\xff\xfe"),
        ("llamacpp.json", b"[" * 50_000),
        ("llamacpp.json", GOOD.replace(b"4121", b"-1")),
        ("llamacpp.json", GOOD.replace(b"4121", b'"4121"')),
        ("llamacpp.json", GOOD + b" " * 100_000),
        ("other.json", GOOD),
        ("UPPER.json", GOOD.replace(b'"endpoint":"llamacpp"', b'"endpoint":"UPPER"')),
    ],
)
def test_a_broken_or_foreign_record_is_set_aside_and_the_others_are_read(
    tmp_path: Path, name: str, body: bytes
) -> None:
    records = Records(tmp_path)
    records.write(started("good"))
    (tmp_path / name).write_bytes(body)
    assert records.read_all() == [started("good")]
    assert sorted(os.listdir(tmp_path)) == sorted(["good.json", name + ".corrupt"])
    assert records.read_all() == [started("good")]


def test_links_fifos_and_folders_are_not_records(tmp_path: Path) -> None:
    records = Records(tmp_path / "started")
    records.write(started("good"))
    (tmp_path / "outside.json").write_bytes(GOOD)
    (records.folder / "llamacpp.json").symlink_to(tmp_path / "outside.json")
    os.mkfifo(records.folder / "fifo.json")
    (records.folder / "folder.json").mkdir()
    assert records.read_all() == [started("good")]


def test_a_rest_of_a_crashed_write_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    records = Records(tmp_path / "started")
    records.folder.mkdir()
    (records.folder / ".llamacpp.tmp").symlink_to(tmp_path / "victim")
    assert records.read_all() == []
    records.write(started())
    assert records.read_all() == [started()]
    assert not (tmp_path / "victim").exists()


def test_a_field_of_a_newer_hived_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "llamacpp.json").write_bytes(b'{"newer":[1],' + GOOD[1:])
    assert Records(tmp_path).read_all() == [started()]
