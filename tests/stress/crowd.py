"""Clients that keep asking, in processes of their own, and remember every answer.

``Crowd`` starts them and collects what they were told; run as a program, this file is one of them. A
client asks, waits a moment by chance, and asks again, whatever it was told; a listener subscribes, and
again when that ends. What they were told is judged afterwards, by whoever knows what was true.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import anyio
import msgspec

from hived_client.doors.aio import AsyncClient
from hived_client.doors.paths import places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.resolution import Target
from hived_client.vocabulary.world import Change
from tests.stress.truth import Answer, Lost

AGAIN = 0.2
"""Seconds before a listener subscribes again."""
GIVE_UP = 60.0
"""Seconds in which a crowd must be ready, and in which it must be done."""


class Plan(msgspec.Struct, frozen=True):
    """What the clients of one process are and ask."""

    kind: str
    """``blocking`` (with a client each), ``shared`` (with one), ``asyncio``, ``trio``; ``listening``."""
    count: int
    questions: tuple[str, ...]
    seed: str
    fresh: float = 0.25
    """Share of the questions that want a new look."""
    timeout: float = 0.6
    pause: float = 0.1
    """Seconds between an answer and the next question, at most."""


class Told(msgspec.Struct, frozen=True):
    """What one process was told."""

    answers: list[Answer] = []
    subscriptions: int = 0
    events: int = 0
    gaps: list[str] = []
    """Changes whose ``before`` is not what the change before them came to: one was lost."""
    ends: dict[str, int] = {}
    """How subscriptions ended."""


class Crowd:
    """Processes of clients. ``with crowd.asking(): …`` and then ``crowd.told``."""

    def __init__(self, environment: Mapping[str, str], plans: Sequence[Plan]) -> None:
        self._environment = dict(environment)
        self._plans = plans
        self._asked: list[Told] = []
        self.lost = Lost()
        """What the machine had no time for meanwhile."""

    def __repr__(self) -> str:
        return f"<Crowd of {sum(plan.count for plan in self._plans)}>"

    @property
    def answers(self) -> list[Answer]:
        return [answer for told in self._asked for answer in told.answers]

    @property
    def told(self) -> list[Told]:
        """What the listeners were told."""
        return [told for told in self._asked if told.subscriptions]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Have them ask meanwhile. Raises AssertionError for a client that crashed or does not come back."""
        children = [self._begin(plan) for plan in self._plans]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == b"asking\n", "a process of the crowd did not begin"
            with noticing(self.lost):
                yield
            for child, plan in zip(children, self._plans, strict=True):
                try:
                    out, _ = child.communicate(b"enough\n", timeout=GIVE_UP)
                except subprocess.TimeoutExpired:
                    raise AssertionError(f"{plan.kind} clients hang for {GIVE_UP} s") from None
                assert child.returncode == 0, f"{plan.kind} clients ended with {child.returncode}"
                self._asked.append(msgspec.msgpack.decode(out, type=Told))
        finally:
            for child in children:
                child.kill()
                child.wait()
                for pipe in (child.stdin, child.stdout):
                    if pipe is not None:
                        pipe.close()

    def _begin(self, plan: Plan) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-P", "-m", "tests.stress.crowd", msgspec.json.encode(plan).decode()]
        return subprocess.Popen(words, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


TICK = 0.02
"""Seconds between two moments at which somebody is there who wants to run."""


@contextmanager
def noticing(lost: Lost) -> Iterator[None]:
    """Note when a thread that wants to run all the time does not come to it."""
    enough = threading.Event()

    def tick() -> None:
        due = time.monotonic() + TICK
        while not enough.wait(TICK):
            if (now := time.monotonic()) > due + TICK:
                lost.add(due, now)
            due = now + TICK

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


class _Client:
    """What one client of a plan does by chance."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._chance = random.Random(f"{plan.seed} {plan.kind} {number}")

    def next(self) -> tuple[str, bool, float]:
        """Return what to ask, whether for a new look, and how long to pause afterwards."""
        plan, chance = self._plan, self._chance
        return chance.choice(plan.questions), chance.random() < plan.fresh, chance.uniform(0.0, plan.pause)

    def note(self, question: str, fresh: bool, asked: float, found: Target | HivedError) -> Answer:
        answered = time.monotonic()
        mode = "fresh" if fresh else "file"
        if isinstance(found, Target):
            said, detail = "yes", found.api_base
            warnings = tuple(warning.code for warning in found.warnings)
        else:
            said, detail, warnings = found.code, found.message, ()
        return Answer(self._plan.kind, question, mode, asked, answered, said, detail, warnings)


def _ask(client: Client, plan: Plan, number: int, told: list[Answer], enough: threading.Event) -> None:
    one = _Client(plan, number)
    while not enough.is_set():
        question, fresh, pause = one.next()
        asked = time.monotonic()
        found: Target | HivedError
        try:
            found = client.resolve(question, fresh=fresh, timeout=plan.timeout)
        except HivedError as error:
            found = error
        told.append(one.note(question, fresh, asked, found))
        enough.wait(pause)


def _threads(plan: Plan, enough: threading.Event) -> Told:
    told: list[Answer] = []
    one = Client(places())
    clients = [one if plan.kind == "shared" else Client(places()) for _ in range(plan.count)]
    threads = [
        threading.Thread(target=_ask, args=(client, plan, number, told, enough))
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Told(answers=told)


async def _tasks(plan: Plan, enough: threading.Event) -> Told:
    told: list[Answer] = []

    async def ask(number: int) -> None:
        client, one = AsyncClient(places()), _Client(plan, number)
        while not enough.is_set():
            question, fresh, pause = one.next()
            asked = time.monotonic()
            found: Target | HivedError
            try:
                found = await client.resolve(question, fresh=fresh, timeout=plan.timeout)
            except HivedError as error:
                found = error
            told.append(one.note(question, fresh, asked, found))
            await anyio.sleep(pause)

    async with anyio.create_task_group() as tasks:
        for number in range(plan.count):
            tasks.start_soon(ask, number)
    return Told(answers=told)


class _Ears:
    """What a listener has heard."""

    def __init__(self) -> None:
        self.subscriptions = self.events = 0
        self.gaps: list[str] = []
        self.ends: dict[str, int] = {}

    def listen(self, enough: threading.Event) -> None:
        client = Client(places())
        while not enough.is_set():
            self.subscriptions += 1
            states: dict[str, str | None] = {}
            try:
                for change in client.events():
                    self.hear(change, states)
            except HivedError as error:
                self.ends[error.code] = self.ends.get(error.code, 0) + 1
            enough.wait(AGAIN)

    def hear(self, change: Change, states: dict[str, str | None]) -> None:
        self.events += 1
        if change.event not in ("endpoint.state", "endpoint.added", "endpoint.removed"):
            return
        name = change.endpoint or ""
        if name in states and states[name] != change.before:
            self.gaps.append(f"{name}: {states[name]}, then {change.before} became {change.after}")
        states[name] = change.after


def _listeners(plan: Plan, enough: threading.Event) -> Told:
    ears = [_Ears() for _ in range(plan.count)]
    for each in ears:  # they may wait for an event that never comes: nobody joins them
        threading.Thread(target=each.listen, args=(enough,), daemon=True).start()
    enough.wait()
    ends = sorted(code for each in ears for code in itertools.chain(*([c] * n for c, n in each.ends.items())))
    return Told(
        subscriptions=sum(each.subscriptions for each in ears),
        events=sum(each.events for each in ears),
        gaps=[gap for each in ears for gap in each.gaps],
        ends={code: ends.count(code) for code in dict.fromkeys(ends)},
    )


def main() -> None:
    """Be the clients of one plan until a line comes; then write what they were told."""
    plan = msgspec.convert(json.loads(sys.argv[1]), Plan)
    enough = threading.Event()

    def wait_for_enough() -> None:
        sys.stdin.readline()
        enough.set()

    threading.Thread(target=wait_for_enough, daemon=True).start()
    print("asking", flush=True)
    if plan.kind in ("asyncio", "trio"):
        told = anyio.run(_tasks, plan, enough, backend=plan.kind)
    else:
        told = (_listeners if plan.kind == "listening" else _threads)(plan, enough)
    sys.stdout.buffer.write(msgspec.msgpack.encode(told))
    sys.stdout.flush()
    os._exit(0)  # a listener may still wait


if __name__ == "__main__":
    main()
