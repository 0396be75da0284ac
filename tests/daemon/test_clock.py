"""What is done again and again is done at the same moments, so that the process wakes once for all of it."""

from __future__ import annotations

import anyio
import pytest

from hived.daemon.clock import until_next
from tests.daemon.virtual_time import Backend, virtual


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


@pytest.mark.anyio
async def test_who_began_at_different_times_wakes_together_ever_after() -> None:
    turns: dict[str, list[float]] = {"often": [], "seldom": []}

    async def turn(name: str, interval: float, after: float) -> None:
        await anyio.sleep(after)
        while len(turns[name]) < 12:
            await anyio.sleep(until_next(interval))
            turns[name].append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn, "often", 0.5 / 3, 0.07)
        tasks.start_soon(turn, "seldom", 0.5, 0.31)
    shared = [now for now in turns["often"] if any(abs(now - other) < 1e-6 for other in turns["seldom"])]
    assert len(shared) >= 3
    assert turns["seldom"][-1] - turns["seldom"][0] == pytest.approx(11 * 0.5)
