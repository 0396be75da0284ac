"""A soak: servers flap and clients come, ask and go, round after round; at rest nothing may have grown.

A round ends in the same rest: every server up and looked at, nobody connected, the garbage collected. What
lives in the daemon then is compared from round to round, so that a leak of one object a look is far more
than the noise.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from tests.daemon.running import wait_until
from tests.stress.crowd import Crowd, Plan
from tests.stress.figures import SCALE, Tell, slope
from tests.stress.judging import KINDS, some, wrong_answers
from tests.stress.model_server import ModelServer, flap
from tests.stress.observed import Living, Observed
from tests.stress.truth import Timeline
from tests.stress.usage import Usage

ROUNDS = max(4, round(4 * SCALE))
WARM = 2
"""Rounds of which only the last counts: until then caches fill, and what is imported late is imported."""
SECONDS = 8.0
"""Seconds of load in a round."""
BOUND = 2.5
"""Seconds that a fact may be old; as where servers flap and nothing else is looked at."""
LOOKS = 60
"""Looks at each server, one after another, before everything rests: many that are all the same."""
GLANCES = 5
A_LOOK = 0.5
"""Pieces of memory by which the daemon may grow for each look at a server: less than one."""

MOST = 32 * 1024
"""KiB by which the process may grow, however long it lasts: not what lives in it, which is counted, but what
the system's allocator keeps for each thread that ever read /proc."""


class Rest(NamedTuple):
    """The daemon at the end of a round."""

    at: float
    looks: int
    living: Living
    tasks: int
    usage: Usage


def test_soak(
    environment: dict[str, str],
    servers: list[ModelServer],
    chance: random.Random,
    seed: str,
    tell: Tell,
) -> None:
    questions = tuple(f"{server.name}/m" for server in servers)
    runs = Timeline()
    runs.add("runs", 0.0, 0.0)
    rests: list[Rest] = []
    answers = 0
    with Observed(environment) as daemon:
        for number in range(ROUNDS):
            crowd = Crowd(environment, plans(questions, f"{seed} {number}"))
            with crowd.asking():
                flap(servers, chance, SECONDS)
            answers += len(crowd.answers)
            rests.append(rest(daemon, servers))
            fits = {f"{server.name}/m": server.fits() for server in servers}
            wrong = wrong_answers(crowd.answers, fits, runs, bound=BOUND, after=0.0, lost=crowd.lost)
            assert not wrong, some(wrong)
        assert "Traceback" not in daemon.log, daemon.log[-4000:]
    tell_of(tell, rests, answers)
    first, last = rests[WARM - 1], rests[-1]
    looks = last.looks - first.looks
    assert last.living.blocks - first.living.blocks < A_LOOK * looks, grown(first.living, last.living)
    assert last.tasks <= first.tasks, grown(first.living, last.living)
    assert last.usage.descriptors <= first.usage.descriptors
    assert last.usage.pss - first.usage.pss < MOST


def plans(questions: tuple[str, ...], seed: str) -> list[Plan]:
    """Return clients that mostly want new looks."""
    askers = [Plan(kind, 3, questions, seed, fresh=0.7, pause=0.05) for kind in KINDS]
    return [*askers, Plan("listening", 3, (), seed)]


def rest(daemon: Observed, servers: list[ModelServer]) -> Rest:
    """Bring everything to rest, and look."""
    for server in servers:
        server.become("up")
    for _ in range(LOOKS):
        daemon.client.refresh()
    wait_until(lambda: {each.state for each in daemon.client.world().world.endpoints} == {"ready"})
    wait_until(lambda: daemon.client.statistics()["server"]["connections"] == 1)
    looks = sum(each["looks"] for each in daemon.client.statistics()["monitors"].values())
    wait_until(
        lambda: all(each["watched"] for each in daemon.client.statistics()["monitors"].values()),
        lambda: f"a process is not watched: {daemon.client.statistics()['monitors']} {daemon.log[-3000:]}",
    )
    seen = []
    for _ in range(GLANCES):
        seen.append(daemon.look())
        time.sleep(0.1)  # what comes and goes by itself, a knock or a look, has gone at one of the glances
    return Rest(
        at=time.monotonic(),
        looks=looks,
        living=min((living for living, _ in seen), key=lambda each: each.blocks),
        tasks=min(living.tasks for living, _ in seen),
        usage=min((usage for _, usage in seen), key=lambda each: each.descriptors),
    )


def tell_of(tell: Tell, rests: list[Rest], answers: int) -> None:
    first, last = rests[WARM - 1], rests[-1]
    looks = last.looks - first.looks
    tell("rounds", f"{len(rests)}, {WARM} to warm up; {answers} answers; {looks} looks since then")

    def grows(what: str, values: list[float], unit: str = "") -> None:
        points = [(each.at, value) for each, value in zip(rests, values, strict=True)][WARM - 1 :]
        shown = " ".join(f"{value:.0f}" for value in values)
        tell(what, f"{slope(points):+.1f}{unit} a minute   ({shown})")

    grows("memory, RSS", [each.usage.rss for each in rests], " KiB")
    grows("memory, PSS", [each.usage.pss for each in rests], " KiB")
    grows("pieces of memory", [each.living.blocks for each in rests])
    grows("objects", [each.living.objects for each in rests])
    grows("tasks", [each.tasks for each in rests])
    grows("threads", [each.living.threads for each in rests])
    grows("file descriptors", [each.usage.descriptors for each in rests])
    grown_by = last.living.blocks - first.living.blocks
    tell("pieces of memory for each look", f"{grown_by / max(1, looks):+.3f}; less than {A_LOOK}")


def grown(before: Living, after: Living) -> str:
    """Say what there is more of."""
    more = {kind: number - before.kinds.get(kind, 0) for kind, number in after.kinds.items()}
    most = sorted(more.items(), key=lambda each: -each[1])[:15]
    return f"{after.blocks - before.blocks} pieces: " + ", ".join(f"{n} {kind}" for kind, n in most if n > 0)
