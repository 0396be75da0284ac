"""Take fields out of an answer that nobody vouches for. A field that cannot be is one that is missing."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TypeGuard

MOST_ITEMS = 10_000
"""Models that one server may have."""
LONGEST_NAME = 512
"""Characters that a name may have."""
GREATEST = 2**53
"""Numbers above this are not counts of anything."""


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Tell whether a decoded value is an object."""
    return isinstance(value, dict)


def inner(value: object, *path: str) -> object:
    """Return what lies at a path of keys; ``None`` where something on the way is not there."""
    for key in path:
        if not is_object(value):
            return None
        value = value.get(key)
    return value


def items(value: object) -> Iterator[dict[str, object]]:
    """Yield the objects of a list, the first ten thousand; anything else in it is passed over."""
    if isinstance(value, list):
        yield from (one for one in value[:MOST_ITEMS] if is_object(one))


def text(value: object, longest: int = LONGEST_NAME) -> str | None:
    """Return a text that can be shown: not empty, not too long, no control characters."""
    if not isinstance(value, str) or not value or len(value) > longest:
        return None
    if value.isprintable():
        return value  # as nearly every one is: what follows asks about each character
    return None if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in value) else value


def texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list that can be shown."""
    if not isinstance(value, list):
        return ()
    return tuple(found for found in map(text, value[:MOST_ITEMS]) if found is not None)


def count(value: object) -> int | None:
    """Return a whole number above zero; servers write 0 for what they do not know."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= GREATEST:
        return None
    return int(value) if value == int(value) else None


def share(value: object) -> float | None:
    """Return a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
