"""The report as text: for a terminal of any width, for a pipe, and without UTF-8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.cli.columns import columns
from hived.cli.doctor.daemon import Answers, check_daemon
from hived.cli.doctor.findings import Finding, Report, Section, fail, note, ok, report, warn
from hived.cli.doctor.printing import can_write_marks, report_lines
from hived.cli.doctor.servers import check_servers
from hived.cli.doctor.slowness import System, check_speed
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.vocabulary.world import World
from tests.client.worlds import worlds

LONG = (
    "vLLM is neither running at http://127.0.0.1:8000 nor installed in this container at all; look elsewhere"
)
FINDINGS = (
    ok("a", "this is well", brief=True),
    ok("b", "so is this, and nobody asked"),
    note("c", "this is worth knowing"),
    warn("d", "this suffers", "mend it"),
    fail(
        "e",
        LONG,
        "a-command --that-is-long-and /must/be/copied --as-it-is --in-one-piece --whatever-the-width",
    ),
)


def made(*findings: Finding) -> Report:
    sections = [Section(title="things", findings=findings), Section(title="nothing", findings=())]
    return report("1.0", sections, lambda text: text)


def test_a_fact_is_a_line_with_its_fix() -> None:
    assert report_lines(made(*FINDINGS[:4]), 0, everything=False) == [
        "things",
        "✓ this is well",
        "· this is worth knowing",
        "! this suffers  → mend it",
        "",
        "nothing failed, 1 to look at, 2 well (1 more: hived doctor --all)",
    ]


def test_everything_is_shown_to_who_asks_for_it() -> None:
    lines = report_lines(made(*FINDINGS), 0, everything=True)
    assert "✓ so is this, and nobody asked" in lines
    assert lines[-1] == "1 failed, 1 to look at, 2 well"


def test_marks_are_words_where_there_is_no_utf_8() -> None:
    lines = report_lines(made(*FINDINGS[:4]), 0, everything=False, marks=False)
    assert lines[1:4] == ["ok   this is well", "note this is worth knowing", "warn this suffers  -> mend it"]
    assert "\n".join(lines).isascii()
    signs = made(warn("a", "927 µs … and so on", "export KEY=…"))
    assert report_lines(signs, 0, everything=True, marks=False)[1] == (
        "warn 927 us ... and so on  -> export KEY=..."
    )
    assert can_write_marks("utf-8")
    for encoding in ("ascii", "latin-1", "cp1252", None, "no such"):
        assert not can_write_marks(encoding)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_sentence_is_broken_and_a_command_never(width: int) -> None:
    lines = report_lines(made(FINDINGS[4]), width, everything=False)
    body = lines[1:-2]
    command = f"→ {FINDINGS[4].fix}"
    assert sum(line.strip().endswith(command) for line in body) == 1
    assert all(columns(line) <= width for line in body if command not in line)
    assert " ".join(line.strip() for line in body).startswith(f"✗ {LONG}")


def test_what_a_server_is_called_never_reaches_the_terminal_as_it_is() -> None:
    nasty = fail("x", "a\x1b[2Jb\u202ec\nd", "rm\r\x07")
    text = "".join(report_lines(made(nasty), 0, everything=True))
    assert all(character.isprintable() for character in text)


def test_a_report_counts_and_fails_only_where_something_does() -> None:
    whole = made(*FINDINGS)
    assert whole.failed
    assert whole.counts == {"ok": 2, "note": 1, "warn": 1, "fail": 1}
    assert [section.title for section in whole.sections] == ["things"]
    assert not made(*FINDINGS[:4]).failed


def test_a_secret_is_taken_out_of_facts_and_of_fixes() -> None:
    sections = [Section(title="t", findings=(warn("a", "it is s3cret", "echo s3cret"),))]
    clean = report("1.0", sections, lambda text: text.replace("s3cret", "***"))
    assert report_lines(clean, 0, everything=True)[1] == "! it is ***  → echo ***"


@given(world=worlds, width=st.sampled_from([0, 1, 25, 80]))
def test_every_world_can_be_judged_and_shown(world: World, width: int) -> None:
    places = Places(home="/h", runtime="/r", state="/s", socket="/r/s")
    known = Known(world=world, verdict="fresh", age=0.0, places=places)
    findings = (
        *check_daemon(known, Answers(hello=0.1), "1.0"),
        *check_servers(world, {}),
        *check_speed(world, System(wsl="2"), "a GPU", ("/mnt/c/x",)),
    )
    text = "".join(report_lines(made(*findings), width, everything=True))
    assert all(character.isprintable() for character in text)
