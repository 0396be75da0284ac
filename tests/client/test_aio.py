"""The anyio client, on both backends, against a daemon that says what it is told to."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from hived_client.doors.aio import AsyncClient, connect
from hived_client.doors.ask import NO_NAME, REFUSED, Connect
from hived_client.doors.paths import Places
from hived_client.doors.sync import CALL_TIMEOUT
from hived_client.doors.wire import Progress
from hived_client.errors import HivedError, NotReady, Refused, Unavailable
from hived_client.vocabulary.faults import fault
from tests.client.conversations import (
    BEGUN,
    CHANGES,
    EVERYTHING,
    GARBAGE,
    TARGET,
    lagged,
    no,
    not_started,
    refreshed,
    silent,
)
from tests.client.fake_daemon import WELCOME, FakeDaemon, failure, fake_daemon, progress, result
from tests.client.publishing import publish, write_beat
from tests.client.worlds import endpoint, world

pytestmark = pytest.mark.anyio

T = TypeVar("T")


async def collect(stream: AsyncIterator[T]) -> tuple[list[T], HivedError | None]:
    """Read a stream to its end, and return what came and how it ended."""
    found: list[T] = []
    try:
        async for each in stream:
            found.append(each)
    except HivedError as error:
        return found, error
    return found, None


@pytest.fixture
def daemon(where: Places) -> Iterator[FakeDaemon]:
    with FakeDaemon(where, dict(EVERYTHING)) as running:
        yield running


@pytest.fixture
def client(where: Places) -> AsyncClient:
    return AsyncClient(where, environment={})


async def test_every_verb_has_its_answer(daemon: FakeDaemon, client: AsyncClient, where: Places) -> None:
    write_beat(where)
    async with client:
        assert (await client.resolve("lab/x")).name == TARGET.name
        assert await client.refresh() == 42
        assert await client.reload() == 42
        assert await client.statistics() == {"questions": 7}
        assert await client.greet() == WELCOME
        assert client.running
        assert (await client.stop("started")).endpoints == {"started": "ended"}
        await client.retire()
        assert client.world().verdict == "fresh"


async def test_young_facts_need_no_connection(daemon: FakeDaemon, client: AsyncClient, where: Places) -> None:
    publish(where, world(endpoint("lab", "vllm", "x")))
    assert (await client.resolve("lab/x")).api_base == "http://127.0.0.1:8080/v1"
    assert daemon.accepted == 0


async def test_a_no_is_raised_with_its_fault(daemon: FakeDaemon, client: AsyncClient, where: Places) -> None:
    write_beat(where)
    daemon.methods["resolve"] = no
    with pytest.raises(NotReady) as error:
        await client.resolve("lab/x")
    assert error.value.code == "server.down"


async def test_a_fault_is_refused(daemon: FakeDaemon, client: AsyncClient) -> None:
    daemon.methods["refresh"] = lambda params: [failure(fault("params.invalid", method="refresh", why="x"))]
    with pytest.raises(Refused):
        await client.refresh()


async def test_a_daemon_that_never_answers_costs_no_more_than_the_deadline(
    daemon: FakeDaemon, client: AsyncClient, where: Places
) -> None:
    daemon.methods |= {"statistics": silent, "resolve": silent, "subscribe": silent}
    before = anyio.current_time()
    with pytest.raises(Unavailable) as error:
        await client.statistics(timeout=0.1)
    assert 0.09 < anyio.current_time() - before < CALL_TIMEOUT
    assert error.value.code == "daemon.unresponsive"
    with pytest.raises(Unavailable):
        async with aclosing(client.events(timeout=0.05)) as events:
            await anext(events)
    publish(where, world(endpoint("lab", "vllm", "x")))
    target = await client.resolve("lab/x", fresh=True, timeout=0.05)
    assert [each.code for each in target.warnings] == ["daemon.unresponsive"]


async def test_what_takes_minutes_is_not_waited_for_where_nobody_greets(
    client: AsyncClient, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hived_client.doors.aio.CALL_TIMEOUT", 0.05)
    with fake_daemon(where, greeting=b"\0"):
        with pytest.raises(Unavailable) as error:
            await client.stop("x", grace=-99.0)  # beside its own hundred
        assert error.value.message == "hived does not answer (no answer within 0.05 s)."
        found, refused = await collect(client.start("ollama", timeout=-4.0))
        assert found == []
        assert str(refused) == str(error.value)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_unavailable(client: AsyncClient, where: Places, garbage: bytes) -> None:
    with fake_daemon(where, greeting=garbage, refresh=refreshed), pytest.raises(Unavailable) as error:
        await client.refresh(timeout=60.0)
    assert error.value.code == "protocol.broken"


async def test_without_a_daemon_every_verb_says_so(client: AsyncClient, where: Places) -> None:
    for folder in (False, True):
        if folder:
            write_beat(where)
        for call in (client.refresh, client.reload, client.statistics, client.retire):
            with pytest.raises(Unavailable) as error:
                await call()
            assert error.value.code == "daemon.not_running"


async def test_events_come_even_when_they_come_with_the_subscription(
    daemon: FakeDaemon, client: AsyncClient
) -> None:
    found, error = await collect(client.events())
    assert found == CHANGES
    assert isinstance(error, Unavailable)
    assert error.code == "protocol.broken"


async def test_a_reader_that_was_too_slow_is_told(daemon: FakeDaemon, client: AsyncClient) -> None:
    daemon.methods["subscribe"] = lagged
    found, error = await collect(client.events())
    assert found == CHANGES[:1]
    assert isinstance(error, Unavailable)
    assert error.code == "lagged"


async def test_a_start_tells_how_far_it_is_and_what_was_begun(
    daemon: FakeDaemon, client: AsyncClient
) -> None:
    *way, last = [each async for each in client.start("llamacpp")]
    assert [each.stage for each in way if isinstance(each, Progress)] == ["spawned", "loading"]
    assert last == BEGUN


async def test_a_start_that_fails_is_refused_after_its_progress(
    daemon: FakeDaemon, client: AsyncClient
) -> None:
    daemon.methods["start"] = not_started
    found, error = await collect(client.start("llamacpp"))
    assert len(found) == 1
    assert isinstance(error, Refused)
    assert error.code == "start.ended"


async def test_a_start_that_hangs_ends_at_its_deadline(daemon: FakeDaemon, client: AsyncClient) -> None:
    daemon.methods["start"] = lambda params: [progress("spawned")]
    with anyio.fail_after(60.0):  # five seconds of grace
        found, error = await collect(client.start("llamacpp", timeout=-4.8))
    assert len(found) == 1
    assert isinstance(error, Unavailable)
    assert error.code == "daemon.unresponsive"


async def test_a_call_that_was_cancelled_leaves_the_next_one_alone(
    daemon: FakeDaemon, client: AsyncClient
) -> None:
    daemon.methods["statistics"] = silent
    with anyio.move_on_after(0.05) as scope:
        await client.statistics()
    assert scope.cancelled_caught
    assert await client.refresh() == 42


async def test_many_may_ask_at_once(daemon: FakeDaemon, client: AsyncClient) -> None:
    daemon.methods["refresh"] = lambda params: [result({"generation": int(params["endpoint"])})]
    found: dict[int, int] = {}

    async def work(number: int) -> None:
        found[number] = await client.refresh(str(number))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(work, number)
    assert found == {number: number for number in range(20)}


async def test_a_connection_to_a_server_says_how_it_went() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await connect(Connect("127.0.0.1", port, 60.0)) is None
    assert await connect(Connect("127.0.0.1", port, 60.0)) == REFUSED
    assert await connect(Connect("localhost", port, 60.0)) == REFUSED


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "a\0b"])
async def test_what_is_no_name_of_a_host_is_no_crash(host: str) -> None:
    assert await connect(Connect(host, 80, 60.0)) in (NO_NAME, "Name or service not known")
