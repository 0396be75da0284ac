"""The World as it is now: the one place that holds it, and the only way to change it.

A change is a pure function from one World to the next. It happens at once, between two awaits, so no
reader ever sees half of it; then those who wait are woken and subscribers are told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hived.daemon.clock import Clock
from hived.decisions.changes import changes
from hived_client.resolution import Answer, Question, WorldCatalogue, answer
from hived_client.vocabulary.world import SLOTS, Change, Endpoint, World

MOST_WAITING = 4096
"""Changes that wait for one subscriber; more, and it is told that it lags, and let go. What one look changed
is never too much for one that keeps up: the first look at a server with 500 models is 500 changes at once."""

MOST_ANSWERS = 1024
"""Answers that are kept for one generation."""


Changes = tuple[Change, ...]
"""What one update of the World changed."""


class Subscription:
    """Changes for one subscriber, in order and without a gap; ``lagged`` once there was one."""

    def __init__(
        self,
        send: MemoryObjectSendStream[tuple[int, Changes]],
        receive: MemoryObjectReceiveStream[tuple[int, Changes]],
    ) -> None:
        self._send = send
        self._receive = receive
        self._waiting = 0
        self.lagged = False

    def offer(self, generation: int, changed: Changes) -> bool:
        """Queue what changed; ``False`` when there is no room, which ends the subscription."""
        if self._waiting and self._waiting + len(changed) > MOST_WAITING:
            self.lagged = True
            self._send.close()
            return False
        try:
            self._send.send_nowait((generation, changed))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False  # it was let go; what changes while the daemon ends must not break on it
        self._waiting += len(changed)
        return True

    def __aiter__(self) -> Self:
        """Give what changed, with its generation, until the subscription is ended."""
        return self

    async def __anext__(self) -> tuple[int, Changes]:
        generation, changed = await self._receive.__anext__()
        self._waiting -= len(changed)
        return generation, changed

    def end(self) -> None:
        """End it, after what is already queued."""
        self._send.close()

    def close(self) -> None:
        """End it at once."""
        self._send.close()
        self._receive.close()


class Store:
    """Holds the World, the beat's table, and whoever waits for a change."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._changed = anyio.Event()
        self._subscriptions: set[Subscription] = set()
        self._slots: list[tuple[int, int, int]] = [(0, 0, 0)] * SLOTS
        self._catalogue: WorldCatalogue | None = None
        self._answers: dict[Question, Answer] = {}
        self._told = 0

    def __repr__(self) -> str:
        return f"<Store generation {self._world.generation}, {len(self._subscriptions)} subscribers>"

    def statistics(self) -> dict[str, int]:
        """Return counts for ``hived status``."""
        return {
            "generation": self._world.generation,
            "subscribers": len(self._subscriptions),
            "changes_told": self._told,
        }

    @property
    def world(self) -> World:
        """The World as it is now."""
        return self._world

    @property
    def catalogue(self) -> WorldCatalogue:
        """The World as a catalogue, made once a generation."""
        if self._catalogue is None:
            self._catalogue = WorldCatalogue(self._world)
        return self._catalogue

    @property
    def slots(self) -> list[tuple[int, int, int]]:
        """The beat's table: (seen, ns since the boot | latency, µs | cadence, ms) by slot."""
        return self._slots

    def endpoint(self, name: str) -> Endpoint | None:
        """Return an endpoint by name."""
        try:
            return self.catalogue.endpoint(name)
        except KeyError:
            return None

    def answer(self, question: Question) -> Answer:
        """Answer a question from the World as it is now."""
        known = self._answers.get(question)
        if known is None:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            known = self._answers[question] = answer(self.catalogue, question)
        return known

    def update(self, transition: Callable[[World], World]) -> World:
        """Make the next World. Nothing happens where it is the same one."""
        before, after = self._world, transition(self._world)
        if after is before:
            return before
        self._world = after
        self._catalogue = None
        self._answers.clear()
        self._forget_moved(before, after)
        changed = changes(before, after, self._clock.wall())
        self._told += len(changed)
        if changed:
            for subscription in [s for s in self._subscriptions if not s.offer(after.generation, changed)]:
                self._subscriptions.discard(subscription)
        waited, self._changed = self._changed, anyio.Event()
        waited.set()
        return after

    def saw(self, endpoint: str, *, latency: float | None, cadence: float) -> None:
        """Note that an endpoint was looked at just now, and when the next look is due."""
        found = self.endpoint(endpoint)
        if found is not None and found.slot >= 0:
            micro = 0 if latency is None else min(2**32 - 1, max(1, int(latency * 1e6)))
            self._slots[found.slot] = (self._clock.since_boot_ns(), micro, min(2**32 - 1, int(cadence * 1e3)))

    def age(self, endpoint: str) -> float | None:
        """Return the seconds since the last look at an endpoint; ``None`` where there was none."""
        found = self.endpoint(endpoint)
        if found is None or found.slot < 0 or not self._slots[found.slot][0]:
            return None
        return max(0.0, (self._clock.since_boot_ns() - self._slots[found.slot][0]) / 1e9)

    def is_young(self, endpoint: str) -> bool:
        """Tell whether the last look is younger than two cadences."""
        found, age = self.endpoint(endpoint), self.age(endpoint)
        return found is not None and age is not None and age < 2 * self._slots[found.slot][2] / 1e3 + 0.5

    async def wait_changed(self, generation: int) -> World:
        """Wait until the World is another than that generation, and return it."""
        while self._world.generation == generation:
            await self._changed.wait()
        return self._world

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Have every change to the World as it is now."""
        send, receive = anyio.create_memory_object_stream[tuple[int, Changes]](math.inf)
        subscription = Subscription(send, receive)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()

    def end_subscriptions(self) -> None:
        """Let every subscriber go, after what is already queued for it."""
        for subscription in self._subscriptions:
            subscription.end()

    def _forget_moved(self, before: World, after: World) -> None:
        """A slot that went to another endpoint, or whose endpoint moved, has not been looked at."""
        old = {endpoint.slot: (endpoint.name, endpoint.url) for endpoint in before.endpoints}
        for endpoint in after.endpoints:
            if endpoint.slot >= 0 and old.get(endpoint.slot) != (endpoint.name, endpoint.url):
                self._slots[endpoint.slot] = (0, 0, 0)
