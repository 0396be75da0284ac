"""How servers that hived started end: asked of their processes, their units and their logs."""

from __future__ import annotations

from typing import Protocol

import anyio
import anyio.to_thread
import structlog

from hived.daemon.launching import Child, Manager
from hived.daemon.servers import Servers
from hived.machine.processes import Identity, identify, reap, wait_exit
from hived.machine.records import Started
from hived.machine.transient import STOP_PATIENCE, ManagerFailed
from hived_client.doors.boot import boot_id

LINGERING = STOP_PATIENCE + 5.0
"""Seconds for a unit to be gone after its process."""
LOOK = 0.25
"""Seconds between two looks at a unit that is going."""

log = structlog.get_logger(__name__)


class Gone(Exception):
    """There is no such unit, or nothing runs in it."""


class Ends(Protocol):
    """What is asked about the end of a server. Safe to cancel."""

    async def wait(self, record: Started, child: Child | None) -> int | None:
        """Wait for the end; return the exit status, where somebody knows it."""
        ...

    async def identity(self, record: Started) -> Identity | None:
        """Say which process a unit's is; ``None`` where that cannot be told now. Raises ``Gone``."""
        ...

    async def last_words(self, record: Started) -> str:
        """Say why it ended, as far as that is known."""
        ...

    async def forget(self, record: Started) -> None:
        """Give back the name of a unit in which nothing of ours runs any more."""
        ...


class MachineEnds:
    """The real ones."""

    def __init__(self, manager: Manager, servers: Servers) -> None:
        self._manager = manager
        self._servers = servers

    def __repr__(self) -> str:
        return f"<MachineEnds {self._manager!r}>"

    async def wait(self, record: Started, child: Child | None) -> int | None:
        if child is not None:
            return await reap(child)
        assert record.identity is not None
        await wait_exit(record.identity)
        if record.identity.boot != boot_id():
            return 0  # it ended with the machine, which is nobody's accident
        if not record.unit:
            return None
        try:
            code = await self._code_of(record.unit)
            await anyio.to_thread.run_sync(self._manager.forget, record.unit, abandon_on_cancel=True)
        except ManagerFailed:
            return None
        return code

    async def _code_of(self, unit: str) -> int:
        """Return how the process of a unit ended, once its name is free.

        What it left behind (a runner, an engine) is ended by systemd first, which takes a while; until then
        nothing else can be started under the name. Of a unit that ended well nothing is left to ask.
        """
        code = 0
        with anyio.move_on_after(LINGERING):
            while True:
                state = await anyio.to_thread.run_sync(self._manager.state, unit, abandon_on_cancel=True)
                code = code if state.code is None else state.code
                if not state.active:
                    break
                await anyio.sleep(LOOK)
        return code

    async def identity(self, record: Started) -> Identity | None:
        try:
            state = await anyio.to_thread.run_sync(self._manager.state, record.unit, abandon_on_cancel=True)
        except ManagerFailed as error:
            log.warning("unit.unknown", unit=record.unit, why=str(error))
            return None
        if record.ends_with and state.active:
            return None  # its command has ended; what that left running is not ours to know
        found = identify(state.pid) if state.pid is not None else None
        if found is None:
            await anyio.to_thread.run_sync(self._manager.forget, record.unit, abandon_on_cancel=True)
            raise Gone
        return found

    async def last_words(self, record: Started) -> str:
        return await anyio.to_thread.run_sync(self._servers.last_words, record, abandon_on_cancel=True)

    async def forget(self, record: Started) -> None:
        if record.unit:
            await anyio.to_thread.run_sync(self._manager.stop, record.unit)
