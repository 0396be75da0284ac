"""One monitor an endpoint: look, tell the World, and wait until there is cause to look again.

Cause is: the time has come, a knock came out otherwise than the state says, the server's process ended
or was stopped, the server itself said that something changed, or somebody asked. Whoever asks while a
look is already due shares it; a look that had begun before the question does not count as its answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
import anyio.abc
import msgspec
import structlog

from hived.daemon.clock import Clock
from hived.daemon.store import Store
from hived.daemon.surroundings import Place, Surroundings
from hived.daemon.watching import ProcessWatch
from hived.decisions.absence import other_loopbacks, shown_address
from hived.decisions.addresses import host_and_port
from hived.decisions.cadence import Plan, backoff, plan
from hived.decisions.outcomes import Circumstances, Locked, NoAnswer, Observation, Outcome
from hived.decisions.transitions import observe, same_place, shelve
from hived.providers.base import Probe
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Model

KNOCK_TIMEOUT = 1.0
"""Seconds for a knock."""

PUSH_PAUSE = 0.1
"""Seconds between two looks that a server's own events cause."""

PUSH_AGAIN = 5.0
"""Seconds before an event stream that ended is opened again."""

PUSH_LAST = 600.0
"""The same at most, where streams end as soon as they begin: an older router has none."""

PLACE_AGE = 10.0
"""Seconds before the files of this machine are read again for a server that is still down."""

SHELF_AGE = 2.0
"""Seconds before the models on disk are read again for a server that is still down and asked for."""

LATE = 0.05
"""Seconds in which a process that is ending has gone, and another may have its port."""

SEEKS = (0.0, LATE, 1.0)
"""Seconds before each try to find the process behind a port, where such processes are ours to see: one that
is just going is not found, and neither is the next one yet."""

log = structlog.get_logger(__name__)

Knock = Callable[[str, int], Awaitable[bool]]

Shelf = Callable[[], Awaitable[tuple[Model, ...]]]
"""Reads from disk what a server that is down would have. Bounded in time; never raises."""


class Background(Protocol):
    """What hived knows of a server that it started itself."""

    async def circumstances(self, endpoint: Endpoint) -> Circumstances: ...


class Monitor:
    """Watches one endpoint for as long as it is in the World."""

    def __init__(
        self,
        name: str,
        probe: Probe,
        store: Store,
        *,
        background: Background,
        processes: ProcessWatch,
        knock: Knock,
        random: Callable[[], float],
        clock: Clock,
        shelf: Shelf | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.name = name
        self._probe = probe
        self._store = store
        self._background = background
        self._processes = processes
        self._knock = knock
        self._random = random
        self._clock = clock
        self._shelf = shelf
        self._shelved: tuple[float | None, float] | None = None
        """Since when the server was down whose models were read from disk, and when that was."""
        self._surroundings = surroundings
        self._place: Place | None = None
        self._placed: float | None = None
        self._forwarder: str | None = None
        self._heard: float | None = None
        self._cause = anyio.Event()
        self._asked = 0
        self._answered = 0
        self._looked = anyio.Event()
        self._failures = 0
        self._watched = False
        self._visible = False
        self._watching = False
        self._sought: float | None = None
        self._pushing = False
        self._push_failures = 0
        self._released = False
        self.looks = 0
        self.knocks = 0

    def __repr__(self) -> str:
        return f"<Monitor {self.name}, {self.looks} looks, {self.knocks} knocks>"

    def statistics(self) -> dict[str, int | bool]:
        """Return counts for ``hived status``."""
        return {
            "looks": self.looks,
            "knocks": self.knocks,
            "failures": self._failures,
            "watched": self._watched,
            "pushed": self._pushing,
        }

    def poke(self) -> None:
        """Give cause for a look now."""
        self.ask()

    def ask(self) -> int:
        """Give cause for a look now, and return its number."""
        self._asked += 1
        self._cause.set()
        return self._asked

    async def refresh(self) -> None:
        """Have the server looked at, and wait for that look. Any number of callers share one.

        Returns without one where the monitor ends first.
        """
        await self.wait_looked(self.ask())

    def due(self) -> int | None:
        """Return the number of the look that somebody asked for and that is due or under way, if one is."""
        return self._answered + 1 if self._answered < self._asked and not self._released else None

    async def wait_looked(self, number: int) -> None:
        """Wait for the look of this number, or for the end of the monitor."""
        while self._answered < number and not self._released:
            await self._looked.wait()

    def release(self) -> None:
        """Let whoever waits go: this monitor will not look again."""
        self._released = True
        self._looked.set()

    async def run(self) -> None:
        """Watch until the endpoint is no longer in the World."""
        self._watched = self._watching = self._pushing = False
        self._sought = None
        self._forwarder = None
        async with anyio.create_task_group() as tasks:
            thorough = True
            while True:
                endpoint = self._store.endpoint(self.name)
                if endpoint is None:
                    break
                after, next_plan = await self._look(endpoint, thorough=thorough)
                if after is None:
                    break
                self._follow(after, tasks)
                self._look_on_the_shelf(after, tasks)
                thorough = await self._wait(after, next_plan)
            tasks.cancel_scope.cancel()

    async def _look(self, endpoint: Endpoint, *, thorough: bool) -> tuple[Endpoint | None, Plan]:
        answers = self._asked
        self._cause = anyio.Event()
        self.looks += 1
        began = anyio.current_time()
        outcome = await self._probe.look(endpoint, thorough=thorough)
        if isinstance(outcome, NoAnswer) and outcome.kind == "broken" and endpoint.state != "failed":
            # A look is several requests: the server may have ended in the middle, and another have its port.
            await anyio.sleep(LATE)
            outcome = await self._probe.look(endpoint, thorough=True)
        latency = anyio.current_time() - began
        circumstances = await self._circumstances(endpoint, outcome)
        current = self._store.endpoint(self.name)
        if current is None or not same_place(endpoint, current):
            # It moved meanwhile: what the old place said says nothing of the new one.
            return None, self._plan(endpoint)
        self._failures = self._failures + 1 if isinstance(outcome, NoAnswer) else 0
        observation = Observation(
            endpoint=self.name,
            at=self._clock.wall(),
            outcome=outcome,
            circumstances=circumstances,
        )
        self._store.update(lambda world: observe(world, observation))
        after = self._store.endpoint(self.name)
        next_plan = self._plan(after or endpoint)
        if after is not None:
            self._store.saw(self.name, latency=latency, cadence=next_plan.cadence)
            if after.state != endpoint.state:
                log.info(
                    "endpoint.changed",
                    endpoint=self.name,
                    before=endpoint.state,
                    after=after.state,
                    why=after.reason.message if after.reason else None,
                )
        self._answered = answers
        looked, self._looked = self._looked, anyio.Event()
        looked.set()
        return after, next_plan

    async def _circumstances(self, endpoint: Endpoint, outcome: Outcome) -> Circumstances:
        """Gather what else is known, from this machine too where the endpoint is on it."""
        asked = self._surroundings
        known = await self._background.circumstances(endpoint)
        if asked is not None and isinstance(outcome, Locked) and endpoint.key_ref is not None:
            known = msgspec.structs.replace(known, key_unset=not asked.has_variable(endpoint.key_ref))
        if asked is None or locality_of(endpoint.url) != "device":
            return known
        if not isinstance(outcome, NoAnswer):
            self._heard = self._clock.wall()
            # Before it is believed: what is private must not go through a tunnel in the first moment.
            # And at each look where nobody tells of the end of whoever listens: another may have its port.
            if self._forwarder is None or not self._watched:
                self._forwarder = await asked.forwarder(*host_and_port(endpoint.url))
            return msgspec.structs.replace(known, forwarder=self._forwarder)
        if outcome.kind != "refused":
            return known
        self._forwarder = None
        if self._placed is None or anyio.current_time() - self._placed >= PLACE_AGE:
            self._placed = anyio.current_time()
            self._place = await asked.place(endpoint.provider) or self._place
        place = self._place or Place()
        return msgspec.structs.replace(
            known,
            launching_since=await self._launching_since(endpoint),
            other=await self._other_family(endpoint),
            installation=place.installation,
            inside=place.inside,
        )

    async def _launching_since(self, endpoint: Endpoint) -> float | None:
        """Say since when a process lives that will listen there, for the kinds that take minutes to."""
        kind = kind_named(endpoint.provider, self._store.world.kinds)
        if self._surroundings is None or kind is None or not kind.listens_late:
            return None
        since = await self._surroundings.launching_since(host_and_port(endpoint.url)[1])
        # One that has served already is on its way out.
        return None if since is None or (self._heard is not None and since <= self._heard) else since

    async def _other_family(self, endpoint: Endpoint) -> str:
        """Return the address of the other family where the same port accepts; a guess asks for none."""
        for other in () if endpoint.source in GUESSED else other_loopbacks(endpoint.url):
            if await self._knock(*other):
                return shown_address(*other)
        return ""

    async def _wait(self, endpoint: Endpoint, next_plan: Plan) -> bool:
        """Wait for cause to look again; return whether nothing of before is to be believed then."""
        look_at = None if next_plan.look is None else anyio.current_time() + next_plan.look
        while True:
            waits = [look_at - anyio.current_time()] if look_at is not None else []
            waits += [next_plan.knock] if next_plan.knock is not None else []
            with anyio.move_on_after(max(0.0, min(waits)) if waits else None):
                await self._cause.wait()
                return True
            if look_at is not None and anyio.current_time() >= look_at:
                return endpoint.state not in CALLABLE
            if next_plan.knock is not None and await self._knock_says_otherwise(endpoint):
                return True
            if endpoint.state == "down":
                self._failures += 1
                next_plan = self._plan(endpoint)

    async def _knock_says_otherwise(self, endpoint: Endpoint) -> bool:
        self.knocks += 1
        began = anyio.current_time()
        accepted = await self._knock(*host_and_port(endpoint.url))
        there = endpoint.state != "down"
        if accepted is not there:
            return True
        near = locality_of(endpoint.url) == "device"
        if not there and near and await self._launching_since(endpoint) is not None:
            return True
        if endpoint.state not in CALLABLE:
            # The knock has confirmed all that is known; of a server that is ready it proves too little.
            self._store.saw(
                self.name, latency=anyio.current_time() - began, cadence=self._plan(endpoint).cadence
            )
        return False

    def _plan(self, endpoint: Endpoint) -> Plan:
        kind = kind_named(endpoint.provider, self._store.world.kinds)
        return plan(
            endpoint,
            failures=self._failures,
            now=self._clock.wall(),
            watched=self._watched and not (kind is not None and kind.stops_listening),
            random=self._random,
        )

    def _follow(self, endpoint: Endpoint, tasks: anyio.abc.TaskGroup) -> None:
        """Have the system and the server tell us what they can, once the server answers."""
        # Finding a process by its port reads all of /proc: once for each time that the server came up.
        sought = endpoint.since == self._sought
        near = locality_of(endpoint.url) == "device"
        if near and endpoint.state != "down" and not self._watching and not sought:
            self._watching = True
            self._sought = endpoint.since
            tasks.start_soon(self._follow_process, endpoint)
        if endpoint.state in CALLABLE and self._probe.has_push(endpoint) and not self._pushing:
            self._pushing = True
            tasks.start_soon(self._follow_push, endpoint)

    def _look_on_the_shelf(self, endpoint: Endpoint, tasks: anyio.abc.TaskGroup) -> None:
        """Read what the server would have if it ran: once when it is down, and now and then when asked for.

        While it is down there is no other cause for a look, and something else may have fetched a model.
        """
        near = locality_of(endpoint.url) == "device"
        if self._shelf is None or not near or endpoint.state != "down":
            return
        now = anyio.current_time()
        if self._shelved is not None:
            since, at = self._shelved
            if since == endpoint.since and now - at < SHELF_AGE:
                return
        self._shelved = endpoint.since, now
        tasks.start_soon(self._read_shelf, self._shelf)

    async def _read_shelf(self, shelf: Shelf) -> None:
        models = await shelf()
        if models:
            self._store.update(lambda world: shelve(world, self.name, models, self._clock.wall()))

    async def _follow_process(self, endpoint: Endpoint) -> None:
        def found() -> None:
            # Whoever was looked at may have gone before its process was sought, and this be another.
            self._watched = self._visible = True
            self.poke()

        try:
            for pause in SEEKS:
                await anyio.sleep(pause)
                await self._processes.watch(*host_and_port(endpoint.url), found=found, told=self.poke)
                if self._watched or not self._visible:
                    break
            if self._watched:
                # Until another process is found the port is knocked at: it may serve on, and die unseen.
                self._watched = False
                self._sought = None
                self._forwarder = None  # whoever has its port now may be another
            if self._visible:
                # It ended; or it had just gone when it was sought, and another may have its port by now,
                # which a knock could not tell from it.
                self.poke()
                await anyio.sleep(LATE)
                now = self._store.endpoint(self.name)
                if now is not None and now.state != "down":
                    self.poke()  # on its way out it may still have accepted, and broken off
            elif not await self._knock(*host_and_port(endpoint.url)):
                self.poke()  # nothing was found because it has gone
        except TimeoutError:
            self._sought = None  # at the next look it is sought again
        finally:
            self._watched = self._watching = False

    async def _follow_push(self, endpoint: Endpoint) -> None:
        soon = anyio.Event()

        async def look_soon() -> None:
            nonlocal soon
            while True:
                await soon.wait()
                soon = anyio.Event()
                self.poke()
                await anyio.sleep(PUSH_PAUSE)

        began = anyio.current_time()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look_soon)
                await self._probe.push(endpoint, lambda: soon.set())
                tasks.cancel_scope.cancel()
            lasted = anyio.current_time() - began > PUSH_AGAIN
            self._push_failures = 1 if lasted else self._push_failures + 1
            if self._push_failures == 1:
                self.poke()
            await anyio.sleep(backoff(self._push_failures, PUSH_AGAIN, PUSH_LAST))
        finally:
            self._pushing = False


async def knock(host: str, port: int) -> bool:
    """Open a TCP connection and close it; tell whether it was accepted."""
    with anyio.move_on_after(KNOCK_TIMEOUT):
        try:
            stream = await anyio.connect_tcp(host, port)
        except OSError:
            return False
        await stream.aclose()
        return True
    return False
