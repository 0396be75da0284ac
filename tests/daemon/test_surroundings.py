"""What a monitor makes of its own machine: over toy time with a scripted one, and of the real one."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import structlog.testing

from hived.daemon.monitor import PLACE_AGE, Monitor
from hived.daemon.store import Store
from hived.daemon.surroundings import Place, ThisMachine
from hived.daemon.watching import SystemProcesses
from hived.decisions.outcomes import Stranger
from hived.decisions.transitions import expect
from hived_client.vocabulary.world import Endpoint, Installation, Model, Source, World
from tests.daemon.fake_probe import LOADING, READY, REFUSED, SILENT, FakeServer, NoBackground
from tests.daemon.virtual_time import EPOCH, Backend, VirtualClock, virtual

pytestmark = pytest.mark.anyio

NEAR, FAR = "http://127.0.0.1:8000", "http://10.0.0.7:8000"
HERE = Installation(found=True, path="/usr/bin/vllm")
OWNED = Installation(found=True, path="/usr/bin/vllm", owner="system unit vllm.service", start="start it")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str | Backend:
    real = "real" in request.node.originalname
    return str(request.param) if real else virtual(request.param)


@dataclass(kw_only=True)
class FakeMachine:
    """A machine that says what the test wants it to, and counts how often it was asked."""

    installation: Installation | None = None
    program: str | None = ""
    launching: float | None = None
    variables: tuple[str, ...] = ()
    placed: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    scanned: list[float] = field(default_factory=list)

    async def place(self, provider: str) -> Place | None:
        self.placed.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        return Place(installation=self.installation)

    async def forwarder(self, host: str, port: int) -> str | None:
        self.asked.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        return self.program

    async def launching_since(self, port: int) -> float | None:
        self.scanned.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        return self.launching

    def has_variable(self, name: str) -> bool:
        return name in self.variables


class Bench:
    def __init__(self, server: FakeServer, machine: FakeMachine, endpoint: Endpoint) -> None:
        clock = VirtualClock()
        self.server, self.machine = server, machine
        self.store = Store(World(generation=0), clock)
        self.store.update(lambda world: expect(world, [endpoint]))
        self.monitor = Monitor(
            "lab",
            server,
            self.store,
            background=NoBackground(clock),
            processes=server,
            knock=server.knock,
            random=lambda: 0.5,
            clock=clock,
            surroundings=machine,
        )

    @property
    def endpoint(self) -> Endpoint:
        found = self.store.endpoint("lab")
        assert found is not None
        return found

    @property
    def state(self) -> str:
        return self.endpoint.state

    @property
    def code(self) -> str | None:
        return self.endpoint.reason.code if self.endpoint.reason is not None else None


@asynccontextmanager
async def watching(
    server: FakeServer,
    machine: FakeMachine,
    url: str = NEAR,
    provider: str = "vllm",
    source: Source = "configuration",
) -> AsyncIterator[Bench]:
    endpoint = Endpoint(name="lab", provider=provider, url=url, source=source, locality="device")
    bench = Bench(server, machine, endpoint)
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.monitor.run)
            await anyio.sleep(0.001)
            yield bench
            tasks.cancel_scope.cancel()


def away() -> FakeServer:
    return FakeServer(outcome=REFUSED, listening=False)


# Its program.


async def test_the_files_are_read_when_it_goes_down_and_not_while_it_stays_down() -> None:
    async with watching(away(), FakeMachine(installation=OWNED), provider="ollama") as bench:
        assert (bench.code, bench.endpoint.installation) == ("server.owned_down", OWNED)
        generation = bench.store.world.generation
        await anyio.sleep(600.0)
        assert len(bench.machine.placed) == 1
        assert bench.store.world.generation == generation


async def test_whoever_asks_has_them_read_again_and_not_more_than_every_ten_seconds() -> None:
    async with watching(away(), FakeMachine(installation=HERE), provider="ollama") as bench:
        bench.machine.installation = OWNED
        for _ in range(5):
            await bench.monitor.refresh()
        assert (len(bench.machine.placed), bench.code) == (1, "server.down")
        await anyio.sleep(PLACE_AGE)
        await bench.monitor.refresh()
        assert (len(bench.machine.placed), bench.code) == (2, "server.owned_down")


async def test_what_was_found_is_forgotten_once_the_server_is_up() -> None:
    async with watching(away(), FakeMachine(installation=OWNED), provider="ollama") as bench:
        bench.server.outcome, bench.server.listening = READY, True
        await anyio.sleep(3.0)
        assert (bench.state, bench.endpoint.installation) == ("ready", None)


async def test_of_a_server_elsewhere_this_machine_is_asked_nothing() -> None:
    async with watching(away(), FakeMachine(installation=OWNED, program="ssh", launching=1.0), FAR) as bench:
        assert bench.code == "server.down"
        bench.server.outcome = READY
        await bench.monitor.refresh()
        assert bench.machine.placed + bench.machine.asked + bench.machine.scanned == []


# The other family.


async def test_a_given_address_where_only_the_other_family_answers_is_told_so() -> None:
    class OtherFamily(FakeServer):
        async def knock(self, host: str, port: int) -> bool:
            await super().knock(host, port)
            return host == "::1"

    server = OtherFamily(outcome=REFUSED)
    async with watching(server, FakeMachine()) as bench:
        assert bench.code == "server.other_family"
        assert len(server.knocks) == 1
    async with watching(server, FakeMachine(), source="default") as bench:
        assert bench.code == "server.down"
    async with watching(server, FakeMachine(), "http://localhost:8000") as bench:
        assert bench.code == "server.other_family"
        assert bench.endpoint.reason is not None
        assert bench.endpoint.reason.message == "Nothing listens at localhost:8000, but [::1]:8000 answers."


# A server that listens late.


async def test_a_process_that_will_listen_later_is_starting_since_it_began() -> None:
    async with watching(away(), FakeMachine()) as bench:
        assert bench.state == "down"
        await anyio.sleep(10.0)
        bench.machine.launching = EPOCH + 9.0
        await anyio.sleep(2.1)
        assert (bench.state, bench.code) == ("starting", "server.starting")
        assert bench.endpoint.since == EPOCH + 9.0
        generation = bench.store.world.generation
        await anyio.sleep(300.0)
        assert bench.store.world.generation == generation
        bench.server.outcome, bench.server.listening = READY, True
        await anyio.sleep(1.1)
        assert bench.state == "ready"


async def test_a_start_that_fails_is_down_again() -> None:
    async with watching(away(), FakeMachine(launching=EPOCH - 1.0)) as bench:
        assert bench.state == "starting"
        bench.machine.launching = None
        await anyio.sleep(1.1)
        assert bench.state == "down"


async def test_a_process_that_has_served_is_on_its_way_out_and_not_starting() -> None:
    async with watching(FakeServer(), FakeMachine(launching=EPOCH - 100.0)) as bench:
        await anyio.sleep(20.0)
        bench.server.die()
        await anyio.sleep(60.0)
        assert bench.state == "down"


async def test_for_kinds_that_listen_at_once_no_process_is_sought() -> None:
    async with watching(away(), FakeMachine(launching=EPOCH - 1.0), provider="ollama") as bench:
        await anyio.sleep(60.0)
        assert (bench.state, bench.machine.scanned) == ("down", [])


# What hands connections on.


async def test_a_tunnel_is_nowhere_from_its_first_moment_and_stays_so() -> None:
    async with watching(FakeServer(visible=True), FakeMachine(program="ssh")) as bench:
        places = set()
        for _ in range(600):
            places.add((bench.endpoint.locality, *(warning.code for warning in bench.endpoint.warnings)))
            await anyio.sleep(1.0)
        assert places == {(None, "server.forwarded")}
        assert len(bench.machine.asked) == 1
        assert [problem.code for problem in bench.store.world.problems] == ["server.forwarded"]


async def test_a_server_that_takes_over_from_a_tunnel_is_on_this_device() -> None:
    async with watching(FakeServer(visible=True), FakeMachine(program="ssh")) as bench:
        bench.machine.program = ""
        ended, bench.server.ended = bench.server.ended, anyio.Event()
        ended.set()
        await anyio.sleep(1.0)
        assert (bench.endpoint.locality, bench.endpoint.warnings) == ("device", ())
    async with watching(FakeServer(), FakeMachine(program="socat")) as bench:
        bench.server.outcome, bench.server.listening = REFUSED, False
        await anyio.sleep(3.0)
        bench.machine.program = ""
        bench.server.outcome, bench.server.listening = READY, True
        await anyio.sleep(3.0)
        assert (bench.endpoint.locality, bench.endpoint.warnings) == ("device", ())


async def test_the_models_of_a_server_behind_a_tunnel_are_kept_while_it_loads() -> None:
    async with watching(FakeServer(), FakeMachine(program="ssh")) as bench:
        models = bench.endpoint.models
        assert models
        bench.server.outcome = LOADING
        await bench.monitor.refresh()
        assert bench.endpoint.models == models


async def test_a_gateway_behind_a_tunnel_is_nowhere_too() -> None:
    server = FakeServer(outcome=Stranger(models=(Model(name="x"),)))
    async with watching(server, FakeMachine(program="ssh")) as bench:
        assert bench.endpoint.locality is None


async def test_where_it_took_too_long_to_tell_it_is_nowhere_until_it_is_told() -> None:
    async with watching(FakeServer(visible=True), FakeMachine(program=None)) as bench:
        await anyio.sleep(61.0)
        assert len(bench.machine.asked) >= 3
        assert (bench.endpoint.locality, bench.endpoint.warnings) == (None, ())
        bench.machine.program = ""
        await anyio.sleep(61.0)
        assert bench.endpoint.locality == "device"


async def test_where_the_end_of_a_server_cannot_be_seen_a_tunnel_in_its_place_is() -> None:
    async with watching(FakeServer(), FakeMachine()) as bench:
        assert bench.endpoint.locality == "device"
        bench.machine.program = "ssh"  # between two knocks, so that the port was never seen closed
        await anyio.sleep(61.0)
        assert bench.endpoint.locality is None


async def test_a_silent_server_costs_no_question_to_the_machine() -> None:
    async with watching(FakeServer(outcome=SILENT), FakeMachine()) as bench:
        await anyio.sleep(60.0)
        assert bench.machine.placed + bench.machine.asked + bench.machine.scanned == []


# The real machine.


def this_machine(home: Path) -> ThisMachine:
    return ThisMachine({"HOME": str(home), "PATH": ""}, SystemProcesses(), lambda: str(home / ".lmstudio"))


async def test_real_a_process_named_like_vllm_is_found_and_its_end_too(home: Path) -> None:
    (home / "vllm").write_text("import time; time.sleep(600)")
    port = 8000 + int(str(time.time_ns())[-4:])
    machine = this_machine(home)
    words = [sys.executable, "-I", "-S", str(home / "vllm"), "serve", "m", "--port", str(port)]
    with subprocess.Popen(words) as process:
        try:
            began = time.time()
            with anyio.fail_after(60.0):
                while (since := await machine.launching_since(port)) is None:  # noqa: ASYNC110
                    await anyio.sleep(0.5)
            assert abs(since - began) < 30.0
            assert await machine.launching_since(port + 1) is None
            process.kill()
            process.wait()
            with anyio.fail_after(60.0):
                while await machine.launching_since(port) is not None:  # noqa: ASYNC110
                    await anyio.sleep(0.5)
        finally:
            process.kill()


async def test_real_we_listen_and_hand_nothing_on(home: Path) -> None:
    machine = this_machine(home)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert await machine.forwarder("127.0.0.1", port) == ""
    place = await machine.place("ollama")
    assert place is not None
    assert place.installation is not None
