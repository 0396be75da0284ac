"""Lines of logs: what is read of them, and what of it reaches a terminal."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.cli.logs.entries import Entry, harmless, lines_of, of_daemon, of_journal, of_server, safe

DAEMON: list[tuple[str, Entry]] = [
    (
        '{"timestamp": "1970-01-01T00:00:01Z", "level": "info", "event": "a.b", "x": 1, "why": "no room"}',
        Entry(at=1.0, level="info", event="a.b", text="x=1 why='no room'"),
    ),
    ('{"event": "a", "url": "http://h"}', Entry(event="a", text="url=http://h")),
    ('{"event": "a", "timestamp": "soon", "x": null}', Entry(event="a")),
    ('{"event": "a", "exception": "T\\nE: x"}', Entry(event="a", text="\nT\nE: x")),
    ("Fatal Python error: Aborted", Entry(text="Fatal Python error: Aborted")),
    ('{"half": ', Entry(text='{"half": ')),
    ("[1]", Entry(text="[1]")),
    ('{"event": 3}', Entry(text='{"event": 3}')),
    ("[" * 100_000, Entry(text="[" * 100_000)),
    ("", Entry()),
]


@pytest.mark.parametrize(("line", "entry"), DAEMON, ids=range(len(DAEMON)))
def test_a_line_of_the_daemon_is_read(line: str, entry: Entry) -> None:
    assert of_daemon(line) == entry


JOURNAL: list[tuple[object, Entry]] = [
    (
        {"__REALTIME_TIMESTAMP": "2500000", "PRIORITY": "4", "MESSAGE": "a.b x=1"},
        Entry(at=2.5, level="warning", event="a.b", text="x=1"),
    ),
    ({"MESSAGE": "Started hived.service."}, Entry(text="Started hived.service.")),
    ({"MESSAGE": [97, 255, 98]}, Entry(text="a\ufffdb")),
    ({"MESSAGE": [97, "x", -1, 300]}, Entry(text="a")),
    ({"MESSAGE": None, "PRIORITY": "9", "__REALTIME_TIMESTAMP": "x"}, Entry()),
    ({}, Entry()),
]


@pytest.mark.parametrize(("line", "entry"), JOURNAL)
def test_a_line_of_the_journal_is_read(line: object, entry: Entry) -> None:
    assert of_journal(json.dumps(line)) == entry


def test_an_event_is_shown_with_its_time_and_its_level() -> None:
    entry = Entry(at=0.0, level="error", event="a.b", text="x=1 \nTrace\n  E")
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(0.0))
    assert list(lines_of(entry)) == [f"{clock}  error    a.b  x=1", "    Trace", "      E"]
    assert list(lines_of(Entry(text="as it is"))) == ["as it is"]
    assert list(lines_of(Entry(at=0.0, text="Started"))) == [f"{clock}  Started"]


HOSTILE: list[tuple[str, str]] = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07x", "x"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1b[2J\x1b[Hgone", "gone"),
    ("\x1b", "?"),
    ("\x9b31mx", "?31mx"),
    ("a\tb", "a       b"),
    ("10 %\r20 %\r", "20 %"),
    ("\u202eabc\x00", "?abc?"),
    ("one\ntwo", "one\ntwo"),
]


@pytest.mark.parametrize(("text", "expected"), HOSTILE)
def test_nothing_that_a_terminal_obeys_is_shown(text: str, expected: str) -> None:
    assert harmless(text) == expected


@given(st.text())
def test_whatever_a_server_writes_it_is_printable(text: str) -> None:
    entry = safe(of_server(text), lambda each: each)
    for line in lines_of(entry):
        assert line.isprintable()
    assert safe(of_daemon(text), lambda each: each).level.isprintable()


def test_a_secret_that_is_torn_by_an_escape_is_masked_all_the_same() -> None:
    entry = safe(of_server("key s3c\x1b[1mret"), lambda text: text.replace("s3cret", "***"))
    assert entry.text == "key ***"


def test_a_line_without_an_end_is_cut() -> None:
    assert len(harmless("x" * 100_000)) == 8192
