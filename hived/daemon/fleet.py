"""A monitor for every endpoint of the World: started when one appears, cancelled when it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio
import anyio.abc
import msgspec

from hived.daemon.monitor import Monitor
from hived.daemon.store import Store
from hived.daemon.supervise import Supervisor
from hived.decisions.transitions import same_place
from hived_client.vocabulary.world import Endpoint


class _Watched(msgspec.Struct):
    """A monitor, what ends it, and the endpoint as it was when that was last compared."""

    monitor: Monitor
    scope: anyio.CancelScope
    endpoint: Endpoint


class Fleet:
    """All monitors. Knows whom to ask about an endpoint."""

    def __init__(
        self, store: Store, supervisor: Supervisor, make: Callable[[Endpoint], Monitor | None]
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._make = make
        self._monitors: dict[str, _Watched] = {}
        self._matched = -1
        self._has_matched = anyio.Event()
        self.turns = 0

    def __repr__(self) -> str:
        return f"<Fleet of {len(self._monitors)}>"

    def statistics(self) -> dict[str, object]:
        """Return each monitor's counts."""
        return {name: watched.monitor.statistics() for name, watched in self._monitors.items()}

    @property
    def is_behind(self) -> bool:
        """Whether the World has changed since the monitors were matched to it."""
        return self._matched != self._store.world.generation

    async def run(self) -> None:
        """Keep the monitors those of the World."""
        self._monitors.clear()  # after a crash, those of before are cancelled
        self._matched = -1
        async with anyio.create_task_group() as tasks:
            while True:
                self.turns += 1
                world = self._store.world
                self._match({endpoint.name: endpoint for endpoint in world.endpoints}, tasks)
                self._matched = world.generation
                has_matched, self._has_matched = self._has_matched, anyio.Event()
                has_matched.set()
                await self._store.wait_changed(world.generation)

    async def refresh(self, endpoints: Iterable[str]) -> None:
        """Have these endpoints looked at, all at once, and wait for it.

        One that has come into the World just now has no monitor for a moment: that is waited for. So is
        the fleet itself, which may not run yet; bound it.
        """
        await self._match_up()
        async with anyio.create_task_group() as tasks:
            for name in endpoints:
                tasks.start_soon(self._refresh, name)

    async def _match_up(self) -> None:
        wanted = self._store.world.generation
        while self._matched < wanted:
            await self._has_matched.wait()

    async def share(self, endpoints: Iterable[str]) -> bool:
        """Have these endpoints looked at, or wait for looks that somebody has asked for already.

        Tell whether all of them were asked for by this call: another's may have begun before it, so that
        only what such a look finds counts, not what it misses. Where the fleet knows the World as it is,
        the looks are asked for, or joined, before anything else can happen.
        """
        await self._match_up()
        own = True
        waits: list[tuple[_Watched, int]] = []
        for name in endpoints:
            if (watched := self._monitors.get(name)) is not None:
                due = watched.monitor.due()
                own = own and due is None
                waits.append((watched, watched.monitor.ask() if due is None else due))
        for watched, number in waits:
            await watched.monitor.wait_looked(number)
            if watched is not self._monitors.get(watched.monitor.name):
                await self._refresh(watched.monitor.name)  # it has moved
        return own

    def poke_all(self) -> None:
        """Have every endpoint looked at, without waiting."""
        for watched in self._monitors.values():
            watched.monitor.poke()

    def poke(self, endpoint: str) -> None:
        """Have an endpoint looked at, without waiting."""
        if endpoint in self._monitors:
            self._monitors[endpoint].monitor.poke()

    async def _refresh(self, name: str) -> None:
        """Have an endpoint looked at; where it moves meanwhile, by the monitor of its new place."""
        while (watched := self._monitors.get(name)) is not None:
            await watched.monitor.refresh()
            if watched is self._monitors.get(name):
                return

    def _match(self, endpoints: dict[str, Endpoint], tasks: anyio.abc.TaskGroup) -> None:
        for name, watched in tuple(self._monitors.items()):
            endpoint = endpoints.get(name)
            if endpoint is None or not same_place(watched.endpoint, endpoint):
                # What waits for the old place (a knock, for ever) would never look at the new one.
                self._end(watched)
                continue
            if endpoint.key_ref != watched.endpoint.key_ref:
                watched.monitor.poke()
            watched.endpoint = endpoint
        for name, endpoint in endpoints.items():
            if name in self._monitors:
                continue
            monitor = self._make(endpoint)
            if monitor is not None:
                watched = _Watched(monitor, anyio.CancelScope(), endpoint)
                self._monitors[name] = watched
                tasks.start_soon(self._keep, watched)

    async def _keep(self, watched: _Watched) -> None:
        try:
            with watched.scope:
                await self._supervisor.keep(f"monitor.{watched.monitor.name}", watched.monitor.run)
        finally:
            self._end(watched)

    def _end(self, watched: _Watched) -> None:
        watched.scope.cancel()
        if self._monitors.get(watched.monitor.name) is watched:
            del self._monitors[watched.monitor.name]
        watched.monitor.release()
