"""The socket: accept, check who it is, hello, requests, events, and an end that loses no reply.

A peer is ours or it is closed before its first frame. It has two seconds for its hello. Requests of one
connection are answered in turn; whoever wants two at once opens two. A reply that nobody reads for five
seconds ends the connection. Events are lossless or the connection ends: a subscriber that does not keep
up is told ``lagged`` and let go.

To end, the reading half of each connection is shut: what is being answered is answered, idle peers see
the end, and only what is left after a deadline is cancelled.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec, TypeVar

import anyio
import anyio.abc
import msgspec
import structlog

from hived.daemon.instance import peer_uid
from hived.daemon.peer import Peer
from hived.daemon.store import Store
from hived_client._version import __version__
from hived_client.doors.frames import AFTER_HELLO, FrameReader, TooLong, frame
from hived_client.doors.wire import (
    BROKEN,
    FEATURES,
    HELLO_TIMEOUT,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Hello,
    Progress,
    Refreshed,
    Reply,
    Request,
    Welcome,
)
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault, fault

DRAIN = 5.0
"""Seconds in which connections may finish when the daemon ends."""

log = structlog.get_logger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_hello = msgspec.msgpack.Decoder(Hello).decode
_request = msgspec.msgpack.Decoder(Request).decode


class Talk:
    """One connection, seen by a method: it can tell how far it is."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = 0
        self.method = ""
        self.progress: list[Progress] = []
        self.told = anyio.Event()
        self.is_busy = False

    def tell(self, progress: Progress) -> None:
        """Queue a word on how far a long request is."""
        self.progress.append(progress)
        self.told.set()

    async def send(self, reply: Reply) -> None:
        """Send one message. Raises as ``Peer.send`` does; of what is too long only that it is."""
        try:
            data = frame(_encode(reply))
        except TooLong as error:
            log.warning("reply.too_long", method=self.method, why=str(error))
            data = frame(_encode(Reply(id=reply.id, fault=fault("internal", method=self.method))))
        await self.peer.send(data)


Method = Callable[[bytes, Talk], Awaitable[msgspec.Struct | dict[str, object]]]


class Server:
    """Serves the socket."""

    def __init__(self, store: Store, methods: Mapping[str, Method], *, daemon_id: str, boot: str) -> None:
        self._store = store
        self._methods = methods
        self._daemon_id = daemon_id
        self._boot = boot
        self._open: set[Talk] = set()
        self._closed = anyio.Event()
        self._draining = False
        self._accepting = anyio.CancelScope()
        self._complained = False
        self._listener: socket.socket | None = None
        self.turns = 0
        self.accepted = 0
        self.refused = 0
        self.requests = 0

    def __repr__(self) -> str:
        return f"<Server {len(self._open)} connections, {self.requests} requests>"

    def statistics(self) -> dict[str, int]:
        """Return counts for ``hived status``."""
        return {
            "connections": len(self._open),
            "accepted": self.accepted,
            "refused": self.refused,
            "requests": self.requests,
        }

    async def run(self, listener: socket.socket, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Accept until cancelled or told to stop; connections outlive the acceptor."""
        async with anyio.create_task_group() as connections:
            with anyio.CancelScope() as accepting, listener:
                self._accepting, self._listener = accepting, listener
                task_status.started()
                while True:
                    await anyio.wait_readable(listener)
                    self.turns += 1
                    await self._accept_all(listener, connections)

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits to be let in."""
        listener = self._listener
        if listener is None or listener.fileno() < 0 or self._draining:
            return False
        try:
            waiting = select.poll()
            waiting.register(listener, select.POLLIN)
            return bool(waiting.poll(0))
        except OSError:
            return False

    def others_busy(self, talk: Talk) -> bool:
        """Tell whether anybody but this one is being answered, or told of changes."""
        return any(each.is_busy for each in self._open if each is not talk)

    def stop_accepting(self) -> None:
        """Close the listener; who is connected stays."""
        self._accepting.cancel()

    async def drain(self) -> None:
        """Take nobody new, let what is being answered finish, and end all connections by the deadline."""
        self._draining = True
        self.stop_accepting()
        self._store.end_subscriptions()
        for talk in self._open:
            talk.peer.hang_up()
        with anyio.move_on_after(DRAIN):
            while self._open:
                await self._closed.wait()

    async def _accept_all(self, listener: socket.socket, connections: anyio.abc.TaskGroup) -> None:
        for _ in range(64):  # a burst is taken at once, but others get their turn
            try:
                raw, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # No descriptor left, or a peer that is gone already: never a reason to end.
                if not self._complained:
                    log.warning("socket.accept_failed", why=error.strerror)
                self._complained = True
                await anyio.sleep(0.1)  # whoever holds the descriptors needs a moment to give one back
                return
            self._complained = False
            self.accepted += 1
            connections.start_soon(self._serve, raw)

    async def _serve(self, raw: socket.socket) -> None:
        peer = Peer(raw)
        talk = Talk(peer)
        self._open.add(talk)
        try:
            if not self._draining and self._is_ours(raw):
                await self._converse(talk)
        except OSError:
            pass  # the peer is gone or does not read: there is nobody left to tell
        except Exception:
            # What is wrong with one connection must not end the others, and the daemon with them.
            log.exception("connection.crashed", method=talk.method)
        finally:
            peer.close()
            self._open.discard(talk)
            closed, self._closed = self._closed, anyio.Event()
            closed.set()

    def _is_ours(self, raw: socket.socket) -> bool:
        """Let in only our own user, as the kernel knows it."""
        try:
            uid = peer_uid(raw)
        except OSError:
            uid = None
        if uid == os.getuid():
            return True
        self.refused += 1
        log.warning("peer.denied", uid=uid)
        return False

    async def _converse(self, talk: Talk) -> None:
        reader = FrameReader()
        greeted = False
        waiting: list[bytes] = []
        with anyio.CancelScope() as patience:
            patience.deadline = anyio.current_time() + HELLO_TIMEOUT
            while True:
                while not waiting:
                    data = await talk.peer.receive()
                    if not data:
                        return
                    try:
                        waiting = reader.feed(data)
                    except TooLong as error:
                        await talk.send(Reply(id=0, fault=fault("protocol.broken", why=str(error))))
                        return
                body = waiting.pop(0)
                if not greeted:
                    problem = await self._greet(talk, body)
                    if problem is not None:
                        await talk.send(Reply(id=0, fault=problem))
                        return
                    greeted = True
                    reader.limit = AFTER_HELLO
                    patience.deadline = float("inf")
                elif not await self._answer(talk, body):
                    return

    async def _greet(self, talk: Talk, body: bytes) -> Fault | None:
        try:
            hello = _hello(body)
        except BROKEN:
            return fault("protocol.broken", why="this is not a hello")
        if hello.min > PROTOCOL_MAX or hello.max < PROTOCOL_MIN:
            return fault(
                "protocol.unsupported",
                version=__version__,
                min=PROTOCOL_MIN,
                max=PROTOCOL_MAX,
                ours=f"{hello.min} to {hello.max}",
            )
        world = self._store.world
        welcome = Welcome(
            use=min(PROTOCOL_MAX, hello.max),
            version=__version__,
            features=FEATURES,
            daemon_id=self._daemon_id,
            boot_id=self._boot,
            pid=os.getpid(),
            started_at=world.daemon.started_at if world.daemon else 0.0,
            generation=world.generation,
            managed_by=world.daemon.managed_by if world.daemon else "foreground",
        )
        await talk.peer.send(frame(_encode(welcome)))
        return None

    async def _answer(self, talk: Talk, body: bytes) -> bool:
        """Answer one request; return whether the connection goes on."""
        self.requests += 1
        try:
            request = _request(body)
        except BROKEN as error:
            problem = fault("params.invalid", method="?", why=_short(error))
            await talk.send(Reply(id=0, fault=problem))
            return False  # whoever sends this does not know what it is answered
        talk.number, talk.method = request.id, request.method[:100]
        talk.is_busy = True
        try:
            return await self._carry_out(request, talk)
        finally:
            talk.is_busy = False

    async def _carry_out(self, request: Request, talk: Talk) -> bool:
        if request.method == "subscribe":
            await _unwrapped(self._subscribe, talk)
            return False
        method = self._methods.get(request.method)
        if method is None:
            await talk.send(Reply(id=request.id, fault=fault("method.unknown", method=request.method[:100])))
            return True
        await talk.send(await self._perform(method, request, talk))
        return not self._draining

    async def _perform(self, method: Method, request: Request, talk: Talk) -> Reply:
        try:
            if request.method == "start":
                result = await self._with_progress(method, bytes(request.params), talk)
            else:
                result = await method(bytes(request.params), talk)
            return Reply(id=request.id, result=msgspec.Raw(_encode(result)))
        except HivedError as error:
            return Reply(id=request.id, fault=error.fault)
        except BROKEN as error:
            problem = fault("params.invalid", method=request.method, why=_short(error))
            return Reply(id=request.id, fault=problem)
        except _GONE:
            raise
        except Exception:
            log.exception("method.crashed", method=request.method)
            return Reply(id=request.id, fault=fault("internal", method=request.method))

    async def _with_progress(
        self, method: Method, params: bytes, talk: Talk
    ) -> msgspec.Struct | dict[str, object]:
        async def report() -> None:
            while True:
                await talk.told.wait()
                talk.told = anyio.Event()
                waiting, talk.progress = talk.progress, []
                for progress in waiting:
                    # The answer follows on the same connection: half a word before it would spoil both.
                    with anyio.CancelScope(shield=True):
                        await talk.send(
                            Reply(id=talk.number, event="progress", body=msgspec.Raw(_encode(progress)))
                        )

        async def perform() -> msgspec.Struct | dict[str, object]:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(report)
                result = await method(params, talk)
                tasks.cancel_scope.cancel()
            return result

        return await _unwrapped(perform)

    async def _subscribe(self, talk: Talk) -> None:
        """Send the generation, and every change after it, until the peer goes, lags, or the daemon ends."""
        with self._store.subscribe() as subscription:
            since = Refreshed(generation=self._store.world.generation)
            await talk.send(Reply(id=talk.number, result=msgspec.Raw(_encode(since))))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_closed, talk, tasks.cancel_scope)
                async for generation, changed in subscription:
                    for change in changed:
                        await talk.send(
                            Reply(
                                id=talk.number,
                                event=change.event,
                                generation=generation,
                                body=msgspec.Raw(_encode(change)),
                            )
                        )
                last = fault("lagged") if subscription.lagged else fault("draining")
                await talk.send(Reply(id=talk.number, fault=last))
                tasks.cancel_scope.cancel()

    async def _until_closed(self, talk: Talk, scope: anyio.CancelScope) -> None:
        """A subscriber has nothing more to say: its end of the connection ends the subscription."""
        try:
            await talk.peer.receive()
        except OSError:
            pass
        if not self._draining:
            scope.cancel()


_GONE = (ConnectionError, TimeoutError)
"""What sending to a peer raises that has left or does not read."""

P = ParamSpec("P")
T = TypeVar("T")


async def _unwrapped(act: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what has a task group inside, and raise the first error in it as itself.

    Wrapped in a group it would pass every ``except`` here, and one peer that leaves would end the daemon.
    """
    try:
        return await act(*args, **kwargs)
    except ExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
