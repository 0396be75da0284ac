"""``python -m tests.stress.observed serve``: hived as it is, with a window into its process.

Whoever connects to ``$HIVED_STRESS_WINDOW`` is told, after a collection of the garbage, how much lives in
there. A thread of its own does that, so that the daemon's loop has nothing to do with it.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import msgspec

from hived.cli import main
from tests.daemon.running import DEADLINE, Running
from tests.stress.usage import Usage, usage_of

WINDOW = "HIVED_STRESS_WINDOW"


class Living(msgspec.Struct, frozen=True):
    """What lives in a process after a collection."""

    blocks: int
    """Pieces of memory that Python has handed out: every object is one or more of them."""
    objects: int
    tasks: int
    threads: int
    kinds: dict[str, int]
    """How many objects there are of each type."""


class Observed(Running):
    """A daemon with a window."""

    module = "tests.stress.observed"

    def __init__(self, environment: dict[str, str], *, backend: str = "asyncio") -> None:
        self._window = f"{environment['HOME']}/window"
        super().__init__(environment | {WINDOW: self._window}, backend=backend)

    def look(self) -> tuple[Living, Usage]:
        """Look through the window, and from outside."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE)
            peer.connect(self._window)
            data = b""
            while more := peer.recv(65_536):
                data += more
        return msgspec.msgpack.decode(data, type=Living), usage_of(self.pid)


def count() -> Living:
    """Collect, and count what is left."""
    while gc.collect():
        pass
    found = gc.get_objects()
    kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in found)
    objects = len(found)
    del found
    return Living(
        blocks=sys.getallocatedblocks(),
        objects=objects,
        tasks=sum(number for kind, number in kinds.items() if kind.rpartition(".")[2] == "Task"),
        threads=threading.active_count(),
        kinds=kinds,
    )


def _show(listener: socket.socket) -> None:
    count()  # what counting itself makes is there from now on
    while True:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(msgspec.msgpack.encode(count()))


if __name__ == "__main__":
    window = socket.socket(socket.AF_UNIX)
    Path(os.environ[WINDOW]).unlink(missing_ok=True)
    window.bind(os.environ[WINDOW])
    window.listen()
    threading.Thread(target=_show, args=(window,), daemon=True).start()
    sys.exit(main())
