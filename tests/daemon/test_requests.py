"""Servers are asked for their requests while somebody asks hived, and once a second at most."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from hived.daemon.requests import YOUNG, RequestCounter
from hived.daemon.store import Store
from hived.decisions.outcomes import Heard, Outcome
from hived.providers.http import Unusable
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.requests import Requests
from hived_client.vocabulary.world import Endpoint, State
from tests.client.worlds import endpoint, world
from tests.daemon.virtual_time import Backend, VirtualClock, virtual

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


class Counted:
    """A probe whose servers tell how many requests they work on."""

    provider = "vllm"

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.asked: list[str] = []
        self.silent: set[str] = set()

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        return Heard(state="ready")

    def has_push(self, endpoint: Endpoint) -> bool:
        return False

    async def push(self, endpoint: Endpoint, told: object) -> None:
        return

    async def count_requests(self, endpoint: Endpoint) -> Requests | None:
        self.asked.append(endpoint.name)
        if endpoint.name in self.silent:
            raise Unusable("silent", "nothing came")
        await anyio.sleep(self.takes)
        return Requests(running=len(self.asked))


class Uncounted(Counted):
    """A probe that is none of those."""

    count_requests = None  # type: ignore[assignment]


def counter(probe: Counted, *endpoints: Endpoint) -> RequestCounter:
    served = endpoints or (endpoint("a", "vllm"),)
    return RequestCounter(Store(world(*served), VirtualClock()), {"vllm": probe, "ollama": Uncounted()})


async def test_whoever_asks_within_a_second_is_told_the_same() -> None:
    probe = Counted()
    one = counter(probe)
    for _ in range(20):
        assert (await one.read()).requests == {"a": Requests(running=1)}
    await anyio.sleep(YOUNG)
    assert (await one.read()).requests == {"a": Requests(running=2)}
    await anyio.sleep(3600)
    assert probe.asked == ["a", "a"]  # nobody watched


async def test_those_who_ask_at_once_share_one_round() -> None:
    probe = Counted(takes=0.5)
    one = counter(probe)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(one.read)
    assert probe.asked == ["a"]
    assert one.statistics() == {"rounds": 1}


async def test_a_round_that_is_cut_off_is_run_by_the_next() -> None:
    probe = Counted(takes=0.5)
    one = counter(probe)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cut_off, one)
        await anyio.sleep(0.05)
        assert (await one.read()).requests == {"a": Requests(running=2)}
    assert probe.asked == ["a", "a"]


async def cut_off(one: RequestCounter) -> None:
    with anyio.move_on_after(0.1):
        await one.read()


async def test_one_that_does_not_answer_hides_no_other() -> None:
    probe = Counted()
    probe.silent.add("a")
    slow = counter(probe, endpoint("a", "vllm"), endpoint("b", "vllm"))
    assert (await slow.read()).requests == {"b": Requests(running=2)}
    endless = counter(Counted(takes=1e9))
    begun = anyio.current_time()
    assert (await endless.read()).requests == {}
    assert anyio.current_time() - begun <= 1.0


@pytest.mark.parametrize("state", State.__args__)  # type: ignore[attr-defined]
async def test_only_a_server_that_is_awake_is_asked(state: State) -> None:
    probe = Counted()
    await counter(probe, endpoint("a", "vllm", state=state)).read()
    assert bool(probe.asked) is (state in ("ready", "busy"))


async def test_a_provider_that_cannot_count_and_a_server_that_is_another_are_not_asked() -> None:
    probe = Counted()
    gateway = msgspec.structs.replace(endpoint("g", "vllm"), warnings=(fault("server.other_dialect"),))
    assert (await counter(probe, gateway, endpoint("o", "ollama")).read()).requests == {}
    assert probe.asked == []
