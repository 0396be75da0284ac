"""The machine sleeps and wakes: what was seen before is as old as it is, and is looked at again at once."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from hived.daemon.app import App
from hived.daemon.clock import Clock
from hived_client.doors.files import Files
from hived_client.doors.paths import Places
from tests.daemon.running import A_CADENCE, DEADLINE, configure, llamacpp_at, wait_until
from tests.servers.strangers import LyingLlamaCpp

A_NIGHT = 8 * 3600


class Sleeper(Clock):
    """The clock of a machine that can be said to have slept."""

    slept = 0.0

    def since_boot_ns(self) -> int:
        return super().since_boot_ns() + int(self.slept * 1e9)


async def until(holds: Callable[[], bool], seconds: float = DEADLINE) -> None:
    await anyio.to_thread.run_sync(lambda: wait_until(holds, deadline=seconds))


def looks(app: App) -> int:
    """Return how often the server was looked at; 0 until its process was found and looked at once more."""
    fleet = app.statistics()["monitors"]
    assert isinstance(fleet, dict)
    found = fleet.get("llamacpp", {"watched": False, "looks": 0})
    return int(found["looks"]) if found["watched"] and found["looks"] > 1 else 0


@pytest.mark.slow
@pytest.mark.anyio
async def test_after_a_resume_nothing_looks_younger_than_it_is_and_all_is_looked_at_again(
    environment: dict[str, str], where: Places
) -> None:
    clock = Sleeper()
    files = Files(where, clock=lambda: clock.since_boot_ns() / 1e9)
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        app = App(where, environment, clock)
        async with anyio.create_task_group() as tasks:
            await tasks.start(app.run)
            await until(lambda: looks(app) > 0 and files.look().is_young("llamacpp"))
            before = looks(app)
            clock.slept = A_NIGHT
            view = files.look()
            assert not view.is_young("llamacpp")
            assert (view.age("llamacpp") or 0.0) > A_NIGHT - 60
            assert view.verdict == "stale"
            await until(lambda: looks(app) > before, A_CADENCE)
            await until(lambda: files.look().is_young("llamacpp"))
            assert files.look().verdict == "fresh"
            app.stop()
