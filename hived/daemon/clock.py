"""The one clock. What is scheduled uses ``anyio.current_time()``; what is written down uses this."""

from __future__ import annotations

import time

from hived_client.doors.since_boot import since_boot_ns


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
