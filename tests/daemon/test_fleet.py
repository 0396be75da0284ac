"""A monitor for every endpoint: it comes, moves and goes with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest
import structlog.testing

from hived.daemon.fleet import Fleet
from hived.daemon.monitor import Monitor
from hived.daemon.store import Store
from hived.daemon.supervise import Supervisor
from hived.decisions.transitions import expect
from hived_client.vocabulary.world import Endpoint, Process, World
from tests.daemon.fake_probe import READY, REFUSED, SILENT, FakeServer, NoBackground
from tests.daemon.virtual_time import Backend, VirtualClock, virtual

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


def end(name: str, port: int = 1, **more: object) -> Endpoint:
    return Endpoint(
        name=name,
        provider="llamacpp",
        url=f"http://127.0.0.1:{port}",
        source="configuration",
        **more,  # type: ignore[arg-type]
    )


class Yard:
    """A fleet, and a server at every port."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = Store(World(generation=0), self.clock)
        self.supervisor = Supervisor(lambda: 1.0)
        self.servers: dict[str, FakeServer] = {}
        self.made: list[str] = []
        self.fleet = Fleet(self.store, self.supervisor, self.make)

    def server(self, port: int) -> FakeServer:
        return self.servers.setdefault(f"http://127.0.0.1:{port}", FakeServer())

    def make(self, endpoint: Endpoint) -> Monitor | None:
        self.made.append(endpoint.name)
        if endpoint.provider != "llamacpp":
            return None
        server = self.servers.setdefault(endpoint.url, FakeServer())
        return Monitor(
            endpoint.name,
            server,
            self.store,
            background=NoBackground(self.clock),
            processes=server,
            knock=server.knock,
            random=lambda: 0.5,
            clock=self.clock,
        )

    def expect(self, *endpoints: Endpoint) -> None:
        self.store.update(lambda world: expect(world, endpoints))

    def states(self) -> dict[str, str]:
        return {each.name: each.state for each in self.store.world.endpoints}


@asynccontextmanager
async def running(*endpoints: Endpoint, yard: Yard | None = None) -> AsyncIterator[Yard]:
    yard = yard or Yard()
    yard.expect(*endpoints)
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(yard.fleet.run)
            await anyio.sleep(0.001)
            yield yard
            tasks.cancel_scope.cancel()


async def test_each_endpoint_is_watched_and_one_of_an_unknown_provider_hides_none() -> None:
    async with running(end("a", 1), replace(end("x", 9), provider="vllm"), end("b", 2)) as yard:
        assert yard.states() == {"a": "ready", "x": "unknown", "b": "ready"}
        assert sorted(yard.fleet.statistics()) == ["a", "b"]
        assert repr(yard.fleet) == "<Fleet of 2>"
        await yard.fleet.refresh(["x", "nobody"])
        yard.fleet.poke("nobody")


async def test_one_that_comes_is_looked_at_at_once_and_one_that_goes_is_never_looked_at_again() -> None:
    async with running(end("a", 1)) as yard:
        await anyio.sleep(20.0)
        yard.expect(end("b", 2))
        await anyio.sleep(0.001)
        assert yard.states() == {"b": "ready"}
        looks = len(yard.server(1).looks)
        await anyio.sleep(3600.0)
        assert len(yard.server(1).looks) == looks
        assert sorted(yard.fleet.statistics()) == ["b"]


async def test_one_that_moves_is_looked_at_at_its_new_place_at_once() -> None:
    yard = Yard()
    yard.server(1).outcome, yard.server(1).listening = REFUSED, False
    async with running(end("a", 1), yard=yard):
        await anyio.sleep(60.0)
        assert yard.states() == {"a": "down"}
        yard.expect(end("a", 2))
        await anyio.sleep(0.001)
        assert yard.states() == {"a": "ready"}
        knocks = len(yard.server(1).knocks)
        await anyio.sleep(600.0)
        assert len(yard.server(1).knocks) == knocks
        assert len(yard.server(2).looks) == 41


async def test_one_whose_provider_changes_gets_the_monitor_of_the_other() -> None:
    async with running(end("a", 1)) as yard:
        yard.expect(replace(end("a", 1), provider="vllm"))
        await anyio.sleep(0.001)
        assert yard.fleet.statistics() == {}
        assert yard.made == ["a", "a"]


async def test_one_that_was_started_again_is_watched_anew() -> None:
    process = Process(pid=7, command=("x",), log="/l", name="n", provider="vllm")
    async with running(end("a", 1, process=process)) as yard:
        yard.expect(end("a", 1, process=replace(process, pid=8)))
        await anyio.sleep(0.001)
        assert (yard.made, yard.states()) == (["a", "a"], {"a": "ready"})


async def test_one_that_gets_a_key_is_looked_at_at_once_and_keeps_its_monitor() -> None:
    async with running(end("a", 1)) as yard:
        await anyio.sleep(5.0)
        yard.expect(end("a", 1, key_ref="KEY"))
        await anyio.sleep(0.001)
        assert yard.made == ["a"]
        assert yard.server(1).times() == [0.0, 5.001]


async def test_those_that_are_asked_about_are_looked_at_side_by_side() -> None:
    async with running(*(end(f"e{n}", n) for n in range(1, 9))) as yard:
        for server in yard.servers.values():
            server.takes = 1.0
        began = anyio.current_time()
        await yard.fleet.refresh([f"e{n}" for n in range(1, 9)])
        assert anyio.current_time() - began == pytest.approx(1.0)


async def test_fifty_who_ask_the_fleet_share_one_look() -> None:
    async with running(end("a", 1)) as yard:
        yard.server(1).takes = 0.5
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(yard.fleet.refresh, ["a"])
        assert len(yard.server(1).looks) == 2


@pytest.mark.parametrize("after", [(), (end("a", 2),)])
async def test_who_waits_for_one_that_goes_or_moves_is_not_left_waiting(after: tuple[Endpoint, ...]) -> None:
    yard = Yard()
    async with running(end("a", 1), yard=yard):
        yard.server(1).takes = 3600.0
        yard.server(2).takes = 0.5
        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(yard.fleet.refresh, ["a"])
                await anyio.sleep(0.1)
                yard.expect(*after)
        assert yard.states() == ({"a": "ready"} if after else {})


async def test_a_probe_that_crashes_is_started_again_and_touches_no_other() -> None:
    yard = Yard()
    yard.server(1).outcome = RuntimeError("a bug")
    async with running(end("a", 1), end("b", 2), yard=yard):
        await anyio.sleep(10.0)
        assert yard.server(1).times() == [0.0, 0.5, 1.5, 3.5, 7.5]
        assert yard.server(2).times() == [0.0]
        assert yard.states() == {"a": "unknown", "b": "ready"}
        yard.server(1).outcome = READY
        await anyio.sleep(10.0)
        assert yard.states() == {"a": "ready", "b": "ready"}
        assert yard.supervisor.statistics()["restarts"] == {"monitor.a": 5}


async def test_a_fleet_that_is_started_again_watches_all_again() -> None:
    yard = Yard()
    async with running(end("a", 1), yard=yard):
        pass
    async with running(end("a", 1), yard=yard):
        assert yard.made == ["a", "a"]
        yard.server(1).outcome = SILENT
        await yard.fleet.refresh(["a"])
        assert yard.states() == {"a": "unreachable"}


async def test_endpoints_that_flap_leave_nothing_behind() -> None:
    async with running(end("a", 1)) as yard:
        for n in range(50):
            yard.expect(end("a", n % 3 + 1), end("b", 7))
            await anyio.sleep(0.01)
            yard.expect(end("a", n % 3 + 1))
            await anyio.sleep(0.01)
        assert sorted(yard.fleet.statistics()) == ["a"]
        assert yard.states() == {"a": "ready"}
        looks = sum(len(server.looks) for server in yard.servers.values())
        await anyio.sleep(600.0)
        assert sum(len(server.looks) for server in yard.servers.values()) - looks == 40


async def test_who_asks_before_the_fleet_runs_waits_for_the_first_look() -> None:
    yard = Yard()
    yard.expect(end("a", 1))
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(yard.fleet.refresh, ["a"])
            await anyio.sleep(1.0)
            assert yard.states() == {"a": "unknown"}
            yard.server(1).takes = 0.5
            tasks.start_soon(yard.fleet.run)
            await anyio.sleep(0.001)
            yard.expect(end("a", 1), end("b", 2))
            await yard.fleet.refresh(["b"])
            assert yard.states()["b"] == "ready"
            await anyio.sleep(1.0)
            assert yard.states() == {"a": "ready", "b": "ready"}
            # A first look may have begun by the time that who asked is there: then there is another.
            assert all(len(yard.server(port).looks) <= 2 for port in (1, 2))
            tasks.cancel_scope.cancel()


async def test_who_shares_waits_for_a_look_that_was_asked_for_and_else_has_one() -> None:
    async with running(end("a", 1)) as yard:
        before = len(yard.server(1).looks)
        assert await yard.fleet.share(["a", "nobody"]) is True
        assert len(yard.server(1).looks) == before + 1
        yard.server(1).takes = 0.5
        began = anyio.current_time()
        yard.fleet.poke("a")
        assert await yard.fleet.share(["a"]) is False
        assert anyio.current_time() - began == pytest.approx(0.5)
        assert len(yard.server(1).looks) == before + 2


async def test_any_number_that_share_at_once_have_one_look() -> None:
    async with running(end("a", 1)) as yard:
        before = len(yard.server(1).looks)
        yard.server(1).takes = 0.5
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(yard.fleet.share, ["a"])
                await anyio.sleep(0.01 * (number % 3))
        assert len(yard.server(1).looks) == before + 1
