"""The daemon's own pulse: it beats, feeds the watchdog while all gets on, and notices that the machine slept.

It is taken by the daemon's loop, a few times a second: what hangs the loop stops the beat, so that a loop
that hangs looks hung.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from hived.daemon.clock import Clock
from hived.daemon.progress import Progress

SLEPT = 2.0
"""Seconds that the machine must have slept for everything to be looked at again at once."""

log = structlog.get_logger(__name__)


class Watchdog(Protocol):
    """Is told that the daemon is alive, and acts where it is not told for too long."""

    def alive(self, now: float) -> None: ...


class Pulse:
    """One daemon's pulse. ``beat`` writes the beat; ``resumed`` is called after a sleep."""

    def __init__(
        self,
        progress: Progress,
        watchdog: Watchdog,
        clock: Clock,
        *,
        beat: Callable[[], None],
        resumed: Callable[[], None],
    ) -> None:
        self._progress = progress
        self._watchdog = watchdog
        self._clock = clock
        self._beat = beat
        self._resumed = resumed
        self._slept = self._asleep()
        self._stuck: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Pulse, stuck: {', '.join(self._stuck) or 'nothing'}>"

    def take(self, now: float) -> None:
        """Beat once; ``now`` is the loop's own time."""
        slept, self._slept = self._asleep() - self._slept, self._asleep()
        if slept >= SLEPT:
            log.info("machine.resumed", slept=round(slept))
            self._resumed()
        self._beat()
        self._feed(now)

    def _feed(self, now: float) -> None:
        """Feed the watchdog, unless something is stuck that only a restart would mend."""
        stuck = self._progress.stuck(now)
        if not stuck:
            self._watchdog.alive(now)
        elif stuck != self._stuck:
            log.error("daemon.stuck", parts=stuck)
        self._stuck = stuck

    def _asleep(self) -> float:
        """Return the seconds that the machine has slept since its boot."""
        return (self._clock.since_boot_ns() - self._clock.monotonic_ns()) / 1e9
