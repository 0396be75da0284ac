"""Model servers come, go, hang and are replaced by others, while clients ask: no answer is a wrong one."""

from __future__ import annotations

import random

import pytest

from tests.daemon.running import Running
from tests.stress.crowd import Crowd, Plan
from tests.stress.figures import SCALE, Tell
from tests.stress.judging import some, tell_of_answers, tell_of_lateness, wrong_answers
from tests.stress.model_server import ModelServer, flap
from tests.stress.truth import Timeline

SECONDS = 16.0 * SCALE
BOUND = 2.5
"""Seconds that a fact may be old: a server's end is told at once where its process is known, and by a knock
two seconds later where it is not; a server that hangs is known after two."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_answers_about_servers_that_flap(
    environment: dict[str, str],
    servers: list[ModelServer],
    chance: random.Random,
    seed: str,
    tell: Tell,
    backend: str,
) -> None:
    questions = tuple(f"{server.name}/m" for server in servers)
    crowd = Crowd(
        environment,
        [
            Plan("blocking", 8, questions, seed),
            Plan("shared", 4, questions, seed),
            Plan("asyncio", 4, questions, seed),
            Plan("trio", 4, questions, seed),
            Plan("listening", 4, (), seed),
        ],
    )
    daemon_runs = Timeline()
    daemon_runs.add("runs", 0.0, 0.0)
    with Running(environment, backend=backend) as daemon:
        with crowd.asking():
            changes = flap(servers, chance, SECONDS / 2)
        assert daemon.process.poll() is None, daemon.log[-4000:]
        assert "Traceback" not in daemon.log, daemon.log[-4000:]
    fits = {f"{server.name}/m": server.fits() for server in servers}
    tell("changes of servers", changes)
    tell_of_answers(tell, crowd)
    tell_of_lateness(tell, crowd.answers, fits)
    wrong = wrong_answers(crowd.answers, fits, daemon_runs, bound=BOUND, after=0.0, lost=crowd.lost)
    assert not wrong, some(wrong)
    assert [gap for told in crowd.told for gap in told.gaps] == []
