"""Text by the columns that it takes on a terminal: as wide as it shows, cut where it does not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterable

ELLIPSIS = "…"
BAR = 10
"""Columns of a bar of progress."""


def columns(text: str) -> int:
    """Return how many columns a text takes: two for a wide character, none for a mark on another one."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    import unicodedata  # not for what is plain ASCII: a status has to be quick

    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """Return as much of a text as fits; ``width`` 0 or less: all of it."""
    if width <= 0 or columns(text) <= width:
        return text
    return _begin(text, width - 1) + ELLIPSIS


def cut_middle(text: str, width: int) -> str:
    """Return a text that fits, without its middle: names differ at their beginning and at their end."""
    if width <= 0 or columns(text) <= width:
        return text
    end = (width - 1) // 2
    return _begin(text, width - 1 - end) + ELLIPSIS + _begin(text[::-1], end)[::-1]


def padded(text: str, width: int) -> str:
    """Return a text with spaces behind it up to a width."""
    return text + " " * (width - columns(text))


def bar(share: float, encoding: str | None = None) -> str:
    """Draw how much of something is done, 0 to 1, in characters that stdout can write."""
    done = round(max(0.0, min(1.0, share)) * BAR)
    full, empty = "█", "░"
    try:
        full.encode(encoding or getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        full, empty = "#", "-"
    return full * done + empty * (BAR - done)


def widest(texts: Iterable[str]) -> int:
    """Return the columns of the widest text; 0 where there is none."""
    return max(map(columns, texts), default=0)


def _begin(text: str, width: int) -> str:
    taken = 0
    for at, character in enumerate(text):
        taken += columns(character)
        if taken > width:
            return text[:at]
    return text
