"""What a test says of findings: level and name of each that is worth a look, in short."""

from __future__ import annotations

from collections.abc import Iterable

from hived.cli.doctor.findings import Finding


def seen(findings: Iterable[Finding], *, least: str = "note") -> list[str]:
    """Return ``level check`` of the findings from a level on."""
    levels = ("ok", "note", "warn", "fail")
    kept = [each for each in findings if levels.index(each.level) >= levels.index(least)]
    return [f"{each.level} {each.check}" for each in kept]


def only(findings: Iterable[Finding], check: str) -> Finding:
    """Return the one finding of a name."""
    (found,) = [each for each in findings if each.check == check]
    return found
