"""Everything that a monitor reaches out to, scripted by the test and counting what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from hived.daemon.clock import Clock
from hived.decisions.outcomes import Circumstances, Heard, NoAnswer, Outcome
from hived_client.vocabulary.world import Endpoint, Model

MODELS = (Model(name="m", state="loaded"),)
READY = Heard(state="ready", version="b1", mode="single", models=MODELS)
ROUTER = Heard(state="ready", version="b1", mode="router", models=MODELS)
LOADING = Heard(state="loading")
REFUSED = NoAnswer(kind="refused", why="connection refused")
SILENT = NoAnswer(kind="silent", why="no answer")


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look: when it began, at what, and whether nothing of before was believed."""

    at: float
    url: str
    thorough: bool


@dataclass(kw_only=True)
class FakeServer:
    """A server, seen from a monitor: its probe, its port, its process and its event stream."""

    outcome: Outcome | Exception = READY
    takes: float = 0.0
    """Seconds that a look lasts. What it finds is what is there when it *began*."""
    listening: bool = True
    visible: bool = False
    """Whether its process can be seen."""
    slow_searches: int = 0
    """Searches for its process that do not come to an end in time."""
    pushes: bool = False
    push_lasts: float | None = None
    """Seconds until an event stream ends by itself."""
    provider: str = "llamacpp"
    looks: list[Look] = field(default_factory=list)
    knocks: list[float] = field(default_factory=list)
    sought: list[float] = field(default_factory=list)
    streams: list[float] = field(default_factory=list)
    told: Callable[[], None] | None = None
    """Says that the process was stopped or goes on."""
    event: Callable[[], None] | None = None
    """Says that the server's own event came."""
    ended: anyio.Event = field(default_factory=anyio.Event)
    cut: anyio.Event = field(default_factory=anyio.Event)

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        self.looks.append(Look(at=anyio.current_time(), url=endpoint.url, thorough=thorough))
        outcome = self.outcome
        await anyio.sleep(self.takes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def has_push(self, endpoint: Endpoint) -> bool:
        return self.pushes

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        self.streams.append(anyio.current_time())
        self.event = told
        with anyio.move_on_after(self.push_lasts):
            await self.cut.wait()
        self.event = None

    async def knock(self, host: str, port: int) -> bool:
        self.knocks.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        return self.listening

    async def watch(
        self, host: str, port: int, *, found: Callable[[], None], told: Callable[[], None]
    ) -> None:
        self.sought.append(anyio.current_time())
        if self.slow_searches:
            self.slow_searches -= 1
            raise TimeoutError
        if self.visible:
            self.told = told
            found()
            await self.ended.wait()
            self.told = None

    def die(self) -> None:
        """Be killed: the process ends and the port refuses."""
        self.outcome, self.listening, self.visible = REFUSED, False, False
        self.ended.set()

    def hang_up(self) -> None:
        """End the event stream."""
        self.cut.set()
        self.cut = anyio.Event()

    def times(self) -> list[float]:
        """Return when each look began, to the millisecond."""
        return [round(look.at, 3) for look in self.looks]


class NoBackground:
    """A daemon that started no server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def circumstances(self, endpoint: Endpoint) -> Circumstances:
        return Circumstances(at=self._clock.wall())
