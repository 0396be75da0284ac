"""The doctor's report as text: a mark, a fact, and what mends it. Pure.

The marks say the same as the colours. Where the terminal has no UTF-8 they are words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from hived.cli.columns import columns
from hived.cli.doctor.findings import Finding, Level, Report
from hived.cli.rendering import coloured
from hived.cli.running import shown

MARKS: dict[Level, str] = {"ok": "✓", "note": "·", "warn": "!", "fail": "✗"}
WORDS: dict[Level, str] = {"ok": "ok  ", "note": "note", "warn": "warn", "fail": "FAIL"}
_COLOURS: dict[Level, str] = {"ok": "ready", "note": "sleeping", "warn": "starting", "fail": "failed"}
"""Level → the state in whose colour it is shown."""
_PLAIN = str.maketrans({"…": "...", "→": "->", "·": "-", "µ": "u"})
"""What stands for signs of our own where there is no UTF-8."""
NARROWEST = 20
"""Columns below which nothing is broken into lines."""


def can_write_marks(encoding: str | None) -> bool:
    """Tell whether an encoding has the marks."""
    try:
        "".join((*MARKS.values(), "→")).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def report_lines(report: Report, width: int, *, everything: bool, marks: bool = True) -> list[str]:
    """Return the report for so many columns; 0: no limit, each fact with its fix on one line.

    ``everything``: also what is well and of no further interest. ``marks``: not in words.
    """
    lines: list[str] = []
    for section in report.sections:
        kept = [each for each in section.findings if everything or _is_shown(each)]
        if kept:
            lines += [*([""] if lines else []), shown(section.title)]
            lines += [line for each in kept for line in _finding(each, width, marks=marks)]
    return [*lines, "", _summary(report, everything=everything)]


def _is_shown(finding: Finding) -> bool:
    return finding.brief or finding.level in ("warn", "fail")


def _finding(finding: Finding, width: int, *, marks: bool) -> Iterator[str]:
    mark, arrow = (MARKS[finding.level], "→") if marks else (WORDS[finding.level], "->")
    indent = " " * (len(mark) + 1)
    what, fix = shown(finding.what), f"{arrow} {shown(finding.fix)}" if finding.fix else ""
    if not marks:
        what, fix = what.translate(_PLAIN), fix.translate(_PLAIN)
    seen = coloured(mark, _COLOURS[finding.level])
    whole = f"{what}  {fix}" if fix else what
    if width < NARROWEST or columns(whole) + len(indent) <= width:
        yield f"{seen} {whole}"
        return
    first, *rest = textwrap.wrap(what, width - len(indent), break_long_words=False, break_on_hyphens=False)
    yield f"{seen} {first}"
    yield from (f"{indent}{line}" for line in rest)
    if fix:
        yield f"{indent}{fix}"  # never broken: it is there to be copied


def _summary(report: Report, *, everything: bool) -> str:
    counts = report.counts
    said = [
        f"{counts['fail']} failed" if counts["fail"] else "nothing failed",
        f"{counts['warn']} to look at" if counts["warn"] else "",
        f"{counts['ok']} well",
    ]
    hidden = sum(not _is_shown(each) for section in report.sections for each in section.findings)
    more = f" ({hidden} more: hived doctor --all)" if hidden and not everything else ""
    return f"{', '.join(filter(None, said))}{more}"
