"""One World at a time, readers who are woken, and subscribers who miss nothing or are told so."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec
import pytest

from hived.daemon.store import MOST_WAITING, Store
from hived.decisions.transitions import expect
from hived_client.resolution import Question
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.client.worlds import endpoint
from tests.daemon.virtual_time import Backend, VirtualClock, virtual

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


def store(*endpoints: Endpoint) -> Store:
    made = Store(World(generation=0), VirtualClock())
    made.update(lambda world: expect(world, endpoints))
    return made


def moved(state: str, generation: int = 1) -> Callable[[World], World]:
    """Put every endpoint into a state."""

    def transition(world: World) -> World:
        ends = tuple(replace(each, state=state) for each in world.endpoints)
        return replace(world, generation=world.generation + generation, endpoints=ends)

    return transition


async def test_whoever_waits_is_woken_by_a_change_and_by_nothing_else() -> None:
    one = store(endpoint("lab"))
    woken: list[int] = []

    async def wait() -> None:
        woken.append((await one.wait_changed(one.world.generation)).generation)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        one.update(lambda world: world)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        one.update(moved("down"))
    assert woken == [2, 2, 2]


async def test_who_asks_after_a_generation_that_is_past_does_not_wait() -> None:
    one = store(endpoint("lab"))
    assert (await one.wait_changed(0)).generation == 1


async def test_a_subscriber_sees_every_change_in_order() -> None:
    one = store(endpoint("lab"))
    with one.subscribe() as subscription:
        for state in ("down", "ready", "sleeping"):
            one.update(moved(state))
        heard = [await anext(subscription) for _ in range(3)]
        assert [(generation, change.after) for generation, (change,) in heard] == [
            (2, "down"),
            (3, "ready"),
            (4, "sleeping"),
        ]
        assert not subscription.lagged
    assert one.statistics() == {"generation": 4, "subscribers": 0, "changes_told": 4}


async def test_a_subscriber_that_does_not_read_is_told_that_it_lags_and_the_others_hear_all() -> None:
    one = store(endpoint("lab"))
    with one.subscribe() as slow, one.subscribe() as fast:
        for n in range(MOST_WAITING + 1):
            one.update(moved("down" if n % 2 == 0 else "ready"))
            assert (await anext(fast))[0] == n + 2
        assert (slow.lagged, fast.lagged) == (True, False)
        assert one.statistics()["subscribers"] == 1
        queued = [generation async for generation, _ in slow]
        assert queued == list(range(2, MOST_WAITING + 2))  # no gap before the end


async def test_a_server_with_more_models_than_may_wait_cuts_nobody_off_that_keeps_up() -> None:
    one = store(endpoint("lab", "llamacpp"))
    with one.subscribe() as subscription:
        many = tuple(Model(name=f"m{n}") for n in range(2 * MOST_WAITING))
        one.update(
            lambda world: replace(world, generation=9, endpoints=(replace(world.endpoints[0], models=many),))
        )
        assert not subscription.lagged
        _, changed = await anext(subscription)
        assert len(changed) == 2 * MOST_WAITING
        one.update(moved("down"))
        assert [change.after for change in (await anext(subscription))[1]] == ["down"]


async def test_what_changes_after_the_subscribers_were_let_go_breaks_nothing() -> None:
    one = store(endpoint("lab"))
    with one.subscribe() as subscription:
        one.update(moved("down"))
        one.end_subscriptions()
        waiting = one.world.generation
        one.update(moved("ready"))
        assert (await one.wait_changed(waiting)).endpoints[0].state == "ready"
        assert [change.after async for _, (change,) in subscription] == ["down"]
        assert not subscription.lagged


async def test_a_subscriber_that_left_is_forgotten() -> None:
    one = store(endpoint("lab"))
    with one.subscribe() as subscription:
        subscription.close()
        one.update(moved("down"))
        assert one.statistics()["subscribers"] == 0


async def test_an_answer_is_made_once_a_generation() -> None:
    one = store(endpoint("lab", "llamacpp", "m"))
    question = Question(model="lab/m")
    first = one.answer(question)
    assert one.answer(Question(model="lab/m")) is first
    one.update(moved("down"))
    assert one.answer(question) is not first


async def test_the_age_is_that_of_the_last_look_and_youth_is_two_cadences() -> None:
    one = store(endpoint("lab"))
    assert (one.age("lab"), one.is_young("lab"), one.age("nobody"), one.is_young("nobody")) == (
        None,
        False,
        None,
        False,
    )
    one.saw("lab", latency=0.002, cadence=2.0)
    assert one.slots[0][1:] == (2000, 2000)
    await anyio.sleep(4.4)
    assert one.age("lab") == pytest.approx(4.4)
    assert one.is_young("lab")
    await anyio.sleep(0.2)
    assert not one.is_young("lab")
    one.saw("nobody", latency=None, cadence=1.0)


@pytest.mark.parametrize(
    ("latency", "cadence", "row"),
    [(None, 1.0, (0, 1000)), (0.0, 1.0, (1, 1000)), (1e9, 1e9, (2**32 - 1, 2**32 - 1))],
)
async def test_a_row_of_the_beat_never_overflows(
    latency: float | None, cadence: float, row: tuple[int, int]
) -> None:
    one = store(endpoint("lab"))
    one.saw("lab", latency=latency, cadence=cadence)
    assert one.slots[0][1:] == row


async def test_the_beat_forgets_an_endpoint_that_moved_and_a_row_that_has_another_owner() -> None:
    ends = [endpoint(name, url=f"http://127.0.0.1:{n}", slot=-1) for n, name in enumerate("abc", 1)]
    one = store(*ends)
    for each in ends:
        one.saw(each.name, latency=0.1, cadence=1.0)
    changed = [
        replace(ends[0], url="http://127.0.0.1:9"),
        ends[1],
        endpoint("d", url="http://127.0.0.1:3", slot=-1),
    ]
    one.update(lambda world: expect(world, changed))
    assert [one.age(name) is None for name in "abd"] == [True, False, True]
