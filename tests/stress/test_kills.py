"""The daemon is killed 200 times at random moments, under 50 clients that keep asking.

A kill comes anywhere in a daemon's life: while Python still starts, before and after the lock, between the
socket's two names, in the middle of a snapshot or of an answer. Meanwhile an endpoint comes and goes in
the configuration, so that there is always something to publish.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.daemon.running import Running, configure, mentioning, serving
from tests.stress.crowd import Crowd, Plan
from tests.stress.figures import SCALE, Tell
from tests.stress.judging import KINDS, some, tell_of_answers, wrong_answers
from tests.stress.model_server import ModelServer
from tests.stress.truth import Timeline

KILLS = round(200 * SCALE)
STARTING, SERVING = 0.4, 0.2
"""Seconds from the start of a process to its kill, at most, and from its first answer, every other time."""
SETTLES = 3.0
"""Seconds for which the last daemon is let live: every answer must be one of a daemon that runs again."""

UP, DOWN = "lab/m", "away/m"


def test_kill_9_at_random_moments_under_50_clients(
    environment: dict[str, str], home: Path, chance: random.Random, seed: str, tell: Tell
) -> None:
    askers = [Plan(kind, 10, (UP, DOWN), seed, pause=0.4) for kind in KINDS]
    crowd = Crowd(environment, [*askers, Plan("listening", 10, (), seed)])
    life = Timeline()
    with contextlib.ExitStack() as stack:
        lab, away = ModelServer(environment, "lab"), ModelServer(environment, "away")
        for server in (lab, away):
            stack.callback(server.leave)
        lab.become("up")
        expect(environment, lab, away, 0)
        daemon = stack.enter_context(Running(environment))
        daemon.client.refresh()
        with crowd.asking():
            life.add("is killed", 0.0, 0.0)
            kill(daemon, chance, lambda number: expect(environment, lab, away, number))
            daemon.wait_ready()
            daemon.client.refresh()
            life.add("runs", time.monotonic(), time.monotonic())
            time.sleep(SETTLES)  # what is asked now, and was asked before, must be answered as ever
        assert "Traceback" not in daemon.log, daemon.log[-4000:]
        assert serving(environment) == [daemon.pid]
        assert files_of(home) == {*KEPT, "run/v1/hived.sock"}
        assert daemon.terminate() == 0
        assert files_of(home) == KEPT
        assert mentioning(f"HOME={home}") == [lab.pid]
    tell("kills", f"{KILLS}, {len(daemon.events('daemon.ready')) - 1} of a daemon that had served")
    tell_of_answers(tell, crowd)
    wrong = wrong_answers(
        crowd.answers, {UP: lab.fits(), DOWN: away.fits()}, life, bound=0.0, after=0.0, lost=crowd.lost
    )
    assert not wrong, some(wrong)
    assert [gap for told in crowd.told for gap in told.gaps] == []


def kill(daemon: Running, chance: random.Random, change: Callable[[int], None]) -> None:
    """Kill a daemon and start the next one, again and again."""
    for number in range(KILLS):
        lives = chance.uniform(0.0, STARTING)
        if number % 2:
            daemon.wait_ready()
            lives = chance.uniform(0.0, SERVING)
        time.sleep(lives / 2)  # the moment of the change, by chance
        change(number)
        time.sleep(lives / 2)  # and that of the kill
        daemon.kill()
        daemon.begin()


def expect(environment: dict[str, str], lab: ModelServer, away: ModelServer, number: int) -> None:
    """Write a configuration that differs from the last one."""
    providers = {server.name: {"like": "llamacpp", "api_base": server.url} for server in (lab, away)}
    more = {"more": {"like": "vllm", "api_base": "http://127.0.0.1:9"}} if number % 2 else {}
    configure(environment, {**providers, **more})


KEPT = {
    ".hive/configuration.json",
    ".hive/run/hived.json",
    "daemon.log",
    "run/v1/beat",
    "run/v1/lock",
    "state/hived/claim",
    "run/v1/snapshot",
    "state/hived/hardware",
    "state/hived/last-known",
}
"""What a daemon leaves when it ends in good order, and nothing else may be there."""


def files_of(home: Path) -> set[str]:
    """Return every file below a home."""
    return {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}
