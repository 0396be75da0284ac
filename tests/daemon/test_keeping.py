"""Servers that end by themselves, over minutes of toy time: when they are started again, and when not."""

from __future__ import annotations

import itertools
from pathlib import Path

import anyio
import msgspec
import pytest

from hived.daemon.keeping import Keeper
from hived.daemon.launching import Child
from hived.daemon.servers import Servers
from hived.daemon.store import Store
from hived.decisions.outcomes import Circumstances, Heard, Observation
from hived.decisions.transitions import expect, observe
from hived.machine.processes import Identity
from hived.machine.records import Records, Started
from hived_client.errors import StartFailed
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Process
from tests.client.worlds import endpoint, world
from tests.daemon.virtual_time import Backend, VirtualClock, virtual

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace
URL = "http://127.0.0.1:11434"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


class Bench:
    """A keeper of one Ollama, whose lives and ends a test writes down."""

    def __init__(self, folder: Path, *, lives: list[tuple[float, int | None]], ready: bool = True) -> None:
        """``lives``: seconds for which each process in a row lives, and its exit status; then for ever."""
        self.clock = VirtualClock()
        self.store = Store(world(endpoint("ollama", "ollama", url=URL, state="down")), self.clock)
        self.records = Records(folder)
        self.servers = Servers(self.records, {}, self.clock)
        self.begun: list[float] = []
        self.refusals = 0
        self.broke = False
        self._lives = iter(lives)
        self._pids = itertools.count(4000)
        self._ready = ready
        self.keeper = Keeper(
            self.servers,
            self.store,
            self,
            self.clock,
            again=self.again,
            poke=lambda name: None,
            reconcile=lambda: None,
        )

    def begin(self, **more: object) -> None:
        record = Started(
            endpoint="ollama",
            provider="ollama",
            url=URL,
            identity=None,
            argv=("ollama", "serve"),
            model="",
            alias="",
            log="/nowhere",
            started_at=self.clock.wall(),
            keep=True,
        )
        self._live(replace(record, **more))

    async def again(self, record: Started) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StartFailed(fault("start.port_taken", port=11434))
        self._live(replace(record, ready_at=None))

    def _live(self, record: Started) -> None:
        self.begun.append(anyio.current_time())
        record = replace(record, identity=Identity(pid=next(self._pids), started=1.0, boot="b"))
        self.records.write(record)
        self.servers.put(record)
        self.keeper.adopt(record, None)
        pid = record.identity.pid if record.identity is not None else None
        process = Process(pid=pid, command=(), log="", name="x", provider="llamacpp")
        self.store.update(lambda w: expect(w, [replace(w.endpoints[0], process=process)]))
        if self._ready:
            seen = Observation(
                endpoint="ollama",
                at=self.clock.wall(),
                outcome=Heard(state="ready"),
                circumstances=Circumstances(at=self.clock.wall()),
            )
            self.store.update(lambda w: observe(w, seen))

    async def wait(self, record: Started, child: Child | None) -> int | None:
        lives, code = next(self._lives, (1e9, 0))
        await anyio.sleep(lives)
        return code

    async def identity(self, record: Started) -> Identity | None:
        return None

    async def last_words(self, record: Started) -> str:
        return "Error: no luck"

    async def broke_down(self, record: Started) -> bool:
        return self.broke

    async def clear(self, record: Started) -> None:
        pass

    @property
    def verdict(self) -> str | None:
        said = self.servers.verdict(URL)
        return said.code if said is not None else None

    @property
    def record(self) -> Started:
        (record,) = self.records.read_all()
        return record


async def run(bench: Bench, seconds: float, **more: object) -> None:
    """Keep a server for a while."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(bench.keeper.run)
        bench.begin(**more)
        await anyio.sleep(seconds)
        tasks.cancel_scope.cancel()


async def test_one_that_cannot_live_is_started_five_times_ever_later_and_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(0.5, 1)] * 20, ready=False)
    await run(bench, 3600.0)
    gaps = [round(b - a - 0.5, 3) for a, b in itertools.pairwise(bench.begun)]
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert bench.verdict == "server.gave_up"
    said = bench.servers.verdict(URL)
    assert said is not None
    assert "Error: no luck" in said.message
    assert bench.record.restarts == 5


async def test_an_accident_now_and_then_never_ends_in_giving_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(61.0, -9)] * 20)
    await run(bench, 3600.0)
    assert len(bench.begun) == 21
    assert {round(b - a - 61.0, 3) for a, b in itertools.pairwise(bench.begun)} == {1.0}
    assert bench.verdict is None


async def test_a_minute_that_is_not_full_does_not_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(59.0, 1)] * 20)
    await run(bench, 3600.0)
    assert len(bench.begun) == 6
    assert bench.verdict == "server.gave_up"


@pytest.mark.parametrize("code", [0, -15, -2])
async def test_what_was_asked_to_end_stays_ended(tmp_path: Path, code: int) -> None:
    bench = Bench(tmp_path, lives=[(5.0, code)])
    await run(bench, 600.0)
    assert len(bench.begun) == 1
    assert bench.verdict is None
    after = Bench(tmp_path, lives=[(0.0, None)])
    after.servers.read()
    async with anyio.create_task_group() as tasks:
        await tasks.start(after.keeper.run)
        await anyio.sleep(600.0)
        tasks.cancel_scope.cancel()
    assert after.begun == []  # nor by the next daemon, which did not see how it ended


async def test_what_tidied_up_after_it_broke_is_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(100.0, 0)])
    bench.broke = True
    await run(bench, 600.0)
    assert bench.begun[1:] == [101.0]


async def test_what_is_not_to_be_kept_stays_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(5.0, -9)])
    await run(bench, 600.0, keep=False)
    assert len(bench.begun) == 1


async def test_a_start_that_fails_counts_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(100.0, -9)])
    bench.refusals = 3
    await run(bench, 600.0)
    assert [round(at - 100.0, 3) for at in bench.begun[1:]] == [1.0 + 2.0 + 4.0 + 8.0]
    assert bench.verdict is None


async def test_whoever_is_stopped_while_it_waits_is_not_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(5.0, -9)])
    async with anyio.create_task_group() as tasks:
        await tasks.start(bench.keeper.run)
        bench.begin()
        await anyio.sleep(5.5)
        assert bench.verdict == "server.restarting"
        bench.servers.drop("ollama")
        await anyio.sleep(600.0)
        tasks.cancel_scope.cancel()
    assert len(bench.begun) == 1


async def test_what_ends_while_its_start_is_waited_for_is_told_and_not_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(5.0, 1)], ready=False)
    bench.keeper.waited_for["ollama"] += 1
    await run(bench, 600.0)
    assert len(bench.begun) == 1


async def test_what_is_being_stopped_is_not_kept_however_it_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(5.0, -9)])
    bench.keeper.leaving.add("ollama")
    await run(bench, 600.0)
    assert len(bench.begun) == 1


async def test_one_that_wants_a_key_has_answered_as_well(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(600.0, 0)], ready=False)
    async with anyio.create_task_group() as tasks:
        await tasks.start(bench.keeper.run)
        bench.begin()
        locked = replace(bench.store.world.endpoints[0], state="unauthorised")
        bench.store.update(lambda w: replace(w, generation=w.generation + 1, endpoints=(locked,)))
        await anyio.sleep(5.0)
        assert bench.record.ready_at is not None
        tasks.cancel_scope.cancel()


async def test_the_next_daemon_goes_on_with_the_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lives=[(0.5, 1)] * 2, ready=False)
    await run(bench, 2.2)
    assert bench.record.restarts == 2
    after = Bench(tmp_path, lives=[(0.0, None)] * 20, ready=False)
    after.servers.read()
    async with anyio.create_task_group() as tasks:
        await tasks.start(after.keeper.run)
        await anyio.sleep(3600.0)
        tasks.cancel_scope.cancel()
    began = 2.2
    assert [round(at - began, 3) for at in after.begun] == [4.0, 4.0 + 8.0, 4.0 + 8.0 + 16.0]
    assert after.verdict == "server.gave_up"
