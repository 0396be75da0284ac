"""What was captured of a machine: the text of each file that is there, by its path. Nothing here raises."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

Texts = Mapping[str, str]
"""Path below the root, without the first slash (``proc/meminfo``), to what the file says."""

MOST = 1 << 60
"""No number here is as great as that; one that is has been written by nobody who counted."""

_KIB = re.compile(r"^([^:\n]+):\s+(\d{1,15}) kB", re.MULTILINE)


def text(texts: Texts, path: str) -> str:
    """Return what a file says, without the space and zero bytes around it; empty where it is not there."""
    return texts.get(path, "").strip("\0 \t\r\n")


def number(texts: Texts, path: str) -> int | None:
    """Return the number in a file; ``None`` where there is none, or one below zero."""
    return whole(text(texts, path))


def whole(word: str) -> int | None:
    """Read a whole number that is not below zero, decimal or with ``0x``."""
    try:
        found = int(word.strip(), 0)
    except ValueError:
        return None
    return found if 0 <= found < MOST else None


def real(word: str) -> float | None:
    """Read a number that is not below zero."""
    try:
        found = float(word.strip())
    except ValueError:
        return None
    return found if 0.0 <= found < MOST else None


def sizes(said: str) -> dict[str, int]:
    """Read lines ``Name: 12 kB`` as bytes."""
    return {found[1].strip(): int(found[2]) * 1024 for found in _KIB.finditer(said)}


def under(texts: Texts, pattern: str) -> Iterator[tuple[re.Match[str], str]]:
    """Yield the files whose whole path matches a pattern, in the order of their numbers."""
    wanted = re.compile(pattern)
    found = [match for path in texts if (match := wanted.fullmatch(path))]
    for match in sorted(found, key=lambda each: _natural(each[0])):
        yield match, text(texts, match[0])


def _natural(path: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", path)]
