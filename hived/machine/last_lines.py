"""What the end of a server's log says about its end: one line of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

REASON_LENGTH = 300
"""Characters of a reason."""

_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")


def plain_lines(text: str) -> list[str]:
    """Split a log into lines without colours, control characters and spaces at their ends."""
    plain = (
        "".join(c if c.isprintable() else " " for c in _ESCAPE.sub("", line)) for line in text.splitlines()
    )
    return [line.strip() for line in plain if line.strip()]


def telling_line(lines: list[str], patterns: Iterable[re.Pattern[str]]) -> str:
    """Return the last line that matches the first pattern that any line matches; empty where none does."""
    for pattern in patterns:
        for line in reversed(lines):
            if pattern.search(line):
                return line[:REASON_LENGTH]
    return ""
