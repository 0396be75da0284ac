"""Which of two versions is the newer one: of those that the project itself has ever given."""

from __future__ import annotations

import re

_VERSION = re.compile(r"(?P<numbers>\d{1,9}(?:\.\d{1,9}){0,7})(?P<early>\.?(?:dev|a|b|rc)\d*)?(?:\+.*)?")


def is_newer(version: str, other: str) -> bool:
    """Tell whether a version is newer than another; ``False`` where either is none that can be read."""
    mine, theirs = _order(version), _order(other)
    return mine is not None and theirs is not None and mine > theirs


def _order(version: str) -> tuple[tuple[int, ...], bool] | None:
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    numbers = [int(number) for number in found["numbers"].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), found["early"] is None
