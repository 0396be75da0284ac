"""The one clock. What is scheduled uses ``anyio.current_time()``; what is written down uses this."""

from __future__ import annotations

import time


class Clock:
    """Wall time for people, CLOCK_MONOTONIC for the beat. Tests put another in its place."""

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic_ns(self) -> int:
        """Return nanoseconds of CLOCK_MONOTONIC, which every process of this boot shares."""
        return time.monotonic_ns()
