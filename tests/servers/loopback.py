"""A server on a loopback port, in threads of its own, that a test starts and always gets rid of.

It is not ``http.server``'s server class: that one looks up host names when it binds, takes up to half
a second to stop and never joins a daemon thread. Here stopping cuts every connection, joins every
thread and closes every socket, so that a suite which turns warnings into errors stays silent.

The rule that must hold: what a subclass does not say is not sent. No ``Date`` and no default
``Server`` header: a fake is compared with a recorded server header by header.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import responses
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

GIVE_UP = 60.0
"""Seconds in which every thread must have ended once its connection was cut."""

Headers = tuple[tuple[str, str], ...]


class Loopback:
    """Listen on ``127.0.0.1`` and hand each connection to ``converse``, in a daemon thread of its own."""

    def __init__(self, *, port: int = 0) -> None:
        self.closing = threading.Event()
        self.connections = 0
        self.binds_only = False
        self._wanted_port = port
        self._failures: list[Exception] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @abstractmethod
    def converse(self, connection: socket.socket) -> None:
        """Talk with one client; the connection is closed when this returns."""

    def closed(self) -> None:
        """Wake whatever of one's own waits, now that ``closing`` is set."""

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self._wanted_port))
        self._port = int(self._listener.getsockname()[1])
        self._bell, self._ringer = socket.socketpair()
        if not self.binds_only:
            self.listen()
        return self

    def listen(self) -> None:
        """Accept from now on. A server that only binds until it is ready refuses before this."""
        self._listener.listen()
        self.start(self._accept)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._ringer.send(b"x")
        self.closed()
        self.cut_connections()
        left = self._join()
        for each in (self._listener, self._bell, self._ringer):
            each.close()
        if kind is None and (left or self._failures):
            raise RuntimeError(f"{self!r} is broken: threads left {left}, errors {self._failures}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} connections={self.connections}>"

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a daemon thread that is joined at the end."""
        thread = threading.Thread(target=work, name=type(self).__name__, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def cut_connections(self) -> None:
        """End every connection that is open, as a server that is killed would."""
        with self._lock:
            for each in self._open:
                _hang_up(each)

    def _join(self) -> list[str]:
        """Wait for every thread, also for one that another began just now; name those that stay."""
        deadline = time.monotonic() + GIVE_UP
        while True:
            with self._lock:
                alive = [each for each in self._threads if each.is_alive()]
            if not alive or time.monotonic() > deadline:
                return [each.name for each in alive]
            alive[0].join(deadline - time.monotonic())

    def _accept(self) -> None:
        while not self.closing.is_set():
            ready, _, _ = select.select([self._listener, self._bell], [], [])
            if self._listener not in ready or self.closing.is_set():
                continue
            connection, _ = self._listener.accept()
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            self.start(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        try:
            if not self.closing.is_set():
                self.converse(connection)
        except OSError:
            pass  # the client left, or the test cut the connection: both are what a server meets
        except Exception as error:  # noqa: BLE001 - a fake that fails must fail the test, not a thread
            self._failures.append(error)
        finally:
            with self._lock:
                self._open.discard(connection)
                _hang_up(connection)
                connection.close()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked."""

    method: str
    target: str
    """The path with the query, as it came."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    gone: Callable[[], bool]
    """Whether the client has hung up."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes back, to the letter: nothing is added to the headers, not even a length."""

    status: int = 200
    headers: Headers = ()
    body: bytes | Iterator[bytes] = b""
    """An iterator is sent piece by piece as it comes; chunked if the headers say so."""

    @property
    def last(self) -> bool:
        """Whether the connection ends after this reply."""
        return ("connection", "close") in {(name.lower(), value) for name, value in self.headers}

    @property
    def chunked(self) -> bool:
        return "transfer-encoding" in {name.lower() for name, _ in self.headers}


def json_bytes(value: object) -> bytes:
    """Write JSON as llama.cpp does: no spaces, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class HttpLoopback(Loopback):
    """An HTTP/1.1 server that counts what it is asked; a subclass says what it answers."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.requests: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} connections={self.connections} requests={len(self.requests)}>"

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """Decide what goes back. Called in the connection's thread."""

    def converse(self, connection: socket.socket) -> None:
        _Conversation(connection, self)


class _Conversation(BaseHTTPRequestHandler):
    """Read requests from one connection and write the replies to it."""

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, owner: HttpLoopback) -> None:
        self._owner = owner
        super().__init__(connection, ("127.0.0.1", 0), None)  # type: ignore[arg-type]

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
            gone=lambda: _hung_up(self.connection),
        )
        self._owner.requests.append((request.method, request.target))
        reply = self._owner.answer(request)
        if reply.last:
            self.close_connection = True
        self._write(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def _write(self, reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, '')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if self.command == "HEAD":
            self.wfile.write(head)
        elif isinstance(reply.body, bytes):
            self.wfile.write(head + (_chunk(reply.body) + _chunk(b"") if reply.chunked else reply.body))
        else:
            self.wfile.write(head)
            for piece in reply.body:
                self.wfile.write(_chunk(piece) if reply.chunked else piece)
            if reply.chunked:
                self.wfile.write(_chunk(b""))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is the test's."""


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it had hung up first
        connection.shutdown(socket.SHUT_RDWR)


def _hung_up(connection: socket.socket) -> bool:
    """Look whether the client left, without taking what it may have sent."""
    readable, _, _ = select.select([connection], [], [], 0)
    if not readable:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
