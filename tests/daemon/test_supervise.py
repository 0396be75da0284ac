"""A service that crashes is started again, after waits that grow, and touches nobody else."""

from __future__ import annotations

import anyio
import pytest
import structlog.testing

from hived.daemon.supervise import Supervisor
from tests.daemon.virtual_time import Backend, virtual


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


class Crashing:
    """Crashes each time after ``lasts`` seconds, and returns once it was started ``returns_at`` times."""

    def __init__(self, *lasts: float) -> None:
        self.lasts = list(lasts)
        self.starts: list[float] = []

    async def run(self) -> None:
        self.starts.append(round(anyio.current_time(), 3))
        if not self.lasts:
            return
        await anyio.sleep(self.lasts.pop(0))
        raise ValueError(f"crash {len(self.starts)}")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("lasts", "starts"),
    [
        ([], [0.0]),
        ([0.0] * 9, [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 123.5, 183.5]),
        ([0.0, 0.0, 0.0, 61.0, 0.0], [0.0, 0.5, 1.5, 3.5, 65.0, 66.0]),
        ([60.0, 60.0], [0.0, 60.5, 121.5]),
    ],
)
async def test_the_waits_grow_are_bounded_and_are_forgotten_after_a_minute_of_health(
    lasts: list[float], starts: list[float]
) -> None:
    service = Crashing(*lasts)
    with structlog.testing.capture_logs():
        await Supervisor(lambda: 1.0).keep("it", service.run)
    assert service.starts == starts


@pytest.mark.anyio
async def test_a_day_of_crashes_is_one_start_a_minute() -> None:
    service = Crashing(*[0.0] * 100_000)
    with structlog.testing.capture_logs(), anyio.move_on_after(86_400.0):
        await Supervisor(lambda: 1.0).keep("it", service.run)
    assert 1440 <= len(service.starts) <= 1450


@pytest.mark.anyio
async def test_a_crash_is_logged_once_and_counted_and_harms_nobody_else() -> None:
    bad, good = Crashing(0.0, 0.0), Crashing()
    supervisor = Supervisor(lambda: 1.0)
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.keep, "bad", bad.run)
            tasks.start_soon(supervisor.keep, "good", good.run)
    assert [(line["event"], line["service"], line["failures"], line["wait"]) for line in logs] == [
        ("service.crashed", "bad", 1, 0.5),
        ("service.crashed", "bad", 2, 1.0),
    ]
    assert supervisor.statistics() == {"restarts": {"bad": 2}, "errors": {"bad": "ValueError: crash 2"}}
    assert repr(supervisor) == "<Supervisor 2 restarts>"
    assert good.starts == [0.0]


@pytest.mark.anyio
async def test_several_errors_at_once_are_one_crash() -> None:
    starts = 0

    async def fail() -> None:
        raise ValueError("one of two")

    async def group() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail)
                tasks.start_soon(fail)

    with structlog.testing.capture_logs() as logs:
        await Supervisor(lambda: 0.0).keep("it", group)
    assert (starts, len(logs)) == (2, 1)


@pytest.mark.anyio
async def test_whoever_cancels_ends_it_also_while_it_waits() -> None:
    service = Crashing(*[0.0] * 99)
    with structlog.testing.capture_logs(), anyio.move_on_after(2.0) as scope:
        await Supervisor(lambda: 1.0).keep("it", service.run)
    assert scope.cancelled_caught
    assert service.starts == [0.0, 0.5, 1.5]


@pytest.mark.anyio
async def test_a_service_rests_between_its_crash_and_its_next_start_and_then_no_more() -> None:
    service, supervisor = Crashing(1.0), Supervisor(lambda: 1.0)
    rests: list[bool] = []
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.keep, "it", service.run)
            for _ in range(4):  # at 0.4, 0.8, 1.2 and 1.6 s: it crashes at 1 s and starts again at 1.5
                await anyio.sleep(0.4)
                rests.append(supervisor.is_resting("it"))
    assert rests == [False, False, True, False]
