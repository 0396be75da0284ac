"""The end of a log, and what follows: over a file that is put aside, cut, gone, and there again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from hived.cli.logs.entries import Entry
from hived.cli.logs.reading import Followed, entries, journal_words, last_lines, why_not
from hived.cli.logs.sources import File, Journal
from hived_client.errors import NotReady

MANY = "".join(f"line {number} {'x' * 50}\n" for number in range(5000))

TAILS: list[tuple[str, int, list[str]]] = [
    ("", 5, []),
    ("a\nb\nc\n", 2, ["b", "c"]),
    ("a\nb\nc\n", 9, ["a", "b", "c"]),
    ("a\nb", 1, ["b"]),
    ("a\nb", 0, []),
    ("\n\n", 1, [""]),
    (MANY, 2, [f"line {number} {'x' * 50}" for number in (4998, 4999)]),
    (MANY, 4000, MANY.splitlines()[1000:]),
]


@pytest.mark.parametrize(("text", "count", "expected"), TAILS, ids=range(len(TAILS)))
def test_the_last_lines_are_read_from_the_end(
    tmp_path: Path, text: str, count: int, expected: list[str]
) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert last_lines(str(log), count) == (expected, len(text))


def test_a_line_of_gigabytes_is_not_read_as_a_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open(log, "wb") as file:
        file.truncate(3_000_000_000)  # without an end of line; it takes no room on the disk
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    lines, end = last_lines(str(log), 2)
    assert lines[1] == "last"
    assert len(lines[0]) < 10_000_000
    assert end == 3_000_000_006


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text("before\n")
    return path


@pytest.fixture
def followed(log: Path) -> Iterator[Followed]:
    one = Followed(str(log), 7)
    yield one
    one.close()


def append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def test_what_is_written_is_followed_line_by_line(log: Path, followed: Followed) -> None:
    assert followed.read(0.0) == []
    append(log, "a\nb")
    assert followed.read(0.0) == ["a"]
    append(log, "c\nd\n")
    assert followed.read(0.5) == ["bc", "d"]


def test_a_file_that_is_put_aside_is_read_to_its_end_and_then_the_new_one(
    log: Path, followed: Followed
) -> None:
    assert followed.read(0.0) == []
    aside = log.with_suffix(".1")
    log.rename(aside)
    append(aside, "still\nto the old")
    assert followed.read(0.0) == ["still"]
    append(aside, " one")
    append(log, "new\n")
    assert followed.read(0.0) == ["to the old one", "new"]
    append(log, "newer\n")
    assert followed.read(0.0) == ["newer"]


def test_a_file_that_is_cut_is_read_from_its_beginning(log: Path, followed: Followed) -> None:
    followed.read(0.0)
    log.write_text("cut\n")
    assert followed.read(0.0) == ["cut"]
    log.write_text("")
    assert followed.read(0.0) == []
    append(log, "a\n")
    assert followed.read(0.0) == ["a"]


def test_a_file_that_is_gone_is_waited_for(log: Path, followed: Followed) -> None:
    log.unlink()
    assert followed.read(0.0) == []
    append(log, "before\nafter\n")
    assert followed.read(0.0) == ["after"]
    log.unlink()
    assert followed.read(0.0) == []
    append(log, "back\n")
    assert followed.read(0.0) == ["back"]


def test_a_line_that_does_not_end_is_told_after_a_while(log: Path, followed: Followed) -> None:
    append(log, "died here")
    assert followed.read(10.0) == []
    assert followed.read(10.9) == []
    assert followed.read(11.1) == ["died here"]


def test_a_line_without_an_end_is_told_in_pieces(log: Path, followed: Followed) -> None:
    append(log, "x" * 200_000)
    (piece,) = followed.read(0.0)
    assert len(piece) == 200_000


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "none", "."):
        with pytest.raises(NotReady) as error:
            list(entries(File(path=str(tmp_path / name)), 5))
        assert error.value.code == "logs.unreadable"


def test_a_servers_lines_are_taken_as_they_are_and_the_daemons_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"event": "a"}\n')
    assert list(entries(File(path=str(log)), 5)) == [Entry(text='{"event": "a"}')]
    assert list(entries(File(path=str(log), is_own=True), 5)) == [Entry(event="a")]


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``journalctl`` to be written, the first on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "journalctl"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_journal_is_read_as_it_comes(journalctl: Path) -> None:
    write(journalctl, """echo '{"MESSAGE": "a.b x=1"}'; echo '{"MESSAGE": "c"}'; exec sleep 600""")
    found = entries(Journal(unit="hived.service"), 5, follow=True)
    assert list(islice(found, 2)) == [Entry(event="a.b", text="x=1"), Entry(text="c")]
    found.close()  # type: ignore[attr-defined]  # and with it the program, which would go on for ever


def test_a_journal_that_cannot_be_read_says_why(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(journalctl, "echo 'No journal files were opened' >&2; exit 1")
    with pytest.raises(NotReady, match="No journal files were opened"):
        list(entries(Journal(unit="hived.service"), 5))
    journalctl.unlink()
    monkeypatch.setenv("PATH", str(journalctl.parent))
    with pytest.raises(NotReady, match="journalctl: No such file"):
        list(entries(Journal(unit="hived.service"), 5))


@pytest.mark.parametrize(
    ("said", "why", "helps"),
    [
        ("No journal files were opened due to insufficient permissions.\nmore", "No journal files", True),
        ("Failed to open", "Failed to open", False),
        ("", "journalctl says nothing", False),
    ],
)
def test_what_opens_a_journal_is_told(said: str, why: str, helps: bool) -> None:
    found, mend = why_not(said)
    assert found.startswith(why)
    assert not found.endswith(".")
    assert mend.startswith("sudo usermod -aG systemd-journal ") is helps


def test_a_unit_of_the_system_is_asked_for_as_one() -> None:
    assert "--user-unit=hived.service" in journal_words(Journal(unit="hived.service"), 5)
    words = journal_words(Journal(unit="hived.service", is_system=True), 5, follow=True)
    assert {"--unit=hived.service", "--follow", "--lines=5"} <= {*words}
