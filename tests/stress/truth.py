"""What was true when, and whether an answer was. Pure.

A change takes a moment: from when it was begun until it was seen to be done, the old state and the new
one are both true. An answer is right if it fits a state that was true at some moment between the question
and the answer, or at most ``bound`` seconds before: that is how old the facts of hived may be.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple


class Phase(NamedTuple):
    """A state: begun at, certainly there from ``settled`` on. Seconds of CLOCK_MONOTONIC."""

    begun: float
    settled: float
    state: str


class Timeline:
    """The states that one thing went through."""

    def __init__(self) -> None:
        self._phases: list[Phase] = []

    def __repr__(self) -> str:
        return f"<Timeline {' '.join(f'{phase.begun:.2f} {phase.state}' for phase in self._phases)}>"

    def __len__(self) -> int:
        return len(self._phases)

    def add(self, state: str, begun: float, settled: float) -> None:
        """Note the next state."""
        self._phases.append(Phase(begun, settled, state))

    def states(self, since: float, until: float) -> set[str]:
        """Return every state that was true at some moment of an interval."""
        return {
            phase.state
            for number, phase in enumerate(self._phases)
            if phase.begun <= until and self._end(number) >= since
        }

    def lateness(self, states: Collection[str], asked: float, answered: float) -> float | None:
        """Return how long before the question one of these states was last true; 0 where it still was.

        ``None``: none of them ever was.
        """
        ages = [
            max(0.0, asked - self._end(number))
            for number, phase in enumerate(self._phases)
            if phase.state in states and phase.begun <= answered
        ]
        return min(ages, default=None)

    def _end(self, number: int) -> float:
        return self._phases[number + 1].settled if number + 1 < len(self._phases) else math.inf


class Lost:
    """The time that this machine had for something else, as one that always wants to run has noticed."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []

    def __repr__(self) -> str:
        return f"<Lost {sum(until - since for since, until in self._gaps):.1f} s>"

    def add(self, since: float, until: float) -> None:
        """Note that whoever wanted to run did not."""
        self._gaps.append((since, until))

    def seconds(self, since: float, until: float) -> float:
        """Return how much of an interval was lost."""
        return sum(
            max(0.0, min(until, end) - max(since, begin))
            for begin, end in self._gaps
            if begin < until and end > since
        )


class Answer(NamedTuple):
    """One question and what came of it."""

    client: str
    """Which kind of client asked."""
    question: str
    mode: str
    """``file`` or ``fresh``."""
    asked: float
    answered: float
    said: str
    """``yes``, or the code of the fault that was raised."""
    detail: str
    """Where a yes leads to."""
    warnings: tuple[str, ...]

    @property
    def is_hedged(self) -> bool:
        """Whether it says itself that no daemon stands behind it now."""
        return bool(HEDGES & {*self.warnings, self.said})

    @property
    def seconds(self) -> float:
        return self.answered - self.asked


HEDGES = frozenset({"daemon.absent", "daemon.unresponsive", "daemon.not_running"})


class Fits(NamedTuple):
    """When an answer to one question is right: the states of its server for each thing that can be said."""

    timeline: Timeline
    detail: str
    """Where a yes must lead to."""
    said: Mapping[str, Collection[str]]
    """``yes`` or a code, and the states in which it is right."""


def judge(answer: Answer, fits: Fits, *, bound: float) -> str:
    """Return ``""`` for a right answer, else what is wrong with it."""
    states = fits.said.get(answer.said)
    if states is None:
        return f"{answer.said} is never right"
    if answer.said == "yes" and answer.detail != fits.detail:
        return f"a yes that leads to {answer.detail}"
    late = fits.timeline.lateness(states, answer.asked, answer.answered)
    if late is None or late > bound:
        truth = fits.timeline.states(answer.asked - bound, answer.answered)
        return f"{answer.said} while it was {' or '.join(sorted(truth))} (last right {late} s before)"
    return ""
