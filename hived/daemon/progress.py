"""Whether the daemon's parts get on with what they have to do: the watchdog is fed by that, not by a timer.

A daemon whose loop turns can be dead all the same: the part that accepts connections waits for something that
never comes, and nobody is told anything any more. So each part that matters counts its turns, and says
whether it has anything to do. One that has, and does not turn for its patience, is stuck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

PATIENCE = 15.0
"""Seconds for a turn. The unit's watchdog has 30: it acts on what is stuck, not on what is slow."""


class Duty(msgspec.Struct, frozen=True):
    """A part that matters."""

    name: str
    turns: Callable[[], int]
    """Counts what it has done, or tried."""
    is_due: Callable[[], bool]
    """Tells whether it has something to do."""


class Progress:
    """Looks at the duties now and then. Pure over the time that it is given."""

    def __init__(self, duties: Iterable[Duty]) -> None:
        self._duties = tuple(duties)
        self._moved: dict[str, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Progress of {', '.join(duty.name for duty in self._duties)}>"

    def stuck(self, now: float) -> tuple[str, ...]:
        """Name the parts that have something to do and have not turned for ``PATIENCE``."""
        return tuple(duty.name for duty in self._duties if now - self._since(duty, now) > PATIENCE)

    def _since(self, duty: Duty, now: float) -> float:
        turns = duty.turns()
        before = self._moved.get(duty.name)
        if before is None or before[0] != turns or not duty.is_due():
            before = self._moved[duty.name] = (turns, now)
        return before[1]
