"""LiteLLM, in a thread and an event loop of its own, started when it is first needed.

Its import takes seconds, its first call imports more, and it counts tokens and reads files between two
awaits: on the caller's event loop all of that would hold up everything else there. Here nothing of it does,
the connections that it keeps belong to one loop for as long as the process lives, and a caller may run on
trio as well. The price is that LiteLLM's own callbacks run in that thread, without the caller's context
variables: those also say which event loop runs, and would be wrong there.

What comes back passes through a ``Post``.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from hived_client.agent.post import Post

CLOSE = 2.0
"""Seconds that a job which was given up has for closing its connection, and the thread for its end."""
_MAP = "LITELLM_LOCAL_MODEL_COST_MAP"

Put = Callable[[Any], None]
Job = Callable[[Any, Put], Awaitable[None]]
"""Gets LiteLLM's module and a way to hand things over, in LiteLLM's loop."""


class NoLiteLlm(Exception):
    """LiteLLM cannot be imported; the text says why."""


def import_litellm() -> Any:
    """Import LiteLLM and return it, without its looking for a price list, without its talking.

    Blocks for seconds the first time. Raises ``NoLiteLlm``.
    """
    asked = _MAP in os.environ
    os.environ.setdefault(_MAP, "True")
    try:
        litellm: Any = importlib.import_module("litellm")
    except Exception as error:
        raise NoLiteLlm(f"{type(error).__name__}: {error}") from error
    finally:
        if not asked:
            os.environ.pop(_MAP, None)
    # Old versions have their own answers written by a newer pydantic, which remarks on it at every call.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    return litellm


class LiteLlmThread:
    """The thread. ``start`` is idempotent and safe from any thread; a child of a fork gets one of its own."""

    def __init__(self, load: Callable[[], Any] = import_litellm) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._litellm: Any = None
        self._failure: NoLiteLlm | None = None

    def __repr__(self) -> str:
        state = (
            "failed" if self._failure else "ready" if self._litellm else "importing" if self._loop else "off"
        )
        return f"<LiteLlmThread {state}>"

    @property
    def ready(self) -> bool:
        """Whether LiteLLM is imported here."""
        return self._litellm is not None and self._pid == os.getpid()

    def start(self) -> asyncio.AbstractEventLoop:
        """Begin to import, where that has not begun, and return the loop; does not wait for it."""
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._pid, self._litellm, self._failure = os.getpid(), None, None
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="litellm", daemon=True
                )
                self._thread.start()
            return self._loop

    def end(self) -> None:
        """Cancel what runs there, and wait a little for the thread's end. Idempotent; at the process's end.

        A thread that Python stops at its own end, wherever it stands, keeps what it holds. In the middle of
        an import that is the lock of all imports, and LiteLLM's objects import when they go (seen with
        1.110: one process in thirty did not end). While LiteLLM is being imported nothing is waited for.
        """
        loop, thread = self._loop, self._thread
        if not self.ready or loop is None or thread is None or not thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(_finish(), loop)
        thread.join(CLOSE)

    async def run(self, job: Job, take: Callable[[Any], None]) -> None:
        """Run a job there; ``take`` is called here with each thing that it puts.

        Raises what the job raises, or ``NoLiteLlm``. A cancellation here cancels it there, and waits for
        its end.
        """
        post = Post()
        loop = self.start()
        tasks: list[asyncio.Task[None]] = []

        async def work() -> None:
            try:
                await job(self._imported(), post.put)
            except BaseException as error:  # noqa: BLE001 - handed to who waits for it
                post.put(_End(error))
            else:
                post.put(_End(None))

        # In a context of its own: the caller's says that trio runs, where it does.
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(work())), context=Context())
        ended = False
        try:
            while not ended:
                item = await post.get()
                if isinstance(item, _End):
                    ended = True
                    if item.error is not None:
                        raise item.error
                else:
                    take(item)
        finally:
            if not ended:
                await _give_up(loop, tasks, post, soon=self.ready)
            post.close()

    def _imported(self) -> Any:
        if self._failure is not None:
            raise NoLiteLlm(*self._failure.args)
        return self._litellm

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            self._litellm = self._load()
            atexit.register(self.end)  # after LiteLLM's own, and so before them
        except NoLiteLlm as error:
            self._failure = error
        loop.run_forever()
        loop.close()


class _End:
    """The last thing that a job hands over."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def _finish() -> None:
    """Cancel all that runs in this loop, and stop it."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE / 2)
    loop.stop()


async def _give_up(
    loop: asyncio.AbstractEventLoop, task: list[asyncio.Task[None]], post: Post, *, soon: bool
) -> None:
    """Cancel a job, and wait until it has closed its connection; ``soon``: it can have begun."""
    import anyio

    # The task may not be there yet: both run in the loop, one after the other.
    loop.call_soon_threadsafe(lambda: [each.cancel() for each in task])
    with anyio.move_on_after(CLOSE if soon else 0, shield=True):
        while not isinstance(await post.get(), _End):
            pass
