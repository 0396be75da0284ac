"""A probe under test: its looks, what each costs, what the World makes of them, and what was sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from hived.decisions.outcomes import Circumstances, Heard, Observation, Outcome
from hived.decisions.transitions import observe
from hived.providers.base import Probe
from hived.providers.http import Http
from hived_client.vocabulary.world import Endpoint, World
from tests.servers.loopback import HttpLoopback, Loopback, Reply, Request
from tests.servers.strangers import (
    AnswersEverything,
    AnswersJsonEverything,
    Crumbs,
    DeepJson,
    Dribble,
    GzipBomb,
    HalfResponse,
    HugeBody,
    OpenAiCompatible,
    Resets,
    Silent,
)

KEY = "KEY"
PATIENCE = 240.0
"""Seconds for a look at whoever takes as long as he can, beside many such looks: it has three or four."""
HOSTILE: tuple[Callable[[], Loopback], ...] = (
    AnswersEverything,
    AnswersJsonEverything,
    OpenAiCompatible,
    Silent,
    Dribble,
    Resets,
    HalfResponse,
    HugeBody,
    GzipBomb,
    DeepJson,
    Crumbs,
)

NASTY: tuple[object, ...] = (
    None,
    True,
    -1,
    0.5,
    2**60,
    "",
    "x" * 10_000,
    "\x1b[2J",
    "m‮gpj",
    [],
    {},
    [[]],
    {"a": 1},
)
"""Values that a field may have although nobody would think so."""


def at(provider: str, url: str, **more: object) -> Endpoint:
    """Return an endpoint that somebody gave, of which nothing is known yet."""
    return Endpoint(name="lab", provider=provider, url=url, source="configuration", **more)  # type: ignore[arg-type]


def believing(endpoint: Endpoint, outcome: Outcome) -> Endpoint:
    """Return the endpoint as the World has it after that look."""
    seen = Observation(endpoint="lab", at=1.0, outcome=outcome, circumstances=Circumstances(at=1.0))
    return observe(World(generation=0, endpoints=(endpoint,)), seen).endpoints[0]


class Looking:
    """A probe, and how many requests its last look cost."""

    def __init__(
        self, make: Callable[[Http, Mapping[str, str]], Probe], environment: Mapping[str, str]
    ) -> None:
        self.http = Http()
        self.probe = make(self.http, environment)
        self.cost = 0

    async def look(self, endpoint: Endpoint, *, thorough: bool = True) -> Outcome:
        before = self.http.requests
        outcome = await self.probe.look(endpoint, thorough=thorough)
        self.cost = self.http.requests - before
        return outcome

    async def heard(self, endpoint: Endpoint, *, thorough: bool = True) -> Heard:
        outcome = await self.look(endpoint, thorough=thorough)
        assert isinstance(outcome, Heard), outcome
        return outcome

    async def learnt(self, endpoint: Endpoint, *, thorough: bool = True) -> Endpoint:
        """Look, and return what is believed after it."""
        return believing(endpoint, await self.look(endpoint, thorough=thorough))


@contextlib.asynccontextmanager
async def looking(
    make: Callable[[Http, Mapping[str, str]], Probe], **environment: str
) -> AsyncIterator[Looking]:
    """Give a probe that lives as long as the block."""
    one = Looking(make, environment)
    try:
        yield one
    finally:
        await one.http.aclose()


class Says(HttpLoopback):
    """Answers each path with a status and a body, and keeps what it was sent; 404 elsewhere."""

    def __init__(self, answers: Mapping[str, tuple[int, bytes]], *, server: str = "", port: int = 0) -> None:
        super().__init__(port=port)
        self.answers = dict(answers)
        self.server = server
        self.heads: list[tuple[str, dict[str, str]]] = []

    def answer(self, request: Request) -> Reply:
        self.heads.append((request.path, request.headers))
        status, body = self.answers.get(request.path, (404, b'{"detail":"Not Found"}'))
        named = (("Server", self.server),) if self.server else ()
        return Reply(status=status, headers=(*named, ("Content-Length", str(len(body)))), body=body)

    @property
    def keyed(self) -> list[str]:
        """The paths for which a key was sent."""
        return [path for path, headers in self.heads if "authorization" in headers]
