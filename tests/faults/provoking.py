"""How a test says which fault it provokes, and the table that comes of it.

A provocation is a test that returns the fault which it brought about::

    @provokes("server.down", "nothing listens at the address")
    async def test_nothing_listens(home: Path) -> Fault: ...

It passes where the fault has that code, and where its sentence has no gap in it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from hived_client.vocabulary.faults import Fault

PROVOKED: dict[str, list[str]] = {}
"""Code → how it is provoked, one for each test, as soon as the tests are imported."""

LATER: dict[str, str] = {
    "server.unwatched": "every kind that the configuration takes has a probe; a guard for a kind without one",
}
"""Code → what has to be there before it can be recognised."""


class Row(NamedTuple):
    """One line of the table."""

    code: str
    how: str
    sentence: str
    hint: str


SEEN: dict[tuple[str, str], Row] = {}
"""What the provocations that ran have come to."""


def provokes(code: str, how: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a test of a function that returns the fault which it provoked, or of one that awaits to."""
    PROVOKED.setdefault(code, []).append(how)

    def keep(found: Fault) -> None:
        assert isinstance(found, Fault), f"a provocation returns a fault, not {found!r}"
        assert found.code == code, f"{found.code}: {found.message}"
        assert "?" not in found.message, f"something is not filled in: {found.message}"
        SEEN[code, how] = Row(code, how, found.message, found.hint)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def provoke(*args: Any, **kwargs: Any) -> None:
                keep(await function(*args, **kwargs))

            marked: Callable[..., Any] = pytest.mark.anyio(provoke)
            return marked

        @functools.wraps(function)
        def provoke_at_once(*args: Any, **kwargs: Any) -> None:
            keep(function(*args, **kwargs))

        return provoke_at_once

    return decorate


def table() -> list[str]:
    """Return what was provoked as lines of text: code, how, sentence, hint."""
    lines: list[str] = []
    for row in sorted(SEEN.values()):
        lines += [row.code, f"    provoked  {row.how}", f"    says      {row.sentence}"]
        lines += [f"    hint      {row.hint}"] if row.hint else []
    return lines
