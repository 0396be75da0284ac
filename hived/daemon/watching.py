"""Watch the process behind a server on this device: its end is known at once, and that it was stopped.

Where the process is not ours to see there is nothing to watch, and the monitor knocks instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.to_thread

from hived.machine.processes import find_listener, identify, is_stopped, wait_exit

STOP_POLL = 0.5
"""Seconds between two looks at whether a process was stopped (SIGSTOP): a stopped server still accepts
connections and never answers."""


class ProcessWatch(Protocol):
    """Tells what happens to the process that listens at an address."""

    async def watch(
        self, host: str, port: int, *, found: Callable[[], None], told: Callable[[], None]
    ) -> None:
        """Call ``found`` once the process is seen, ``told`` when it stops or goes on, and return at its end.

        Returns at once where there is no such process to be seen.
        """
        ...


class SystemProcesses:
    """The processes of this machine."""

    async def watch(
        self, host: str, port: int, *, found: Callable[[], None], told: Callable[[], None]
    ) -> None:
        pid = await anyio.to_thread.run_sync(find_listener, host, port)
        identity = identify(pid) if pid is not None else None
        if identity is None:
            return
        found()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_stops, identity.pid, told)
            await wait_exit(identity)
            tasks.cancel_scope.cancel()


async def _watch_stops(pid: int, told: Callable[[], None]) -> None:
    stopped = False
    while True:
        await anyio.sleep(STOP_POLL)
        now = is_stopped(pid)
        if now is not stopped:
            stopped = now
            told()
