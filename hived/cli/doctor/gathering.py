"""Facts gathered side by side, each within its own time: a disk or a driver that hangs costs one line.

Each is read in a thread that does not keep the process from ending. What came too late, and what broke, is
told as that.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

LONGEST = 4.5
"""Seconds after which nothing is waited for any more, whatever its own time is."""


class Reading(msgspec.Struct, frozen=True):
    """How some facts are read, and how long that may take."""

    read: Callable[[], object]
    seconds: float = 2.0


class Missing(msgspec.Struct, frozen=True):
    """Why some facts are not there."""

    why: str


def gather(readings: Mapping[str, Reading], *, longest: float = LONGEST) -> dict[str, object]:
    """Read everything at once; return the facts by name, or ``Missing``. Blocks for ``longest`` at most."""
    done: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def run(name: str, reading: Reading) -> None:
        try:
            done.put((name, reading.read()))
        except Exception as error:  # noqa: BLE001 - a check that breaks must not hide what the others found
            done.put((name, Missing(f"the check broke ({type(error).__name__}: {error})"[:200])))

    begun = time.monotonic()
    for name, reading in readings.items():
        threading.Thread(target=run, args=(name, reading), name=f"doctor {name}", daemon=True).start()
    facts: dict[str, object] = {}
    limits = {name: min(reading.seconds, longest) for name, reading in readings.items()}
    while waiting := limits.keys() - facts.keys():
        left = begun + max(limits[name] for name in waiting) - time.monotonic()
        try:
            name, fact = done.get(timeout=max(left, 0.0))
        except queue.Empty:
            break
        facts[name] = fact
        passed = time.monotonic() - begun
        late = [each for each in limits.keys() - facts.keys() if passed > limits[each]]
        facts |= {each: _late(limits[each]) for each in late}
    return {name: facts.get(name, _late(limits[name])) for name in readings}


def _late(seconds: float) -> Missing:
    return Missing(f"it took longer than {seconds:g} s")
