"""One endpoint, watched over hours of toy time: when it is looked at, why, and what is made of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import msgspec
import pytest
import structlog.testing

from hived.daemon.monitor import PUSH_AGAIN, PUSH_LAST, PUSH_PAUSE, Monitor
from hived.daemon.store import Store
from hived.decisions.outcomes import Locked, NoAnswer, Stranger
from hived.decisions.transitions import expect
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.daemon.fake_probe import LOADING, READY, REFUSED, ROUTER, SILENT, FakeServer, NoBackground
from tests.daemon.virtual_time import Backend, VirtualClock, virtual

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace

NEAR, FAR = "http://127.0.0.1:8080", "http://10.0.0.7:8080"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


def lab(url: str = NEAR, **more: object) -> Endpoint:
    return Endpoint(
        name="lab",
        provider="llamacpp",
        url=url,
        locality="device",
        **({"source": "configuration"} | more),  # type: ignore[arg-type]
    )


class Bench:
    """One monitor with everything around it."""

    def __init__(self, server: FakeServer, endpoint: Endpoint, chance: Callable[[], float]) -> None:
        clock = VirtualClock()
        self.server = server
        self.store = Store(World(generation=0), clock)
        self.store.update(lambda world: expect(world, [endpoint]))
        self.monitor = Monitor(
            "lab",
            server,
            self.store,
            background=NoBackground(clock),
            processes=server,
            knock=server.knock,
            random=chance,
            clock=clock,
        )

    @property
    def endpoint(self) -> Endpoint:
        found = self.store.endpoint("lab")
        assert found is not None
        return found

    async def until(self, at: float) -> None:
        """Let time pass until a moment of the test."""
        await anyio.sleep_until(at)

    async def settle(self) -> None:
        """Let happen what happens at once."""
        await anyio.sleep(0.001)


@asynccontextmanager
async def watching(
    server: FakeServer, endpoint: Endpoint | None = None, chance: Callable[[], float] = lambda: 0.5
) -> AsyncIterator[Bench]:
    bench = Bench(server, endpoint or lab(), chance)
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.monitor.run)
            await bench.settle()
            yield bench
            tasks.cancel_scope.cancel()


# Schedules.


async def test_at_rest_there_are_four_looks_a_minute_and_a_knock_every_two_seconds() -> None:
    async with watching(FakeServer()) as bench:
        await bench.until(7199.0)
        assert bench.server.times() == [15.0 * n for n in range(480)]
        # The first, because no process was found behind the port: had it just gone?
        assert [round(at, 3) for at in bench.server.knocks[:5]] == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert [round(at, 3) for at in bench.server.knocks[7:9]] == [14.0, 17.0]
        assert [look.thorough for look in bench.server.looks] == [True] + [False] * 479
        assert bench.store.world.generation == 2


async def test_a_server_whose_process_is_seen_is_not_knocked_at() -> None:
    async with watching(FakeServer(visible=True)) as bench:
        await bench.until(3599.0)
        # One every quarter of a minute, and one more when the process behind the port was found.
        assert len(bench.server.looks) == 240 + 1
        assert bench.server.knocks == []
        assert bench.server.sought == [0.0]


async def test_a_server_on_another_machine_is_only_looked_at() -> None:
    async with watching(FakeServer(), lab(FAR)) as bench:
        await bench.until(599.0)
        assert (len(bench.server.looks), bench.server.knocks, bench.server.sought) == (40, [], [])


async def test_a_server_that_its_program_can_close_is_knocked_at_although_the_program_is_seen() -> None:
    """LM Studio stays open when its server is stopped."""
    async with watching(FakeServer(visible=True), replace(lab(), provider="lm_studio")) as bench:
        await bench.until(9.0)
        assert [round(at, 3) for at in bench.server.knocks] == [2.0, 4.0, 6.0, 8.0]
        bench.server.outcome, bench.server.listening = REFUSED, False
        await bench.until(10.5)
        assert bench.endpoint.state == "down"


async def test_the_jitter_moves_knocks_and_never_makes_more_than_four_looks_a_minute() -> None:
    chances = iter([0.0, 1.0, 0.25, 0.75] * 10_000)
    async with watching(FakeServer(), chance=lambda: next(chances)) as bench:
        await bench.until(3599.0)
        assert len(bench.server.looks) == 240
        waits = [after - before for before, after in pairwise(bench.server.knocks)]
        assert min(waits) >= 1.799
        assert max(waits) <= 4.401


async def test_a_port_that_is_away_is_knocked_at_and_costs_no_look_for_hours() -> None:
    async with watching(FakeServer(outcome=REFUSED, listening=False)) as bench:
        await bench.until(3601.0)
        assert bench.server.times() == [0.0]
        assert [round(at, 3) for at in bench.server.knocks] == [2.0 * n for n in range(1, 1801)]
        bench.server.outcome, bench.server.listening = READY, True
        await bench.until(3603.0)
        assert bench.server.times() == [0.0, 3602.0]
        assert bench.endpoint.state == "ready"


async def test_a_port_that_is_away_elsewhere_is_knocked_at_ever_more_seldom() -> None:
    async with watching(FakeServer(outcome=REFUSED, listening=False), lab(FAR)) as bench:
        await bench.until(300.0)
        assert [round(at, 3) for at in bench.server.knocks] == [
            2.0,
            6.0,
            14.0,
            30.0,
            62.0,
            122.0,
            182.0,
            242.0,
        ]
        assert bench.server.times() == [0.0]


async def test_a_server_that_is_silent_is_asked_ever_more_seldom() -> None:
    async with watching(FakeServer(outcome=SILENT)) as bench:
        await bench.until(80.0)
        assert bench.server.times() == [0.0, 2.0, 6.0, 14.0, 29.0, 44.0, 59.0, 74.0]
        assert all(look.thorough for look in bench.server.looks)
        bench.server.outcome = READY
        await bench.until(90.0)
        bench.server.outcome = SILENT
        await bench.until(109.0)
        assert bench.server.times()[8:] == [89.0, 104.0, 106.0]


async def test_a_model_that_loads_is_looked_at_often_and_then_less() -> None:
    async with watching(FakeServer(outcome=LOADING)) as bench:
        await bench.until(10.05)
        assert 99 <= len(bench.server.looks) <= 102
        early = len(bench.server.looks)
        await bench.until(40.0)
        assert 29 <= len(bench.server.looks) - early <= 31
        bench.server.outcome = READY
        await bench.until(41.1)
        assert bench.endpoint.state == "ready"


async def test_a_stranger_on_a_guessed_port_is_asked_once_and_again_after_its_port_was_away() -> None:
    server = FakeServer(outcome=Stranger(seems=" (x)", models=(Model(name="x"),)))
    async with watching(server, lab(source="default")) as bench:
        await bench.until(7200.0)
        assert server.times() == [0.0]
        server.outcome, server.listening = REFUSED, False
        await bench.until(7203.0)
        assert (len(server.looks), bench.endpoint.state) == (2, "down")
        server.outcome, server.listening = READY, True
        await bench.until(7206.0)
        assert (len(server.looks), bench.endpoint.state) == (3, "ready")


async def test_a_stranger_at_a_given_address_is_asked_again_each_minute() -> None:
    async with watching(FakeServer(outcome=Stranger())) as bench:
        await bench.until(299.0)
        assert bench.server.times() == [0.0, 60.0, 120.0, 180.0, 240.0]


async def test_a_gateway_and_a_locked_server_get_two_looks_a_minute_of_two_requests_each() -> None:
    for outcome in (Stranger(models=(Model(name="x"),)), Locked()):
        async with watching(FakeServer(outcome=outcome)) as bench:
            began = anyio.current_time()
            await bench.until(began + 600.0)
            assert len(bench.server.looks) in (20, 21)


# What gives cause to look at once.


async def test_a_knock_that_is_refused_is_cause_to_look() -> None:
    async with watching(FakeServer()) as bench:
        await bench.until(20.5)
        bench.server.die()
        await bench.until(22.0)
        assert bench.endpoint.state == "down"
        assert bench.server.times() == [0.0, 15.0, 21.0]
        assert bench.server.looks[-1].thorough


async def test_the_end_of_the_process_is_cause_to_look_at_once() -> None:
    async with watching(FakeServer(visible=True)) as bench:
        await bench.until(20.5)
        bench.server.die()
        await bench.settle()
        assert bench.endpoint.state == "down"
        assert bench.server.times() == [0.0, 0.0, 15.0, 20.5]


async def test_a_process_that_is_not_found_at_once_is_sought_again_where_one_was_ever_seen() -> None:
    async with watching(FakeServer(visible=True)) as bench:
        server = bench.server
        await bench.until(20.5)
        server.visible = False  # the next one is not seen yet when the first has ended
        ended, server.ended = server.ended, anyio.Event()
        ended.set()
        await bench.until(20.6)
        server.visible = True
        await bench.until(24.0)
        assert bench.monitor.statistics()["watched"]


async def test_a_port_that_another_process_took_over_is_never_left_unwatched() -> None:
    async with watching(FakeServer(visible=True)) as bench:
        await bench.until(20.5)
        server = bench.server
        server.visible = False
        server.ended.set()  # its parent exits, its child serves on
        await bench.until(21.0)
        before = bench.endpoint.state
        server.die()
        await bench.until(23.0)
        assert [before, bench.endpoint.state] == ["ready", "down"]


async def test_a_process_that_took_over_is_found_again() -> None:
    async with watching(FakeServer(visible=True)) as bench:
        await bench.until(20.0)
        ended, bench.server.ended = bench.server.ended, anyio.Event()
        ended.set()
        await bench.until(60.0)
        assert len(bench.server.sought) == 2
        assert bench.monitor.statistics()["watched"] is True


async def test_a_process_that_is_stopped_and_goes_on_is_looked_at_each_time() -> None:
    async with watching(FakeServer(visible=True)) as bench:
        await bench.until(3.0)
        for outcome, state in ((SILENT, "unreachable"), (READY, "ready")):
            bench.server.outcome = outcome
            assert bench.server.told is not None
            bench.server.told()
            await bench.settle()
            assert bench.endpoint.state == state


async def test_a_process_that_could_not_be_sought_in_time_is_sought_again() -> None:
    async with watching(FakeServer(visible=True, slow_searches=2)) as bench:
        await bench.until(60.0)
        assert bench.monitor.statistics()["watched"] is True
        assert len(bench.server.sought) == 3


async def test_the_process_is_sought_once_each_time_the_server_comes_up() -> None:
    async with watching(FakeServer()) as bench:
        await bench.until(100.0)
        assert bench.server.sought == [0.0]
        bench.server.outcome, bench.server.listening = REFUSED, False
        await bench.until(110.0)
        bench.server.outcome, bench.server.listening = READY, True
        await bench.until(200.0)
        assert len(bench.server.sought) == 2


# Questions.


async def test_fifty_who_ask_share_one_look() -> None:
    async with watching(FakeServer(takes=0.5)) as bench:
        await bench.until(5.0)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(bench.monitor.refresh)
        assert bench.server.times() == [0.0, 5.0]
        assert anyio.current_time() == pytest.approx(5.5)
        assert bench.server.looks[-1].thorough


async def test_a_look_that_began_before_the_question_does_not_answer_it() -> None:
    async with watching(FakeServer(takes=0.5)) as bench:
        await bench.until(5.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.monitor.refresh)
            await anyio.sleep(0.1)
            bench.server.outcome = SILENT
            for _ in range(49):
                tasks.start_soon(bench.monitor.refresh)
        assert bench.endpoint.state == "unreachable"
        assert bench.server.times() == [0.0, 5.0, 5.5]


async def test_who_gives_up_waiting_does_not_stop_the_look_for_the_others() -> None:
    async with watching(FakeServer(takes=0.5)) as bench:
        await bench.until(5.0)

        async def impatient() -> None:
            with anyio.move_on_after(0.1):
                await bench.monitor.refresh()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(impatient)
            tasks.start_soon(bench.monitor.refresh)
        assert bench.server.times() == [0.0, 5.0]


async def test_a_question_to_a_server_that_is_away_is_answered_by_a_look() -> None:
    async with watching(FakeServer(outcome=REFUSED, listening=False)) as bench:
        bench.server.outcome, bench.server.listening = READY, True
        await bench.monitor.refresh()
        assert bench.endpoint.state == "ready"
        assert anyio.current_time() < 0.1


async def test_pokes_without_end_are_one_look_after_the_other() -> None:
    async with watching(FakeServer(takes=0.5)) as bench:
        await bench.until(5.0)
        for _ in range(100):
            bench.monitor.poke()
            await anyio.sleep(0.01)
        await bench.until(7.0)
        assert bench.server.times() == [0.0, 5.0, 5.5, 6.0]


# What servers say by themselves.


async def test_an_event_is_cause_to_look_and_a_storm_of_them_is_ten_looks_a_second() -> None:
    async with watching(FakeServer(outcome=ROUTER, pushes=True)) as bench:
        await bench.until(3.0)
        assert bench.server.event is not None
        bench.server.event()
        await bench.settle()
        assert bench.server.times() == [0.0, 3.0]
        await bench.until(4.0)
        for _ in range(1000):
            bench.server.event()
            await anyio.sleep(0.001)
        await bench.until(6.0)
        assert len(bench.server.looks) <= 2 + 1.0 / PUSH_PAUSE + 2


async def test_the_last_event_of_a_storm_is_not_lost() -> None:
    async with watching(FakeServer(outcome=ROUTER, pushes=True)) as bench:
        await bench.until(3.0)
        assert bench.server.event is not None
        bench.server.event()
        await bench.settle()
        bench.server.outcome = SILENT
        bench.server.event()
        await anyio.sleep(2 * PUSH_PAUSE)
        assert bench.endpoint.state == "unreachable"


async def test_a_stream_that_ends_is_cause_to_look_and_is_opened_again() -> None:
    async with watching(FakeServer(outcome=ROUTER, pushes=True)) as bench:
        await bench.until(20.0)
        assert bench.server.streams == [0.0]
        bench.server.hang_up()
        await bench.settle()
        assert bench.server.times() == [0.0, 15.0, 20.0]
        await bench.until(20.0 + PUSH_AGAIN + 15.1)
        assert len(bench.server.streams) == 2
        assert bench.monitor.statistics()["pushed"] is True


async def test_a_server_that_knows_no_events_is_asked_for_them_ever_more_seldom() -> None:
    async with watching(FakeServer(outcome=ROUTER, pushes=True, push_lasts=0.0)) as bench:
        await bench.until(3600.0)
        hour_one = len(bench.server.looks) + len(bench.server.streams)
        assert hour_one <= 4 * 60 + 20
        await bench.until(7200.0)
        assert len(bench.server.looks) + len(bench.server.streams) - hour_one <= 4 * 60 + 3600 / PUSH_LAST + 1


async def test_a_server_that_is_not_ready_is_not_listened_to() -> None:
    async with watching(FakeServer(outcome=LOADING, pushes=True)) as bench:
        await bench.until(5.0)
        assert bench.server.streams == []


# What is made of it.


async def test_the_beat_says_when_it_was_looked_at_and_when_the_next_time_is_due() -> None:
    async with watching(FakeServer(takes=0.25)) as bench:
        await bench.until(1.0)
        seen, latency, cadence = bench.store.slots[0]
        assert (round(seen / 1e9, 2), latency, cadence) == (1.25, 250_000, 2000)
        assert bench.store.is_young("lab")


async def test_a_knock_confirms_what_is_away_and_not_what_is_ready() -> None:
    async with watching(FakeServer(outcome=REFUSED, listening=False)) as bench:
        await bench.until(60.5)
        assert bench.store.age("lab") == pytest.approx(0.5, abs=0.01)
        bench.server.outcome, bench.server.listening = READY, True
        await bench.until(70.5)
        assert bench.store.age("lab") == pytest.approx(8.5, abs=0.01)


async def test_an_endpoint_that_is_gone_ends_its_monitor_and_frees_who_waits() -> None:
    server = FakeServer(takes=0.5)
    bench = Bench(server, lab(), lambda: 0.5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.monitor.run)
        await anyio.sleep(0.1)
        bench.store.update(lambda world: expect(world, []))
    assert anyio.current_time() == pytest.approx(0.5)
    assert bench.store.world.endpoints == ()


async def test_what_the_old_place_said_is_not_believed_of_the_new_one() -> None:
    server = FakeServer(takes=0.5)
    bench = Bench(server, lab(), lambda: 0.5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.monitor.run)
        await anyio.sleep(0.1)
        bench.store.update(lambda world: expect(world, [lab("http://127.0.0.1:9")]))
        await anyio.sleep(1.0)
        assert (bench.endpoint.state, bench.endpoint.models) == ("unknown", None)
        assert bench.store.age("lab") is None
        tasks.cancel_scope.cancel()


async def test_a_change_of_state_is_logged_once_and_a_look_that_changes_nothing_never() -> None:
    server = FakeServer()
    bench = Bench(server, lab(), lambda: 0.5)
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.monitor.run)
            await bench.until(600.0)
            server.die()
            await bench.until(1200.0)
            tasks.cancel_scope.cancel()
    assert [(line["event"], line["before"], line["after"]) for line in logs] == [
        ("endpoint.changed", "unknown", "ready"),
        ("endpoint.changed", "ready", "down"),
    ]


async def test_a_server_that_ended_in_the_middle_of_a_look_is_down_and_not_broken() -> None:
    server = FakeServer(outcome=NoAnswer(kind="broken", cut=True), takes=0.01)
    async with watching(server) as bench:
        await bench.until(0.005)
        server.outcome = REFUSED
        await bench.until(1.0)
        assert (bench.endpoint.state, server.times()) == ("down", [0.0, 0.06])


async def test_a_server_that_is_broken_is_looked_at_twice_and_believed() -> None:
    async with watching(FakeServer(outcome=NoAnswer(kind="broken"))) as bench:
        await bench.until(1.0)
        assert (bench.endpoint.state, bench.server.times()) == ("failed", [0.0, 0.05])
        await bench.until(2.5)
        assert len(bench.server.looks) == 3, "known to be broken, it is looked at once"


async def test_a_monitor_says_how_it_fares() -> None:
    async with watching(FakeServer(outcome=NoAnswer(kind="broken"))) as bench:
        await bench.until(1.0)
        assert bench.monitor.statistics() == {
            "looks": 1,
            "knocks": 0,
            "failures": 1,
            "watched": False,
            "pushed": False,
        }
        assert repr(bench.monitor) == "<Monitor lab, 1 looks, 0 knocks>"
