"""Servers that a watcher meets on a port and must survive: foreign, broken and hostile ones.

Each does one thing, counts what it is asked, and may be started on a port that another one left.
"""

from __future__ import annotations

import functools
import gzip
import socket
import struct
from collections.abc import Iterator

from tests.servers.llamacpp_replies import JSON, KEEP_ALIVE, identity, json_reply, not_found
from tests.servers.loopback import HttpLoopback, Loopback, Reply, Request, json_bytes

DRIP = 0.05
"""Seconds between two bytes of ``Dribble``."""
PROMISED = 1000
"""Bytes that ``HalfResponse`` says it will send; it sends ten."""
BOMB = 64 * 1024 * 1024
"""Bytes that ``GzipBomb`` unpacks to; about 64 kB on the wire."""
DEEP = 100_000
"""Lists in lists of ``DeepJson``."""
PIECE = b'{"id":"' + b"x" * 65_000 + b'"},'
MANY = 20_000
"""Models in the list of the lie called ``many``."""

CRUMBS = 60_000
"""Bytes of ``Crumbs``: fewer than a health answer may have."""

INFINITE = b"1e400"
"""A number that JSON allows and that reads as infinity."""


class AnswersEverything(HttpLoopback):
    """A web page at every path, as a router's or a captive portal's login is."""

    def answer(self, request: Request) -> Reply:
        return _plain(b"ok", "text/html")


class AnswersJsonEverything(HttpLoopback):
    """The body of llama.cpp's health at every path, without its ``Server`` header: not llama.cpp."""

    def answer(self, request: Request) -> Reply:
        return _plain(b'{"status":"ok"}', "application/json")


class OpenAiCompatible(HttpLoopback):
    """A gateway that knows one path of OpenAI's."""

    def answer(self, request: Request) -> Reply:
        if (request.method, request.path) != ("GET", "/v1/models"):
            return _plain(json_bytes({"error": {"message": "Not Found"}}), "application/json", status=404)
        model = {"id": "m", "object": "model", "owned_by": "gateway"}
        return _plain(json_bytes({"object": "list", "data": [model]}), "application/json")


class Silent(Loopback):
    """Accepts, and never says a word: a process that was stopped."""

    def converse(self, connection: socket.socket) -> None:
        while connection.recv(65536):
            pass


class Dribble(Loopback):
    """Sends a header that never ends, a byte at a time: every single wait is short."""

    def converse(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.closing.wait(DRIP):
            connection.sendall(b"x")


class Crumbs(Loopback):
    """Sends an answer a byte at a time, each as a piece of its own, and all of them at once.

    It has llama.cpp's headers, so that somebody reads it.
    """

    def __init__(self, length: int = CRUMBS, *, port: int = 0) -> None:
        super().__init__(port=port)
        self._length = length

    def converse(self, connection: socket.socket) -> None:
        connection.recv(65536)
        head = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1\r\nx\r\n" * self._length + b"0\r\n\r\n")


class Resets(Loopback):
    """Accepts, waits for a word, and tears the connection down with a reset."""

    def converse(self, connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


class HalfResponse(HttpLoopback):
    """Promises a thousand bytes of JSON, sends ten and hangs up."""

    def answer(self, request: Request) -> Reply:
        headers = (("Content-Type", JSON), ("Content-Length", str(PROMISED)), ("Connection", "close"))
        return Reply(headers=identity(request) + headers, body=b'{"status":')


class HugeBody(HttpLoopback):
    """llama.cpp's headers, and a list of models without end. ``sent`` counts the bytes that went out."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.sent = 0

    def answer(self, request: Request) -> Reply:
        headers = (("Content-Type", JSON), ("Transfer-Encoding", "chunked"), KEEP_ALIVE)
        return Reply(headers=identity(request) + headers, body=self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        yield b'{"object":"list","data":['
        while not self.closing.is_set():
            yield PIECE
            self.sent += len(PIECE)


class GzipBomb(HttpLoopback):
    """Answers packed although it was asked not to; a thousand times larger once unpacked."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self._bomb = _bomb()

    def answer(self, request: Request) -> Reply:
        packed = ("Content-Encoding", "gzip")
        plain = json_reply(request, self._bomb)
        return Reply(headers=(*plain.headers, packed), body=self._bomb)


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(b'{"status":"ok","x":"' + b"0" * BOMB + b'"}', compresslevel=1)


class DeepJson(HttpLoopback):
    """A list in a list in a list: a parser that calls itself runs out of stack."""

    def answer(self, request: Request) -> Reply:
        return json_reply(request, b"[" * DEEP + b"]" * DEEP)


class Redirects(HttpLoopback):
    """Sends everybody somewhere else, path and all, with 307: a follower would repeat even a POST."""

    def __init__(self, target: str, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.target = target

    def answer(self, request: Request) -> Reply:
        location = ("Location", self.target + request.target)
        return Reply(status=307, headers=(*identity(request), location, ("Content-Length", "0"), KEEP_ALIVE))


class LyingLlamaCpp(HttpLoopback):
    """Passes for llama.cpp at ``/health``; the rest is one of ``LIES``, or given bytes."""

    def __init__(
        self,
        lie: str = "honest",
        *,
        props: bytes | None = None,
        models: bytes | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        told_props, told_models = LIES[lie]
        self.props = told_props if props is None else props
        self.models = told_models if models is None else models

    def answer(self, request: Request) -> Reply:
        match request.path:
            case "/health" | "/v1/health":
                return json_reply(request, {"status": "ok"})
            case "/props":
                return json_reply(request, self.props)
            case "/models" | "/v1/models":
                return json_reply(request, self.models)
        return not_found(request)


def _props(
    context: bytes = b"512", slots: bytes = b"1", name: bytes = b'"m"', asleep: bytes = b"false"
) -> bytes:
    return (
        b'{"default_generation_settings":{"params":{},"n_ctx":%s},"total_slots":%s,"model_alias":%s,'
        b'"model_path":%s,"build_info":"b0-unknown","is_sleeping":%s}' % (context, slots, name, name, asleep)
    )


def _models(context: bytes = b"512", name: bytes = b'"m"', count: int = 1) -> bytes:
    model = (
        b'{"id":%s,"aliases":[],"object":"model","created":1,"owned_by":"llamacpp",'
        b'"meta":{"n_ctx":%s,"n_ctx_train":%s,"size":%s}}' % (name, context, context, context)
    )
    return b'{"object":"list","data":[%s]}' % b",".join([model] * count)


def _distinct_models(count: int) -> bytes:
    return json_bytes({"object": "list", "data": [{"id": f"m{n}", "object": "model"} for n in range(count)]})


def _numbers(value: bytes) -> tuple[bytes, bytes]:
    return _props(context=value, slots=value), _models(context=value)


def _names(name: bytes) -> tuple[bytes, bytes]:
    return _props(name=name), _models(name=name)


def _plain(body: bytes, content_type: str, status: int = 200) -> Reply:
    headers = (("Content-Type", content_type), ("Content-Length", str(len(body))))
    return Reply(status=status, headers=headers, body=body)


LIES: dict[str, tuple[bytes, bytes]] = {
    "honest": (_props(), _models()),
    "strings": (_props(b'"512"', b'"1"', asleep=b'"false"'), _models(b'"512"')),
    "nulls": (_props(b"null", b"null", b"null", b"null"), _models(b"null", b"null")),
    "negative": _numbers(b"-1"),
    "infinite": _numbers(INFINITE),
    "nan": _numbers(b"NaN"),
    "fraction": _numbers(b"0.5"),
    "enormous": _numbers(b"9" * 4000),
    "ansi": _names(rb'"\u001b[2J\u001b]0;owned\u0007m"'),
    "bidi": _names('"m\u202egpj.exe"'.encode()),
    "newline": _names(rb'"m\nok: everything is fine"'),
    "surrogate": _names(rb'"m\ud800"'),
    "long": _names(b'"' + b"m" * 10_000 + b'"'),
    "empty": _names(b'""'),
    "not_utf8": _names(b'"m\xff\xfe"'),
    "many": (_props(), _distinct_models(MANY)),
    "same_name": (_props(), _models(count=2)),
    "lists": (b"[]", b"[]"),
    "no_data": (b"{}", b'{"object":"list"}'),
    "data_is_object": (_props(), b'{"object":"list","data":{"id":"m"}}'),
    "numbers_for_models": (_props(), b'{"object":"list","data":[1,null,"m",[]]}'),
    "router_of_strings": (b'{"role":["router"]}', b'{"object":"list","data":[{"id":"m","status":"loaded"}]}'),
    "words": (b'"props"', b'"models"'),
    "nothing": (b"", b""),
    "cut": (_props()[:-5], _models()[:-5]),
}
"""What ``/props`` and ``/v1/models`` say, by the name of the lie."""
