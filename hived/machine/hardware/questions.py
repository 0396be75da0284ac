"""Questions that may never come back, asked at once and within a time, each in a thread of its own. Blocks.

A folder of PATH may lie on a disk that hangs, and whoever knows the users' names may be a server that is
gone. A thread that did not come back is left behind, and no other joins it: its question is not asked again
while it is there. It does not keep the process from ending.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping

from hived.machine.hardware.understanding import NOBODY, Reply

Replies = dict[str, Reply]
Question = Callable[[float], Replies]
"""Asks something; is given the moment (monotonic) by which it must be back."""

_FIRST = {"nvidia": "nvml"}
"""Questions that ask several probes, and the first of them, of which it is said that it did not come back."""

_GIVEN_UP = ""


class Questions:
    """Asks, by one thread after the other; another thread may have it give up."""

    def __init__(self) -> None:
        self.hanging: dict[str, threading.Thread] = {}
        """Questions that did not come back in their time, and were left behind."""
        self._done: queue.SimpleQueue[tuple[str, Replies]] = queue.SimpleQueue()
        self._given_up = threading.Event()

    def __repr__(self) -> str:
        return f"<Questions, {len(self.hanging)} left behind>"

    @property
    def is_given_up(self) -> bool:
        """Tell whether nobody waits for answers any more."""
        return self._given_up.is_set()

    def begin(self) -> None:
        """Ask again, after it was given up."""
        self._given_up.clear()

    def give_up(self) -> None:
        """Have whoever waits for answers wait no longer; from another thread, at once."""
        self._given_up.set()
        self._done.put((_GIVEN_UP, {}))

    def gather(self, questions: Mapping[str, Question], skip: frozenset[str], until: float) -> Replies:
        """Ask all but ``skip``; what is not back in time is late, and its thread is left to itself."""
        done = self._done = queue.SimpleQueue()
        if self.is_given_up:
            return {}
        self.hanging = {name: each for name, each in self.hanging.items() if each.is_alive()}
        begun = time.monotonic()

        def run(name: str, ask: Question) -> None:
            done.put((name, ask(until)))

        threads = {
            name: threading.Thread(target=run, args=(name, ask), name=f"hardware {name}", daemon=True)
            for name, ask in questions.items()
            if name not in skip and name not in self.hanging
        }
        for thread in threads.values():
            thread.start()
        stuck = Reply(state="stuck", why="it was asked before, and has not come back")
        replies = {_probe(name): stuck for name in questions.keys() & self.hanging.keys() - skip}
        waiting = set(threads)
        while waiting:
            try:
                name, found = done.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self.hanging |= {each: threads[each] for each in waiting}
                break
            if name == _GIVEN_UP:
                break  # what comes now is thrown away
            waiting.discard(name)
            replies |= found
        late = Reply(state="late", why="it did not come back", seconds=time.monotonic() - begun)
        return replies | {_probe(name): late for name in waiting}


def _probe(question: str) -> str:
    return _FIRST.get(question, question)


def aside(name: str, find: Callable[[], str | None]) -> Question:
    """Make a question of what may wait for a disk, or for another machine, for good."""

    def ask(until: float) -> Replies:
        begun = time.monotonic()
        return {name: Reply(state="ok", out=find() or "", seconds=time.monotonic() - begun)}

    return ask


def words_of(replies: Replies, name: str) -> str:
    """Return what was found aside; empty where nothing was."""
    reply = replies.get(name, NOBODY)
    return reply.out if reply.state == "ok" else ""
