"""A daemon that says what it is told to: blocking threads, the real frames, no decisions."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import msgspec

from hived_client.doors.frames import FrameReader, frame
from hived_client.doors.paths import Places, ensure_folder
from hived_client.doors.wire import Hello, Progress, Reply, Request, Welcome
from hived_client.vocabulary.faults import Fault, fault

pack = msgspec.msgpack.encode

Answer = Callable[[Any], list[Reply | bytes | None]]
"""From parameters to what is sent: replies (the number is filled in), raw bytes, ``None`` to close."""


def result(value: object) -> Reply:
    """The end of a request."""
    return Reply(id=0, result=msgspec.Raw(pack(value)))


def event(name: str, body: object) -> Reply:
    """A message on the way."""
    return Reply(id=0, event=name, body=msgspec.Raw(pack(body)))


def failure(problem: Fault) -> Reply:
    """The end of a request that was refused."""
    return Reply(id=0, fault=problem)


def progress(stage: str) -> Reply:
    """How far a start is."""
    return event("progress", Progress(stage=stage, message=f"{stage} …"))


WELCOME = Welcome(
    use=1,
    version="0.1.0",
    features=("world",),
    daemon_id="00",
    boot_id="",
    pid=os.getpid(),
    started_at=0.0,
    generation=1,
    managed_by="foreground",
)


class FakeDaemon:
    """Listens at the places of a daemon. ``methods`` may be changed at any time."""

    def __init__(self, where: Places, methods: dict[str, Answer], *, greeting: bytes | None = None) -> None:
        self.where = where
        self.methods = methods
        self.greeting = frame(pack(WELCOME)) if greeting is None else greeting
        self.accepted = 0
        self.asked: list[tuple[str, Any]] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> FakeDaemon:
        ensure_folder(os.path.dirname(self.where.socket))
        self._listener.bind(self.where.socket)
        self._listener.listen(64)
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.unlink(self.where.socket)
        for each in (self._listener, *self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer has closed it already
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                for body in self._frames(connection):
                    if not self._answer(connection, body):
                        return
            except OSError:
                return

    def _frames(self, connection: socket.socket) -> Iterator[bytes]:
        reader, greeted = FrameReader(), False
        while data := connection.recv(65_536):
            for body in reader.feed(data):
                if greeted:
                    yield body
                else:
                    msgspec.msgpack.decode(body, type=Hello)
                    greeted = True
                    connection.sendall(self.greeting)

    def _answer(self, connection: socket.socket, body: bytes) -> bool:
        request = msgspec.msgpack.decode(body, type=Request)
        params = msgspec.msgpack.decode(request.params)
        self.asked.append((request.method, params))
        answer = self.methods.get(request.method)
        replies = answer(params) if answer else [failure(fault("method.unknown", method=request.method))]
        data = b""
        for reply in replies:  # all in one write: what a client makes of many in one read is a test too
            if reply is None:
                if data:
                    connection.sendall(data)
                return False
            data += (
                reply
                if isinstance(reply, bytes)
                else frame(pack(msgspec.structs.replace(reply, id=request.id)))
            )
        connection.sendall(data)
        return True


@contextmanager
def fake_daemon(where: Places, *, greeting: bytes | None = None, **methods: Answer) -> Iterator[FakeDaemon]:
    """Run a fake daemon."""
    with FakeDaemon(where, methods, greeting=greeting) as daemon:
        yield daemon
