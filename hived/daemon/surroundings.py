"""What this machine knows about its own servers, asked in threads, within bounds.

Files of a home on a network, and the list of all processes, may keep a thread waiting; never the loop, and
never more than a few threads at once, of which those that ask who listens are kept apart: what is private
hangs on that. What comes too late is asked for again at the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import anyio
import msgspec

from hived.daemon.aside import Aside
from hived.daemon.watching import SystemProcesses
from hived.decisions.command_lines import forwarder, is_vllm, vllm_port
from hived.decisions.outcomes import Inside
from hived.machine.inside import look_inside
from hived.machine.installations import Installations
from hived.machine.processes import CommandLines, program_of
from hived_client.vocabulary.world import Installation

ROOT = "/"
"""The folder below which programs, units and applications are looked for."""
THREADS = 2
"""Threads that wait for the machine at most, and as many again for its list of who listens."""
PATIENCE = 0.25
"""Seconds that a look waits for what the files say."""
LISTENER_PATIENCE = 2.0
"""Seconds that a look waits to hear which program listens: what is private hangs on that."""
SCAN_PATIENCE = 1.0
"""Seconds that a look waits for the list of processes."""
SCAN_EVERY = 2.0
"""Seconds between two looks at the list of processes."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of this machine say about a server that is down."""

    installation: Installation | None = None
    inside: Inside | None = None


class Surroundings(Protocol):
    """What a monitor asks this machine about an endpoint of its own. Never raises; safe to cancel."""

    async def place(self, provider: str) -> Place | None:
        """Say whether the program is here and whose it is; ``None`` where that takes too long."""
        ...

    async def forwarder(self, host: str, port: int) -> str | None:
        """Name the program that listens there if it hands connections on, else ``""``; ``None``: too long."""
        ...

    async def launching_since(self, port: int) -> float | None:
        """Say when a process began that will listen at a port only later; ``None`` where there is none."""
        ...

    def has_variable(self, name: str) -> bool:
        """Tell whether a variable is set where hived runs."""
        ...


class ThisMachine:
    """The machine that the daemon runs on."""

    def __init__(
        self, environment: Mapping[str, str], processes: SystemProcesses, studio: Callable[[], str]
    ) -> None:
        """``studio`` returns LM Studio's own folder; it blocks."""
        self._environment = environment
        self._processes = processes
        self._installations = Installations(environment, studio=studio, root=ROOT)
        self._files = Aside(THREADS)
        self._listeners = Aside(THREADS)
        self._command_lines = CommandLines()
        self._scanning = anyio.Lock()
        self._scanned: float | None = None
        self._launching: tuple[tuple[int, float], ...] = ()
        self.scans = 0

    def __repr__(self) -> str:
        return f"<ThisMachine, {self.scans} scans>"

    async def place(self, provider: str) -> Place | None:
        def read() -> Place:
            return Place(
                installation=self._installations.find(provider), inside=look_inside(self._environment, ROOT)
            )

        try:
            return await self._files.within(PATIENCE, read)
        except TimeoutError:
            return None

    async def forwarder(self, host: str, port: int) -> str | None:
        try:
            with anyio.fail_after(LISTENER_PATIENCE):
                pid = await self._processes.listener(host, port)
                if pid is None:
                    return ""  # not ours to see, and so not known to be one
                return forwarder(await self._listeners.within(LISTENER_PATIENCE, lambda: program_of(pid)))
        except TimeoutError:
            return None

    async def launching_since(self, port: int) -> float | None:
        # One at a time, and whoever waited for another's scan has its result.
        async with self._scanning:
            if self._scanned is None or anyio.current_time() - self._scanned >= SCAN_EVERY:
                await self._scan()
        return min((began for own, began in self._launching if own == port), default=None)

    def has_variable(self, name: str) -> bool:
        return bool(self._environment.get(name, "").strip())

    async def _scan(self) -> None:
        self.scans += 1
        lines = self._command_lines
        try:
            found = await self._files.within(SCAN_PATIENCE, lambda: lines.find(is_vllm))
        except TimeoutError:
            # The kernel can hold whoever reads a command line. That thread keeps its own list.
            self._command_lines, found = CommandLines(), []
        self._scanned = anyio.current_time()
        ports = ((vllm_port(words), began) for began, words in found)
        self._launching = tuple((own, began) for own, began in ports if own is not None)
