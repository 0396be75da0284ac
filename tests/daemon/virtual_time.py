"""Time that stands still while anything can run and jumps to the next timer when nothing can.

trio has it built in (``MockClock``). asyncio gets it from a selector that never waits for a timer: it
moves the loop's clock instead. Only for tests without threads, processes and sockets, which are
invisible to such a clock.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

import anyio
from trio.testing import MockClock

from hived.daemon.clock import Clock

EPOCH = 1_700_000_000.0
"""The wall's time when a test begins."""

Backend = tuple[str, dict[str, object]]


class _Jumping(selectors.BaseSelector):
    """Hand everything on, but let time pass instead of waiting."""

    def __init__(self, loop: JumpingLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # With no timer at all only a real event can come: a thread of the loop that is being closed.
        ready = self._real.select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self._loop.now += timeout
        return ready

    def register(self, fileobj: object, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)  # type: ignore[arg-type]

    def unregister(self, fileobj: object) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)  # type: ignore[arg-type]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose time advances only when nothing else is left to do."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


def virtual(backend: str) -> Backend:
    """Return the ``anyio_backend`` in which time is a toy; a new clock each time."""
    if backend == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": JumpingLoop}


class VirtualClock(Clock):
    """The daemon's clock, on the backend's toy time."""

    def wall(self) -> float:
        return EPOCH + anyio.current_time()

    def since_boot_ns(self) -> int:
        # Never 0, which says that nothing was seen.
        return 1_000_000_000 + int(anyio.current_time() * 1e9)

    def monotonic_ns(self) -> int:
        return self.since_boot_ns()
