"""From a thread to a task of an event loop, asyncio's or trio's.

A deque and a pair of sockets: the one way to wake a loop of either kind from a thread without waiting in
another thread for it.
"""

from __future__ import annotations

import contextvars
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Post:
    """Things on their way from a thread to a task. Made and read in one task, filled from any thread."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._lock = threading.Lock()
        self._open = True
        self._hear, self._ring = socket.socketpair()
        self._hear.setblocking(False)
        self._ring.setblocking(False)

    def put(self, item: Any) -> None:
        """Hand something over; from any thread."""
        self._items.append(item)
        with self._lock:  # a number of a socket that is closed may be somebody else's by now
            if self._open:
                try:
                    self._ring.send(b"x")
                except BlockingIOError:
                    pass  # it rings already

    async def get(self) -> Any:
        """Return the next thing, as soon as there is one."""
        import anyio

        while not self._items:
            await anyio.wait_readable(self._hear)
            self._hear.recv(65_536)
        return self._items.popleft()

    def close(self) -> None:
        """Take no more. What is put from now on is nobody's."""
        with self._lock:
            self._open = False
            self._hear.close()
            self._ring.close()


async def run_aside(function: Callable[[], object]) -> object:
    """Run a function that blocks in a thread of its own, which nobody waits for at the end of the process.

    The loop's own threads are waited for: one function that hangs would keep the process from ending. Safe
    to cancel; the function then goes on, and what it comes to is dropped. Raises what it raises.
    """
    import anyio.to_thread

    post = Post()

    def work() -> None:
        try:
            post.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            post.put((None, error))

    def begin() -> None:
        # In a thread of the loop's: there, the caller's context says that no event loop runs.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="tool", daemon=True).start()

    try:
        await anyio.to_thread.run_sync(begin)
        result, error = await post.get()
    finally:
        post.close()
    if error is not None:
        raise error
    found: object = result
    return found
