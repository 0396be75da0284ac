"""A monitor for every endpoint of the World: started when one appears, cancelled when it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio
import anyio.abc

from hived.daemon.monitor import Monitor
from hived.daemon.store import Store
from hived.daemon.supervise import Supervisor
from hived_client.vocabulary.world import Endpoint


class Fleet:
    """All monitors. Knows whom to ask about an endpoint."""

    def __init__(
        self, store: Store, supervisor: Supervisor, make: Callable[[Endpoint], Monitor | None]
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._make = make
        self._monitors: dict[str, tuple[Monitor, anyio.CancelScope]] = {}

    def __repr__(self) -> str:
        return f"<Fleet of {len(self._monitors)}>"

    def statistics(self) -> dict[str, object]:
        """Return each monitor's counts."""
        return {name: monitor.statistics() for name, (monitor, _) in self._monitors.items()}

    async def run(self) -> None:
        """Keep the monitors those of the World."""
        async with anyio.create_task_group() as tasks:
            while True:
                world = self._store.world
                self._match({endpoint.name: endpoint for endpoint in world.endpoints}, tasks)
                await self._store.wait_changed(world.generation)

    async def refresh(self, endpoints: Iterable[str]) -> None:
        """Have these endpoints looked at, all at once, and wait for it."""
        async with anyio.create_task_group() as tasks:
            for name in endpoints:
                if name in self._monitors:
                    tasks.start_soon(self._monitors[name][0].refresh)

    def poke(self, endpoint: str) -> None:
        """Have an endpoint looked at, without waiting."""
        if endpoint in self._monitors:
            self._monitors[endpoint][0].poke()

    def _match(self, endpoints: dict[str, Endpoint], tasks: anyio.abc.TaskGroup) -> None:
        for name in self._monitors.keys() - endpoints.keys():
            self._monitors.pop(name)[1].cancel()
        for name, endpoint in endpoints.items():
            if name in self._monitors:
                continue
            monitor = self._make(endpoint)
            if monitor is not None:
                scope = anyio.CancelScope()
                self._monitors[name] = (monitor, scope)
                tasks.start_soon(self._keep, monitor, scope)

    async def _keep(self, monitor: Monitor, scope: anyio.CancelScope) -> None:
        with scope:
            await self._supervisor.keep(f"monitor.{monitor.name}", monitor.run)
