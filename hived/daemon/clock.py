"""The one clock. What is scheduled uses ``anyio.current_time()``; what is written down uses this."""

from __future__ import annotations

import time

import anyio

from hived_client.doors.since_boot import since_boot_ns

ROUNDING = 1e-6
"""Seconds by which a multiple of an interval may be missed that was waited for."""


class Clock:
    """Wall time for people, time since the boot for the beat. Tests put another in its place."""

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def since_boot_ns(self) -> int:
        """Return nanoseconds since the boot, sleep included, as every process of this boot counts them."""
        return since_boot_ns()

    def monotonic_ns(self) -> int:
        """Return nanoseconds of CLOCK_MONOTONIC, which stands still while the machine sleeps."""
        return time.monotonic_ns()


def until_next(interval: float) -> float:
    """Return the seconds until the loop's own time is next a multiple of an interval.

    To wake the process costs more than what it then does: whoever waits until such a time wakes with others.
    """
    rest = interval - anyio.current_time() % interval
    return rest if rest > ROUNDING else rest + interval
