"""Names of hosts are looked up in threads, each in one of its own, and nobody waits for one that hangs.

A resolver without a network keeps its thread for half a minute, whatever the deadline of who asked. The few
threads that asyncio has would soon all be taken, ``localhost`` would wait for names that nobody has, and the
end of the daemon would wait for them all.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

MOST = 256
"""Lookups that may hang at once. A server may be looked up again while its last lookup still hangs."""

P = ParamSpec("P")
T = TypeVar("T")


def free_lookups() -> None:
    """Let no lookup on this event loop wait for another one. trio's do not."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    loop.set_default_executor(Lookups())


class Lookups(ThreadPoolExecutor):
    """What asyncio runs lookups in. It takes nothing but this class, of which hardly anything is used."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._hanging = threading.Semaphore(MOST)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in a thread of its own, which does not keep the process from ending."""
        future: Future[T] = Future()
        if not self._hanging.acquire(blocking=False):
            future.set_exception(socket.gaierror(socket.EAI_AGAIN, "too many lookups hang"))
            return future

        def run() -> None:
            try:
                if future.set_running_or_notify_cancel():
                    future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                future.set_exception(error)
            finally:
                self._hanging.release()

        threading.Thread(target=run, name="lookup", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for nobody."""
