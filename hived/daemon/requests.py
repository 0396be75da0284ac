"""What servers are doing this second, asked of them only when somebody asks hived.

While nobody watches no server hears anything. While anybody does, each server that tells of its requests
is asked once a second at most, whoever and how many the watchers are.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from hived.daemon.store import Store
from hived.providers.base import Probe
from hived.providers.counting import Counting
from hived.providers.http import Unusable
from hived_client.vocabulary.requests import RequestCounts, Requests
from hived_client.vocabulary.world import Endpoint

YOUNG = 1.0
"""Seconds for which an answer serves everybody who asks."""
LONGEST = 1.0
"""Seconds for one server's answer; what has not come by then is unknown."""


class RequestCounter:
    """Asks servers for their requests: one round at a time, shared by all who ask during it."""

    def __init__(self, store: Store, probes: Mapping[str, Probe]) -> None:
        self._store = store
        self._probes = probes
        self._last = RequestCounts(requests={})
        self._at = float("-inf")
        self._round: anyio.Event | None = None
        self.rounds = 0

    def __repr__(self) -> str:
        return f"<RequestCounter {self.rounds} rounds>"

    def statistics(self) -> dict[str, int]:
        """Return how often servers were asked."""
        return {"rounds": self.rounds}

    async def read(self) -> RequestCounts:
        """Return how many requests each server works on, at most a second old. Safe to cancel."""
        while self._round is not None:
            # Whoever runs it may be cut off: then one of those that waited runs the next.
            await self._round.wait()
        if anyio.current_time() - self._at < YOUNG:
            return self._last
        self._round = anyio.Event()
        try:
            begun = anyio.current_time()
            self._last = RequestCounts(requests=await self._ask_all())
            self._at = begun
            self.rounds += 1
        finally:
            self._round.set()
            self._round = None
        return self._last

    async def _ask_all(self) -> dict[str, Requests]:
        found: dict[str, Requests] = {}

        async def ask(endpoint: Endpoint, probe: Counting) -> None:
            with anyio.move_on_after(LONGEST):
                try:
                    told = await probe.count_requests(endpoint)
                except Unusable:
                    return
                if told is not None:
                    found[endpoint.name] = told

        async with anyio.create_task_group() as tasks:
            for endpoint in self._store.world.endpoints:
                probe = self._probes.get(endpoint.provider)
                if is_worth_asking(endpoint) and isinstance(probe, Counting):
                    tasks.start_soon(ask, endpoint, probe)
        return found


def is_worth_asking(endpoint: Endpoint) -> bool:
    """Tell whether a server answers and is what it should be: a sleeping one is left asleep."""
    is_another = any(warning.code == "server.other_dialect" for warning in endpoint.warnings)
    return endpoint.state in ("ready", "busy") and not is_another
