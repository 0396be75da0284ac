"""What the doctor finds: one fact a line, how bad it is, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from hived_client.vocabulary.faults import Fault

Level = Literal["ok", "note", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warn", "fail")
"""From good to bad. ``note``: worth knowing; ``warn``: something suffers; ``fail``: something is broken."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fact."""

    check: str
    """Stable name of what was looked at (``files.runtime``), or the code of a fault (``server.down``)."""
    level: Level
    what: str
    fix: str = ""
    """The command, or the setting, that mends it."""
    brief: bool = True
    """Whether it is shown although nobody asked for everything."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about one thing, under its heading."""

    title: str
    findings: tuple[Finding, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found; as it is in ``hived doctor --json``."""

    version: str
    """Of the hived that looked."""
    failed: bool
    counts: dict[str, int]
    """How many findings of each level."""
    sections: tuple[Section, ...]


def ok(check: str, what: str, *, brief: bool = False) -> Finding:
    """Say that something is well."""
    return Finding(check=check, level="ok", what=what, brief=brief)


def note(check: str, what: str, fix: str = "", *, brief: bool = True) -> Finding:
    """Say something worth knowing."""
    return Finding(check=check, level="note", what=what, fix=fix, brief=brief)


def warn(check: str, what: str, fix: str = "") -> Finding:
    """Say that something suffers, or soon will."""
    return Finding(check=check, level="warn", what=what, fix=fix)


def fail(check: str, what: str, fix: str = "") -> Finding:
    """Say that something does not work."""
    return Finding(check=check, level="fail", what=what, fix=fix)


def of_fault(fault: Fault, level: Level) -> Finding:
    """Turn a fault into a finding."""
    return Finding(check=fault.code, level=level, what=fault.message.removesuffix("."), fix=fault.hint)


def unknown(check: str, what: str, why: str, *, level: Level = "note") -> Finding:
    """Say that something could not be found out."""
    return Finding(check=check, level=level, what=f"{what}: not known, {why}")


def report(version: str, sections: Iterable[Section], masked: Callable[[str], str]) -> Report:
    """Put the sections together, without any secret that was read on the way."""
    told: set[tuple[str, str]] = set()
    clean = (_masked(_new(section, told), masked) for section in sections)
    kept = tuple(section for section in clean if section.findings)
    levels = [finding.level for section in kept for finding in section.findings]
    return Report(
        version=version,
        failed="fail" in levels,
        counts={level: levels.count(level) for level in LEVELS},
        sections=kept,
    )


def _new(section: Section, told: set[tuple[str, str]]) -> Section:
    """Leave out what another section has told: one cause may be met by several checks."""
    new = tuple(each for each in section.findings if (each.check, each.what) not in told)
    told |= {(each.check, each.what) for each in new}
    return msgspec.structs.replace(section, findings=new)


def _masked(section: Section, masked: Callable[[str], str]) -> Section:
    clean = (
        msgspec.structs.replace(finding, what=masked(finding.what), fix=masked(finding.fix))
        for finding in section.findings
    )
    return msgspec.structs.replace(section, findings=tuple(clean))
