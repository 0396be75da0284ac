"""What a run measured: collected while it runs, printed as one table at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

CI_SEED = 20_261_127
SEED = int(os.environ.get("HIVED_STRESS_SEED", CI_SEED))
"""What every chance of a run comes from: the same seed asks the same questions and draws the same moments."""
SCALE = float(os.environ.get("HIVED_STRESS_SCALE", "1"))
"""How much longer than in CI: of a soak the minutes, of frames and kills the number."""


class Figure(NamedTuple):
    """One line of the table."""

    group: str
    what: str
    value: str


Tell = Callable[[str, object], None]
"""Note a figure: what it is, and how much."""

FIGURES: list[Figure] = []


def lines() -> list[str]:
    """Return the table, a line a figure, each group under its name."""
    told: list[str] = []
    group = ""
    for figure in FIGURES:
        if figure.group != group:
            group = figure.group
            told.append(group)
        told.append(f"  {figure.what:64} {figure.value}")
    return told


def again() -> str:
    """Return the command that runs the same once more."""
    scale = f" --scale {SCALE:g}" if SCALE != 1 else ""
    return f"python -m tests.stress --seed {SEED}{scale}"


def spread(seconds: Sequence[float]) -> str:
    """Return the middle, the tail and the end of a list of durations."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)

    def at(share: float) -> str:
        return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3:.1f}"

    return f"p50 {at(0.5)}  p99 {at(0.99)}  max {at(1.0)} ms  of {len(ordered)}"


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much a value grows a minute: the line of least squares through (seconds, value)."""
    middle = sum(at for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    across = sum((at - middle) ** 2 for at, _ in points)
    return 60.0 * sum((at - middle) * (value - mean) for at, value in points) / across if across else 0.0
