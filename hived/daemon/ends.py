"""How servers that hived started end: asked of their processes, their units and their logs."""

from __future__ import annotations

import contextlib
from typing import Protocol

import anyio
import anyio.to_thread
import structlog

from hived.daemon.launching import LOOK, Child, Manager, wait_gone
from hived.daemon.servers import Servers
from hived.machine.processes import Identity, end_session, identify, reap, wait_exit
from hived.machine.records import Started
from hived.machine.transient import ManagerFailed, UnitState
from hived_client.doors.boot import boot_id

TOLD = 5.0
"""Seconds for systemd to know of the end of a process."""

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

    async def broke_down(self, record: Started) -> bool:
        """Tell whether it had broken, although it ended in good order."""
        ...

    async def clear(self, record: Started) -> None:
        """End what a server that has ended left behind, and give back the name of its unit. Bounded."""
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
        with anyio.move_on_after(TOLD), contextlib.suppress(ManagerFailed):
            while True:
                state = await self._state(record.unit)
                if state.code is not None or not state.active:
                    return state.code or 0  # of a unit that ended well nothing is left to ask
                await anyio.sleep(LOOK)  # systemd has not heard of it yet
        return None

    async def clear(self, record: Started) -> None:
        if record.ends_with:
            if record.unit:
                await anyio.to_thread.run_sync(self._manager.stop, record.unit)
        elif record.unit:
            await wait_gone(self._manager, record.unit)
            await anyio.to_thread.run_sync(self._manager.forget, record.unit, abandon_on_cancel=True)
        elif record.identity is not None:
            await end_session(record.identity)

    async def _state(self, unit: str) -> UnitState:
        return await anyio.to_thread.run_sync(self._manager.state, unit, abandon_on_cancel=True)

    async def identity(self, record: Started) -> Identity | None:
        try:
            state = await self._state(record.unit)
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

    async def broke_down(self, record: Started) -> bool:
        return await anyio.to_thread.run_sync(self._servers.broke_down, record, abandon_on_cancel=True)
