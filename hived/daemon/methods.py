"""What can be asked on the socket: one function a method, from a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio
import msgspec

from hived.daemon.fleet import Fleet
from hived.daemon.hardware import HardwareWatch
from hived.daemon.jobs import Jobs
from hived.daemon.requests import RequestCounter
from hived.daemon.server import Method, Talk
from hived.daemon.store import Store
from hived.decisions.servers_word import with_servers
from hived_client.doors.ask import Resolved
from hived_client.doors.wire import (
    Refreshed,
    RefreshParams,
    ResolveParams,
    Retired,
    RetireParams,
    StartParams,
    StopParams,
)
from hived_client.errors import Refused
from hived_client.resolution import Answer, Refusal, Target, concerned
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.hardware import Asked, Hardware
from hived_client.vocabulary.requests import RequestCounts
from hived_client.vocabulary.world import CALLABLE, World

LONGEST_WAIT = 60.0
"""Seconds for which a question may wait for a look, whatever it asks for."""

A_MOMENT = 0.25
"""Seconds for which a no needs no other look: whoever asks in a loop must not become the server's load."""

HANGING = ("unreachable", "starting", "loading", "unknown")
"""States in which a look may take long without anything being otherwise than it was."""

P = TypeVar("P", bound=msgspec.Struct)


class Methods:
    """The daemon's verbs.

    Whoever is told of a change finds it in the files too: they are written before the reply is.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        jobs: Jobs,
        counter: RequestCounter,
        hardware: HardwareWatch,
        *,
        publish: Callable[[], None],
        reload: Callable[[], Awaitable[None]],
        retire: Callable[[], None],
        others_busy: Callable[[Talk], bool],
        statistics: Callable[[], dict[str, object]],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._jobs = jobs
        self._counter = counter
        self._hardware = hardware
        self._publish = publish
        self._reload = reload
        self._retire = retire
        self._others_busy = others_busy
        self._statistics = statistics

    def table(self) -> Mapping[str, Method]:
        """Return every method by name; ``subscribe`` is the server's own."""
        return {
            "world": self.world,
            "requests": self.requests,
            "hardware": self.hardware,
            "resolve": self.resolve,
            "refresh": self.refresh,
            "start": self.start,
            "stop": self.stop,
            "reload": self.reload,
            "retire": self.retire,
            "statistics": self.statistics,
        }

    async def world(self, params: bytes, talk: Talk) -> World:
        """Return the World."""
        return self._store.world

    async def requests(self, params: bytes, talk: Talk) -> RequestCounts:
        """Return how many requests servers work on, at most a second old; asks them for it."""
        self._hardware.watched()  # whoever asks this looks at the rest too
        return await self._counter.read()

    async def hardware(self, params: bytes, talk: Talk) -> Hardware:
        """Return what this machine is, and what of it is free now; looks again for it."""
        found = await self._hardware.read(_decode(params, Asked))
        self._publish()
        return with_servers(found, self._store.world.endpoints)

    async def resolve(self, params: bytes, talk: Talk) -> Resolved:
        """Answer a question; look again, within its timeout, before saying no or believing old facts."""
        asked = _decode(params, ResolveParams)
        found = self._store.answer(asked.question)
        if asked.fresh or not self._is_settled(found):
            late = await self._look_again(asked)
            self._publish()
            found = self._store.answer(asked.question)
            if late:
                found = self._unconfirmed(found, asked)
        if isinstance(found, Target):
            return Resolved(
                generation=self._store.world.generation, target=found, age=self._store.age(found.endpoint)
            )
        return Resolved(generation=self._store.world.generation, refusal=found)

    async def refresh(self, params: bytes, talk: Talk) -> Refreshed:
        """Look at one endpoint, or at all, and wait for it."""
        asked = _decode(params, RefreshParams)
        names = {
            name: each.name for each in self._store.world.endpoints for name in (each.name, *each.aliases)
        }
        if asked.endpoint is not None and asked.endpoint not in names:
            raise Refused(fault("provider.unknown", prefix=asked.endpoint, known=", ".join(names)))
        wanted = set(names.values()) if asked.endpoint is None else {names[asked.endpoint]}
        with anyio.move_on_after(_bounded(asked.timeout)):
            await self._fleet.refresh(wanted)
        self._publish()
        return Refreshed(generation=self._store.world.generation)

    async def start(self, params: bytes, talk: Talk) -> msgspec.Struct:
        """Start a server; tell how far it is."""
        try:
            return await self._jobs.start(_decode(params, StartParams), talk.tell)
        finally:
            self._publish()

    async def stop(self, params: bytes, talk: Talk) -> msgspec.Struct:
        """Stop servers that hived started."""
        try:
            return await self._jobs.stop(_decode(params, StopParams))
        finally:
            self._publish()

    async def reload(self, params: bytes, talk: Talk) -> Refreshed:
        """Read the configuration again."""
        await self._reload()
        self._publish()
        return Refreshed(generation=self._store.world.generation)

    async def retire(self, params: bytes, talk: Talk) -> Retired:
        """End in good order, after this reply; for who asks so, only where that disturbs nobody."""
        if _decode(params, RetireParams).if_idle and self._others_busy(talk):
            return Retired(retiring=False)
        self._retire()
        return Retired()

    async def statistics(self, params: bytes, talk: Talk) -> dict[str, object]:
        """Return what every part counts about itself."""
        return self._statistics()

    async def _look_again(self, asked: ResolveParams) -> bool:
        """Look at what a question is about, within its timeout; tell whether that was too short."""
        names = concerned(self._store.catalogue, asked.question)
        waited = [name for name in names if asked.fresh or self._is_worth_waiting_for(name)]
        for name in set(names) - set(waited):
            self._fleet.poke(name)
        with anyio.move_on_after(_bounded(asked.timeout)) as patience:
            if not asked.fresh:
                # Many that ask at once for a model that has just come share the look of the first.
                if await self._fleet.share(waited):
                    return False
                found = self._store.answer(asked.question)
                if isinstance(found, Target) and self._is_settled(found):
                    return False
            await self._fleet.refresh(waited)
        return patience.cancelled_caught

    def _unconfirmed(self, found: Answer, asked: ResolveParams) -> Answer:
        """What the look should have confirmed: a yes with a warning, or a no if a new look was asked for."""
        name = found.endpoint or ""
        if asked.fresh and (isinstance(found, Target) or self._is_disproved(name)):
            problem = fault(
                "deadline",
                what=f"a new look at {name}",
                seconds=_bounded(asked.timeout),
                endpoint=name,
                model=found.name if isinstance(found, Target) else asked.question.model,
            )
            return Refusal(fault=problem, endpoint=name)
        if isinstance(found, Refusal):
            return found
        old = fault("facts.old", endpoint=found.endpoint, age=self._store.age(found.endpoint))
        return msgspec.structs.replace(found, warnings=(*found.warnings, old))

    def _is_disproved(self, name: str) -> bool:
        """Tell whether a look that takes long shows by that alone that an endpoint is not as it was.

        What is down refuses at once, and what answers answers at once: only what hangs may still hang.
        """
        endpoint = self._store.endpoint(name)
        return endpoint is not None and endpoint.state not in HANGING

    def _is_settled(self, found: Answer) -> bool:
        """Tell whether a look could not show anything else: a young yes, or a no of this very moment."""
        if isinstance(found, Target):
            return self._store.is_young(found.endpoint)
        endpoint = self._store.endpoint(found.endpoint or "")
        if endpoint is None or endpoint.state not in CALLABLE:
            return False  # a look at what is not there costs nobody anything
        age = self._store.age(endpoint.name)
        return age is not None and age < A_MOMENT

    def _is_worth_waiting_for(self, name: str) -> bool:
        """Tell whether a look can come to something else within a moment.

        A server that was just found to be silent costs its whole timeout again: the question is
        answered from that look, and the next one begins meanwhile.
        """
        endpoint = self._store.endpoint(name)
        return endpoint is None or endpoint.state != "unreachable" or not self._store.is_young(name)


def _decode(params: bytes, shape: type[P]) -> P:
    return msgspec.msgpack.decode(params, type=shape)


def _bounded(timeout: float) -> float:
    # A NaN would never pass, and is what msgpack lets through.
    return min(LONGEST_WAIT, max(0.0, timeout)) if timeout == timeout else 0.0
