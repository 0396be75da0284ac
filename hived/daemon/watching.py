"""Watch the process behind a server on this device: its end is known at once, and that it was stopped.

Where the process is not ours to see there is nothing to watch, and the monitor knocks instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio

from hived.daemon.aside import Aside
from hived.daemon.clock import until_next
from hived.machine.processes import find_listener, identify, is_stopped, wait_exit

STOP_POLL = 0.5
"""Seconds between two looks at whether a process was stopped (SIGSTOP): a stopped server still accepts
connections and never answers."""

PATIENCE = 5.0
"""Seconds that a search for a listener may take."""

FOUND_AGE = 1.0
"""Seconds for which a listener that was found need not be sought again: seeking reads all of /proc."""


class ProcessWatch(Protocol):
    """Tells what happens to the process that listens at an address."""

    async def watch(
        self, host: str, port: int, *, found: Callable[[], None], told: Callable[[], None]
    ) -> None:
        """Call ``found`` once the process is seen, ``told`` when it stops or goes on, and return at its end.

        Returns at once where there is no such process to be seen. Raises TimeoutError where it could not be
        sought in time.
        """
        ...


class SystemProcesses:
    """The processes of this machine. ``run`` looks at all that are watched in one turn of the loop."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[float, int | None]] = {}
        self._watched: dict[int, list[Callable[[], None]]] = {}
        self._stopped: set[int] = set()
        self._seeking = Aside(2)
        self.turns = 0

    def __repr__(self) -> str:
        return f"<SystemProcesses {sorted(self._watched)}>"

    async def run(self) -> None:
        """Tell, twice a second, which of the watched processes were stopped or go on."""
        while True:
            await anyio.sleep(until_next(STOP_POLL))
            self.turns += 1
            stopped = {pid for pid in self._watched if is_stopped(pid)}
            changed, self._stopped = stopped ^ self._stopped, stopped
            for told in [each for pid in changed for each in self._watched.get(pid, ())]:
                told()

    async def listener(self, host: str, port: int) -> int | None:
        """Find the process that listens at an address; asked again within a second, the same one.

        Raises TimeoutError where that takes too long.
        """
        now = anyio.current_time()
        self._found = {at: known for at, known in self._found.items() if now - known[0] < FOUND_AGE}
        if (host, port) not in self._found:
            pid = await self._seeking.within(PATIENCE, lambda: find_listener(host, port))
            self._found[host, port] = (anyio.current_time(), pid)
        return self._found[host, port][1]

    async def watch(
        self, host: str, port: int, *, found: Callable[[], None], told: Callable[[], None]
    ) -> None:
        pid = await self.listener(host, port)
        if pid is not None and identify(pid) is None:
            # It was found a moment ago, for another question, and has gone: another may have its port.
            self._found.pop((host, port), None)
            pid = await self.listener(host, port)
        self._found.pop((host, port), None)  # when this one has gone, another is to be sought
        identity = identify(pid) if pid is not None else None
        if pid is None or identity is None:
            return
        found()
        # One process may listen on several ports, each with its own monitor.
        listeners = self._watched.setdefault(pid, [])
        listeners.append(told)
        try:
            await wait_exit(identity)
        finally:
            listeners.remove(told)
            if not listeners:
                self._watched.pop(pid, None)
