"""The last errors of the log, out of a file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hived.cli.doctor.errors_in_log import LogFacts, check_errors, read_errors
from hived.cli.logs.entries import Entry
from hived.cli.logs.sources import File, Journal
from tests.cli.doctor.findings_of import seen

ERROR = Entry(at=1000.0, level="error", event="job.crashed", text="job=look \nTraceback …\nValueError: no")
FACTS = LogFacts(source="/l", errors=(ERROR,), now=1060.0)

CASES: list[tuple[str, LogFacts, list[str], str]] = [
    ("none", LogFacts(source="/l", now=1.0), [], "no error in /l in the last day"),
    ("one", FACTS, ["warn hived.log"], "an error in /l, 1 min ago: job.crashed  job=look … ValueError: no"),
    (
        "one that is nothing but a trace",
        msgspec.structs.replace(FACTS, errors=(Entry(at=1000.0, event="a", text="\nTraceback:\n x\nE: no"),)),
        ["warn hived.log"],
        "ago: a  E: no",
    ),
    (
        "two",
        msgspec.structs.replace(FACTS, errors=(ERROR, ERROR)),
        ["warn hived.log"],
        "2 errors, the last in",
    ),
    ("an old one", msgspec.structs.replace(FACTS, now=1e6), [], "no error in"),
    ("no log to be read", LogFacts(source="/l", why="closed"), ["note hived.log"], "from /l: closed"),
]


@pytest.mark.parametrize(
    ("facts", "expected", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_log_is_judged(facts: LogFacts, expected: list[str], said: str) -> None:
    findings = check_errors(facts)
    assert seen(findings) == expected
    assert said in findings[0].what


def test_errors_are_found_among_whatever_else_is_there(tmp_path: Path) -> None:
    log = tmp_path / "hived.log"
    log.write_text(
        '{"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": "a"}\n'
        "Traceback of the interpreter\n"
        '{"timestamp": "2026-01-01T00:00:01Z", "level": "error", "event": "b", "why": "w"}\n'
        '{"half'
    )
    (found,) = read_errors(File(path=str(log), is_own=True)).errors
    assert (found.event, found.text) == ("b", "why=w")
    assert read_errors(File(path=str(tmp_path / "none"))).why == "No such file or directory"


def journalctl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "journalctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_journal_is_asked_for_errors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"__REALTIME_TIMESTAMP": "1000000", "PRIORITY": "3", "MESSAGE": "a.b why=1"}'
    journalctl(tmp_path, f"echo '{line}'; echo \"$@\" >{tmp_path}/asked", monkeypatch)
    (found,) = read_errors(Journal(unit="hived.service")).errors
    assert (found.at, found.level, found.event, found.text) == (1.0, "error", "a.b", "why=1")
    assert "--user-unit=hived.service" in (tmp_path / "asked").read_text()
    assert "--priority=err" in (tmp_path / "asked").read_text()


def test_a_journal_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journalctl(tmp_path, "echo 'No journal files were opened' >&2; exit 1", monkeypatch)
    assert read_errors(Journal(unit="hived.service")).why == "No journal files were opened"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert read_errors(Journal(unit="hived.service")).why == "journalctl cannot be run"
