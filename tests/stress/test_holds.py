"""The daemon is stopped and goes on (SIGSTOP, SIGCONT) while servers flap and clients ask.

A daemon that is stopped looks like one that is busy: the kernel goes on accepting for it. Its clients must
answer in time, from what the files say, and say that it is only that as soon as the beat is not young.
"""

from __future__ import annotations

import random
import threading
import time

from tests.daemon.running import DEADLINE, Running
from tests.stress.crowd import Crowd, Plan
from tests.stress.figures import SCALE, Tell
from tests.stress.judging import KINDS, some, tell_of_answers, wrong_answers
from tests.stress.model_server import ModelServer, flap
from tests.stress.truth import Timeline

SECONDS = 12.0 * SCALE
AGE = 2.5 + 1.5
"""Seconds that a fact may be old beside a daemon that is stopped: as old as ever when it was, and as long
again as its last beat is believed."""


def test_a_daemon_that_is_stopped_and_goes_on(
    environment: dict[str, str],
    servers: list[ModelServer],
    chance: random.Random,
    seed: str,
    tell: Tell,
) -> None:
    questions = tuple(f"{server.name}/m" for server in servers)
    crowd = Crowd(environment, [Plan(kind, 5, questions, seed) for kind in KINDS])
    life = Timeline()
    enough = threading.Event()
    with Running(environment) as daemon:
        life.add("runs", 0.0, 0.0)
        flapping = threading.Thread(target=flap, args=(servers, random.Random(seed), SECONDS))
        with crowd.asking():
            flapping.start()
            end = time.monotonic() + SECONDS
            holds = 0
            while time.monotonic() < end:
                hold(daemon, life, 0.1 * 40.0 ** chance.random())  # 0.1 to 4 s
                holds += 1
                enough.wait(chance.uniform(1.0, 2.5))  # in which it catches up
            flapping.join()
        assert daemon.client.greet(timeout=DEADLINE).pid == daemon.pid
        assert "Traceback" not in daemon.log, daemon.log[-4000:]
    tell("times that the daemon was stopped", holds)
    tell_of_answers(tell, crowd)
    fits = {f"{server.name}/m": server.fits() for server in servers}
    wrong = wrong_answers(crowd.answers, fits, life, bound=AGE, after=0.0, lost=crowd.lost)
    assert not wrong, some(wrong)


def hold(daemon: Running, life: Timeline, seconds: float) -> None:
    """Stop the daemon for so long."""
    begun = time.monotonic()
    daemon.hold()
    life.add("is stopped", begun, time.monotonic())
    time.sleep(seconds)  # for which it is stopped
    begun = time.monotonic()
    daemon.go_on()
    life.add("runs", begun, time.monotonic())
