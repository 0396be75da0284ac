"""The anyio client: the same verbs and the same rules of belief, for asyncio and trio."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from hived_client.doors.ask import NO_NAME, REFUSED, Ask, Connect, Resolved, Start, Step, ask, options_of
from hived_client.doors.files import Files, Known, View, known
from hived_client.doors.launch import START_TIMEOUT, ensure_running
from hived_client.doors.paths import Places, check_folder
from hived_client.doors.session import HELLO, Session
from hived_client.doors.sync import CALL_TIMEOUT, LOOK_TIMEOUT, STOP_PATIENCE
from hived_client.doors.wire import (
    Begun,
    Nothing,
    Progress,
    Refreshed,
    RefreshParams,
    Reply,
    StartParams,
    StopParams,
    Stopped,
    Welcome,
    model_or_path,
    read_change,
    read_result,
)
from hived_client.errors import HivedError, Unavailable, causes_of
from hived_client.resolution import Question, Target
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.hardware import Asked, Hardware
from hived_client.vocabulary.requests import RequestCounts
from hived_client.vocabulary.world import Change


class AsyncConnection:
    """One connection to the daemon, for one caller at a time."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._session = Session()
        self._waiting: list[Reply] = []
        self._unsent = HELLO

    def __repr__(self) -> str:
        return f"<AsyncConnection {self._session!r}>"

    async def stream(self, method: str, params: msgspec.Struct, timeout: float) -> AsyncGenerator[Reply]:
        """Ask, and yield every message about it; the last one has a result or a fault.

        ``timeout`` bounds the waiting only, so that no cancel scope is open while the caller works. What may
        take minutes is waited for only where somebody has said hello.
        """
        if timeout > CALL_TIMEOUT and self._session.welcome is None:
            with _deadline(CALL_TIMEOUT):
                await self.greet()
        deadline = anyio.current_time() + timeout
        number, data = self._session.request(method, params)
        with _deadline(timeout):
            await self._send(self._unsent + data)
        self._unsent = b""
        while True:
            with _deadline(max(0.0, deadline - anyio.current_time()), timeout):
                replies = await self.receive()
            while replies:
                reply = replies.pop(0)
                if reply.id == number:
                    if reply.event is None:
                        self._waiting = replies  # the first events may come in the same bytes
                        yield reply
                        return
                    yield reply

    async def greet(self) -> Welcome:
        """Say hello and wait for the answer."""
        await self._send(self._unsent)
        self._unsent = b""
        while self._session.welcome is None:
            self._waiting += await self.receive()
        return self._session.welcome

    async def call(self, method: str, params: msgspec.Struct, shape: Any, timeout: float) -> Any:
        """Ask, and return the result."""
        last = None
        async for reply in self.stream(method, params, timeout):
            last = reply
        if last is None:
            raise Unavailable(fault("protocol.broken", why="there was no answer"))
        return read_result(last, shape)

    async def receive(self) -> list[Reply]:
        """Wait for bytes and return the replies in them."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            return waiting
        try:
            data = await self._stream.receive()
        except anyio.EndOfStream:
            data = b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Unavailable(fault("protocol.broken", why="it was reset")) from error
        return self._session.feed(data)

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Unavailable(fault("protocol.broken", why="it was reset")) from error


class AsyncClient:
    """Ask hived from asyncio or trio. Cancelling any call is safe: it closes its own connection."""

    def __init__(self, places: Places | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self._files = Files(places, environment=environment)
        self._environment = os.environ if environment is None else environment

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __repr__(self) -> str:
        return f"<AsyncClient {self._files!r}>"

    def look(self) -> View:
        """Look at the daemon's files, without waiting; an endpoint is decoded only when it is asked for."""
        return self._files.look()

    async def resolve(
        self,
        model: str,
        *,
        context: int | None = None,
        needs: Iterable[str] | None = (),
        private: bool | str = False,
        fresh: bool = False,
        verify: bool = False,
        start: bool = False,
        direct: bool = False,
        timeout: float | None = None,
        tell: Callable[[Progress], None] | None = None,
    ) -> Target:
        """Return how to call a model now. Raises ``NotReady`` with what is wrong and what mends it.

        ``start`` starts the daemon, and the model's server where that is on this device and down; ``tell``
        is told how far that is. ``timeout`` is for everything: by default 0.25 s, and 120 s with ``start``.

        Where a proxy of the environment would take the call (``proxy.hijacks``), that is a warning, and for a
        private question the answer. ``direct``: the caller uses no proxy, so there is nothing to say.
        """
        question = Question.of(model, context=context, needs=needs, private=private)
        options = options_of(fresh=fresh, verify=verify, start=start, direct=direct, timeout=timeout)
        steps = ask(self._files, question, options, self._environment)
        try:
            step = next(steps)
            while True:
                try:
                    done = await self._perform(step, tell)
                except HivedError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            target: Target = end.value
            return target

    @property
    def running(self) -> bool:
        """Whether there is a daemon to ask, as far as the files and one connection tell."""
        return self._files.look().running

    def world(self) -> Known:
        """Return the last World with its verdict; reads two small files and never waits."""
        return known(self._files.look(), time.time())

    async def refresh(self, endpoint: str | None = None, *, timeout: float = 2.0) -> int:
        """Have the servers looked at again; return the generation that holds what was seen."""
        params = RefreshParams(endpoint=endpoint, timeout=timeout)
        done: Refreshed = await self._call("refresh", params, Refreshed, timeout + 0.5)
        return done.generation

    async def reload(self, *, timeout: float = CALL_TIMEOUT) -> int:
        """Have the configuration read again."""
        done: Refreshed = await self._call("reload", Nothing(), Refreshed, timeout)
        return done.generation

    async def statistics(self, *, timeout: float = CALL_TIMEOUT) -> dict[str, Any]:
        """Return what the daemon counts about itself."""
        done: dict[str, Any] = await self._call("statistics", Nothing(), dict[str, Any], timeout)
        return done

    async def requests(self, *, timeout: float = CALL_TIMEOUT) -> RequestCounts:
        """Return how many requests servers work on now; hived asks those that tell, once a second at most."""
        done: RequestCounts = await self._call("requests", Nothing(), RequestCounts, timeout)
        return done

    async def hardware(
        self, *, again: bool = False, bandwidth: bool = False, timeout: float = LOOK_TIMEOUT
    ) -> Hardware:
        """Return what this machine is, with what is free now. The first time it may take seconds.

        ``again``: look at everything again. ``bandwidth``: measure the memory's, if nobody has yet.
        """
        asked = Asked(again=again, bandwidth=bandwidth)
        done: Hardware = await self._call("hardware", asked, Hardware, timeout)
        return done

    async def events(self, *, timeout: float = CALL_TIMEOUT) -> AsyncGenerator[Change]:
        """Yield every change from now on. Raises ``Unavailable`` when the daemon ends."""
        async with self._connection(timeout) as connection:
            with _deadline(timeout):
                await connection.call("subscribe", Nothing(), Refreshed, timeout)
            while True:
                for reply in await connection.receive():
                    if reply.fault is not None:
                        raise Unavailable(reply.fault)
                    if reply.event is not None:
                        yield read_change(reply)

    async def start(
        self,
        provider: str,
        *,
        model: str | None = None,
        port: int | None = None,
        context: int | None = None,
        alias: str | None = None,
        arguments: tuple[str, ...] = (),
        timeout: float = 600.0,
        restart: bool = True,
        serving: str | None = None,
    ) -> AsyncGenerator[Progress | Begun]:
        """Start a server: yield how far it is, and at last what was begun. Raises ``Refused``.

        ``provider`` may be an endpoint's name too. ``restart``: it is started again when it ends by accident.
        ``serving``: the model that is wanted of it, where it is started with one and ``model`` names none.
        """
        params = StartParams(
            provider=provider,
            model=model_or_path(provider, model),
            port=port,
            context=context,
            alias=alias,
            arguments=arguments,
            timeout=timeout,
            restart=restart,
            serving=serving,
        )
        async with (
            self._connection(CALL_TIMEOUT) as connection,
            aclosing(connection.stream("start", params, timeout + 5.0)) as replies,
        ):
            async for reply in replies:
                if reply.event is None:
                    yield read_result(reply, Begun)
                else:
                    yield read_result(msgspec.structs.replace(reply, result=reply.body), Progress)

    async def stop(self, name: str, *, everything: bool = False, grace: float = 10.0) -> Stopped:
        """Stop what hived started under this name. Raises ``Refused``."""
        params = StopParams(name=name, everything=everything, grace=grace)
        stopped: Stopped = await self._call("stop", params, Stopped, grace + STOP_PATIENCE)
        return stopped

    async def retire(self, *, timeout: float = CALL_TIMEOUT) -> None:
        """Ask the daemon to end."""
        await self._call("retire", Nothing(), Nothing, timeout)

    async def greet(self, *, timeout: float = CALL_TIMEOUT) -> Welcome:
        """Return what the daemon says of itself. Raises ``Unavailable``."""
        with _deadline(timeout):
            async with self._connection(timeout) as connection:
                return await connection.greet()

    async def _perform(self, step: Step, tell: Callable[[Progress], None] | None) -> object:
        if isinstance(step, Start):
            async with aclosing(self.start(step.endpoint, serving=step.model, timeout=step.timeout)) as steps:
                async for each in steps:
                    if isinstance(each, Progress) and tell is not None:
                        tell(each)
            return None
        if isinstance(step, Ask):
            return await self._call("resolve", step.params, Resolved, step.timeout + 0.05)
        if isinstance(step, Connect):
            return await connect(step)
        start = partial(ensure_running, self._files.candidates[0], timeout=min(step.timeout, START_TIMEOUT))
        return await anyio.to_thread.run_sync(start, abandon_on_cancel=True)

    async def _call(self, method: str, params: msgspec.Struct, shape: Any, timeout: float) -> Any:
        with _deadline(timeout):
            async with self._connection(timeout) as connection:
                return await connection.call(method, params, shape, timeout)

    @asynccontextmanager
    async def _connection(self, timeout: float) -> AsyncIterator[AsyncConnection]:
        where = self._files.look().places
        try:
            check_folder(os.path.dirname(where.socket))
            with _deadline(timeout):
                stream = await anyio.connect_unix(where.socket)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Unavailable(fault("daemon.not_running")) from error
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Unavailable(fault("protocol.broken", why=why)) from error
        async with stream:
            yield AsyncConnection(stream)


async def connect(step: Connect) -> str | None:
    """Open a TCP connection and close it; return why it failed."""
    try:
        with anyio.fail_after(step.timeout):
            stream = await anyio.connect_tcp(step.host, step.port)
    except TimeoutError:
        return f"no connection within {round(step.timeout, 3):g} s"
    except OSError as error:
        causes = causes_of(error)
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return REFUSED
        # The innermost knows most; those about it say only that it failed.
        words = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
        return words[-1] if words else str(error) or type(error).__name__
    except ValueError:  # a label of a name that is too long, or empty
        return NO_NAME
    await stream.aclose()
    return None


@contextmanager
def _deadline(seconds: float, said: float | None = None) -> Iterator[None]:
    """Turn a wait that is too long into our own error; ``said`` is what the caller knows as its limit."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        limit = seconds if said is None else said
        raise Unavailable(
            fault("daemon.unresponsive", why=f"no answer within {round(limit, 3):g} s")
        ) from error
