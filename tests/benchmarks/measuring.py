"""Take times so that a ratio means something: both sides in one run, taking turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds of many runs of one act, sorted."""

    seconds: list[float]

    def at(self, share: float) -> float:
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    @property
    def p50(self) -> float:
        return self.at(0.5)

    @property
    def p95(self) -> float:
        return self.at(0.95)

    @property
    def p99(self) -> float:
        return self.at(0.99)


class Row(NamedTuple):
    """One line of the table: what was measured, against what, and what the design allows."""

    what: str
    measured: str
    baseline: str
    value: float
    """The ratio, or the figure itself where the budget is one."""
    limit: float
    at_least: bool = False
    shown: str = ""

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def timed(act: Callable[[], object], times: int, *, warm: int = 50) -> Times:
    """Run an act many times, after some that do not count."""
    for _ in range(min(warm, times)):
        act()
    clock, spent = time.perf_counter, []
    for _ in range(times):
        began = clock()
        act()
        spent.append(clock() - began)
    return Times(sorted(spent))


def in_turns(acts: Sequence[Callable[[], object]], times: int, *, rounds: int = 10) -> list[Times]:
    """Time several acts in turns, so that whatever the machine does meanwhile falls on all of them."""
    spent: list[list[float]] = [[] for _ in acts]
    for _ in range(rounds):
        for act, seconds in zip(acts, spent, strict=True):
            seconds += timed(act, max(1, times // rounds), warm=5).seconds
    return [Times(sorted(seconds)) for seconds in spent]


def process_times(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str], times: int
) -> list[Times]:
    """Time whole processes in turns."""
    spent: list[list[float]] = [[] for _ in commands]
    for round_number in range(times + 1):
        for command, seconds in zip(commands, spent, strict=True):
            began = time.perf_counter()
            subprocess.run(command, env=dict(environment), check=False, capture_output=True, cwd="/")
            if round_number:
                seconds.append(time.perf_counter() - began)
    return [Times(sorted(seconds)) for seconds in spent]


@contextmanager
def one_core() -> Iterator[None]:
    """Pin this process, and the children it starts meanwhile, to one core."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_until(condition: Callable[[], bool], timeout: float = 20.0, every: float = 0.001) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited too long")
        time.sleep(every)


def short(seconds: float) -> str:
    """Return seconds in a unit that is easy to read."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def ratio(what: str, mine: float, against: str, base: float, limit: float) -> Row:
    return Row(
        what, short(mine), f"{against}: {short(base)}", mine / base, limit, shown=f"{mine / base:.2f} ×"
    )


def faster(what: str, mine: float, against: str, base: float, limit: float) -> Row:
    return Row(
        what,
        short(mine),
        f"{against}: {short(base)}",
        base / mine,
        limit,
        at_least=True,
        shown=f"{base / mine:.0f} × slower",
    )


def figure(what: str, mine: float, limit: float) -> Row:
    return Row(what, short(mine), "", mine, limit, shown=short(mine))
