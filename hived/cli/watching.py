"""``hived status --watch``: the World as it is, drawn anew when it changes, until somebody has enough.

What changes is told by the daemon's event stream; the files, which are read at each drawing, say what is.
Once a second the ages are drawn anew, and whoever tells is asked how many requests it works on. A daemon
that ends is waited for. Nothing here ever asks a server anything by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing

import anyio
import msgspec

from hived.cli.document import world_document
from hived.cli.reader import end_with_reader
from hived.cli.rendering import coloured
from hived.cli.running import INTERRUPTED, YES, shown_json
from hived.cli.screen import screen
from hived.cli.terminal import Terminal, fitted
from hived_client.doors.aio import AsyncClient
from hived_client.doors.files import Known
from hived_client.errors import HivedError
from hived_client.vocabulary.requests import Requests

TICK = 1.0
"""Seconds between two drawings where nothing happens: ages grow."""
BURST = 0.1
"""Seconds between two drawings at least: a download tells of itself many times a second."""
FIRST_RETRY, LAST_RETRY = 0.2, 2.0
"""Seconds between two attempts to follow a daemon that is not there, growing from one to the other."""

_ENDS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: 128 + 15, signal.SIGHUP: 128 + 1}

Show = Callable[[Known, Mapping[str, Requests]], None]


class Watch:
    """Follows the daemon and calls ``show`` with what is known, at each change and each tick."""

    def __init__(self, client: AsyncClient, show: Show, terminal: Terminal | None = None) -> None:
        self._client = client
        self._show = show
        self._terminal = terminal
        self._changed = anyio.Event()
        self._requests: Mapping[str, Requests] = {}
        self._code = YES
        self._scope = anyio.CancelScope()
        self._failure: OSError | None = None

    def __repr__(self) -> str:
        return f"<Watch {self._client!r}>"

    async def run(self, keys: int | None = None) -> int:
        """Watch until a signal, a key or the end of stdout; return the exit code.

        Signals and keys are taken only where there is a terminal to give back. Raises ``OSError`` where
        stdout cannot be written any more.
        """
        async with anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            tasks.start_soon(self._follow)
            if self._terminal is not None:
                tasks.start_soon(self._count)
                tasks.start_soon(self._take_signals, self._terminal)
                if keys is not None:
                    tasks.start_soon(self._take_keys, keys)
            await self._draw()
        if self._failure is not None:
            raise self._failure
        return self._code

    async def _draw(self) -> None:
        while True:
            self._changed = anyio.Event()
            try:
                self._show(self._client.world(), self._requests)
            except OSError as error:
                self._failure = error
                self._scope.cancel()
                return
            await anyio.sleep(BURST)  # what is told meanwhile is drawn at once
            with anyio.move_on_after(TICK - BURST):
                await self._changed.wait()

    async def _follow(self) -> None:
        """Be told of every change, by whichever daemon there is."""
        wait = FIRST_RETRY
        while True:
            begun = anyio.current_time()
            try:
                async with aclosing(self._client.events()) as changes:
                    async for _ in changes:
                        self._changed.set()
            except HivedError:
                pass  # the files say what there is instead
            self._changed.set()
            wait = FIRST_RETRY if anyio.current_time() - begun > LAST_RETRY else min(LAST_RETRY, 2 * wait)
            await anyio.sleep(wait)

    async def _count(self) -> None:
        while True:
            requests: Mapping[str, Requests] = {}
            try:
                requests = (await self._client.requests()).requests
            except HivedError:
                pass  # unknown, then: no daemon, or one from before it could be asked
            if requests != self._requests:
                self._requests = requests
                self._changed.set()
            await anyio.sleep(TICK)

    async def _take_signals(self, terminal: Terminal) -> None:
        with anyio.open_signal_receiver(*_ENDS, signal.SIGWINCH, signal.SIGTSTP) as signals:
            async for number in signals:
                if number in _ENDS:
                    self._end(_ENDS[number])
                    return
                if number == signal.SIGTSTP:
                    terminal.leave()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    terminal.enter()  # continued
                terminal.forget()
                self._changed.set()

    async def _take_keys(self, keys: int) -> None:
        while True:
            await anyio.wait_readable(keys)
            pressed = os.read(keys, 64)
            if b"q" in pressed.lower() or not pressed:
                self._end(YES)
                return

    def _end(self, code: int) -> None:
        self._code = code
        self._scope.cancel()


def watch_on_terminal(client: AsyncClient, completed: Callable[[Known], Known], *, everything: bool) -> int:
    """Take the terminal, show the World on it, and give it back; return the exit code.

    ``completed`` adds what only the caller knows.
    """
    keys = 0 if os.isatty(0) else None

    def show(known: Known, requests: Mapping[str, Requests]) -> None:
        width, height = terminal.size()
        seen = screen(completed(known), width, requests=requests, everything=everything)
        terminal.draw(fitted(seen.body, seen.problems, _foot(known), width, height), width)

    async def main() -> int:
        return await Watch(client, show, terminal).run(keys)

    with Terminal(1, keys) as terminal:
        return anyio.run(main)


def watch_in_json(client: AsyncClient, completed: Callable[[Known], Known]) -> int:
    """Print the World on one line now and after every change; return only when interrupted."""
    last: tuple[object, ...] = ()

    def show(known: Known, requests: Mapping[str, Requests]) -> None:
        nonlocal last
        daemon = known.world.daemon
        now = (known.verdict, known.world.generation, daemon.id if daemon else None)
        if now != last:
            last = now
            print(shown_json(msgspec.json.encode(world_document(completed(known))).decode()), flush=True)

    async def main() -> int:
        return await Watch(client, show).run()

    end_with_reader()
    return anyio.run(main)


def _foot(known: Known) -> str:
    clock = time.strftime("%H:%M:%S")
    if known.verdict in ("absent", "stopped", "foreign"):
        return coloured(f"{clock}  hived is not running; waiting for it  (hived serve)  q ends", "down")
    return f"{clock}  q ends"
