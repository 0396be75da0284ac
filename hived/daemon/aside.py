"""What may hang is done in threads beside the loop, and nobody waits for it longer than they want to.

A file of a home on a network that is gone, a list of processes that the kernel holds, code of a plug-in: a
thread that waits for one of those can not be ended. It is left to itself, it counts among the few that may be
so until it comes back, and the end of the daemon does not wait for it (``hived.daemon.app.serve``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


class Aside:
    """A few threads for one purpose, so that what hangs there hangs nothing else."""

    def __init__(self, most: int = 1) -> None:
        """``most`` calls are under way at once, those that hang among them."""
        self._most = most
        self._turns = anyio.CapacityLimiter(most)
        # asyncio's limiter forgets a thread as soon as nobody waits for it any more.
        self._room = threading.Semaphore(most)

    def __repr__(self) -> str:
        return f"<Aside {self._most}>"

    async def within(self, seconds: float, act: Callable[[], T]) -> T:
        """Return what it returns, or raise what it raises. Safe to cancel.

        Raises TimeoutError where that takes longer, or where all threads hang.
        """

        def run() -> T:
            # One that nobody waits for any more may be about to come back.
            if not self._room.acquire(timeout=seconds):
                raise TimeoutError("all threads for it hang")
            try:
                return act()
            finally:
                self._room.release()

        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._turns)
