"""Logs of servers that are no more: kept for a while, for whoever looks for a reason later, then removed.

Each start may have a port of its own, and so a name and a log of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import anyio
import structlog

from hived.daemon.aside import Aside
from hived.daemon.clock import Clock

OWN = "hived"
"""Name of the daemon's own log."""
ENDINGS = (".log", ".log.1")

KEPT = 20
"""Logs that are kept however old they are: the newest."""
OLD = 7 * 86_400.0
"""Seconds after which another one is removed."""
DAY = 86_400.0
"""Seconds between two looks."""
PATIENCE = 30.0
"""Seconds that a look may take."""

log = structlog.get_logger(__name__)


class Within(Protocol):
    """Does something blocking beside the loop. Raises TimeoutError where that takes too long."""

    def __call__(self, seconds: float, act: Callable[[], int]) -> Awaitable[int]: ...


class OldLogs:
    """Removes them, now and every day."""

    def __init__(
        self,
        folder: str,
        names: Callable[[], Collection[str]],
        clock: Clock,
        within: Within | None = None,
    ) -> None:
        """``names`` are those of the servers that there are: theirs are never removed."""
        self._folder = folder
        self._names = names
        self._clock = clock
        self._within = within or Aside().within

    def __repr__(self) -> str:
        return f"<OldLogs {self._folder}>"

    async def run(self) -> None:
        """Look, and look again every day."""
        while True:
            names, now = frozenset(self._names()), self._clock.wall()
            with contextlib.suppress(TimeoutError):
                removed = await self._within(PATIENCE, lambda: remove_old(self._folder, names, now))  # noqa: B023
                if removed:
                    log.info("logs.removed", count=removed)
            await anyio.sleep(DAY)


def remove_old(folder: str, names: Collection[str], now: float) -> int:
    """Remove what is outdated; return how many files that were. Blocks."""
    removed = 0
    for name in outdated(_changed(folder), names, now):
        for ending in ENDINGS:
            with contextlib.suppress(OSError):
                os.unlink(f"{folder}/{name}{ending}")
                removed += 1
    return removed


def outdated(changed: Mapping[str, float], names: Collection[str], now: float) -> list[str]:
    """Return the names whose logs are to be removed, by when each was last written to. Pure."""
    left = [name for name in changed if name not in names and name != OWN]
    left.sort(key=lambda name: changed[name], reverse=True)
    return [name for name in left[KEPT:] if now - changed[name] > OLD]


def _changed(folder: str) -> dict[str, float]:
    """Return when the logs of each name were last written to."""
    found: dict[str, float] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, _, ending = entry.name.rpartition(".log")
                with contextlib.suppress(OSError):
                    if name and f".log{ending}" in ENDINGS and entry.is_file(follow_symlinks=False):
                        at = entry.stat(follow_symlinks=False).st_mtime
                        found[name] = max(at, found.get(name, at))
    except OSError:
        return {}
    return found
