"""The clock of the files: time since the boot, with the time that the machine slept.

No change of the wall clock moves it, every process of one boot shares it, and after a night with the lid
closed what was seen the evening before is a night old. CLOCK_MONOTONIC stands still in suspend, so by that
one it would look as young as it was.

Linux: CLOCK_BOOTTIME. macOS: its CLOCK_MONOTONIC goes on in sleep, while Python's ``monotonic`` does not
(unproven there). Elsewhere the monotonic clock.
"""

from __future__ import annotations

import sys
import time

_CLOCK: int | None
if hasattr(time, "CLOCK_BOOTTIME"):
    _CLOCK = time.CLOCK_BOOTTIME
elif sys.platform == "darwin":
    _CLOCK = time.CLOCK_MONOTONIC
else:
    _CLOCK = None


def since_boot() -> float:
    """Return the seconds since the boot."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


def since_boot_ns() -> int:
    """Return the same in nanoseconds."""
    return time.monotonic_ns() if _CLOCK is None else time.clock_gettime_ns(_CLOCK)
