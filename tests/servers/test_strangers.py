"""Each stranger does what it says, and no more."""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
import zlib
from collections.abc import Callable

import pytest

from tests.servers import strangers
from tests.servers.loopback import HttpLoopback, Loopback
from tests.servers.strangers import (
    LIES,
    AnswersEverything,
    AnswersJsonEverything,
    DeepJson,
    Dribble,
    GzipBomb,
    HalfResponse,
    HugeBody,
    LyingLlamaCpp,
    OpenAiCompatible,
    Redirects,
    Resets,
    Silent,
)


def ask(server: Loopback, path: str = "/health", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        connection.request(method, path, headers={"Accept-Encoding": "identity"})
        response = connection.getresponse()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def connect(server: Loopback, timeout: float = 5.0) -> socket.socket:
    """Connect and ask for ``/health``."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


@pytest.mark.parametrize(
    ("kind", "content_type", "body"),
    [
        (AnswersEverything, "text/html", b"ok"),
        (AnswersJsonEverything, "application/json", b'{"status":"ok"}'),
    ],
)
def test_the_same_answer_stands_at_every_path(
    kind: Callable[[], HttpLoopback], content_type: str, body: bytes
) -> None:
    with kind() as server:
        for method, path in (("GET", "/health"), ("GET", "/api/version"), ("POST", "/v1/chat/completions")):
            status, headers, text = ask(server, path, method)
            assert (status, headers["content-type"], text) == (200, content_type, body)
            assert "server" not in headers
        assert [path for _, path in server.requests] == ["/health", "/api/version", "/v1/chat/completions"]


def test_a_gateway_knows_one_path() -> None:
    with OpenAiCompatible() as server:
        listed = json.loads(ask(server, "/v1/models")[2])
        assert listed == {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "gateway"}]}
        status, headers, text = ask(server, "/health")
        assert (status, headers["content-type"]) == (404, "application/json")
        assert "error" in json.loads(text)
        assert "server" not in headers
        assert len(server.requests) == 2


def test_a_silent_server_accepts_and_says_nothing() -> None:
    with Silent() as server, connect(server, timeout=0.1) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert server.connections == 1


def test_a_dribbling_server_never_ends_its_header() -> None:
    with Dribble() as server, connect(server) as connection:
        begin = time.monotonic()
        taken = b""
        while taken.count(b"x") < 3:
            taken += connection.recv(64)
        assert time.monotonic() - begin >= 2 * strangers.DRIP
        assert taken == b"HTTP/1.1 200 OK\r\nX-Slow: xxx"


def test_a_connection_is_reset() -> None:
    with Resets() as server, connect(server) as connection:
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert server.connections == 1


def test_half_a_response_is_cut() -> None:
    with HalfResponse() as server:
        with pytest.raises(http.client.IncompleteRead) as cut:
            ask(server)
        assert (len(cut.value.partial), cut.value.expected) == (10, 990)
        assert server.requests == [("GET", "/health")]


def test_a_huge_body_goes_on_until_the_client_leaves() -> None:
    with HugeBody() as server:
        with connect(server) as connection:
            reader = connection.makefile("rb")
            head = reader.read(400)
            assert b"Server: llama.cpp\r\n" in head
            assert len(reader.read(1_000_000)) == 1_000_000
            reader.close()
        assert server.requests == [("GET", "/health")]


def test_a_bomb_is_packed_although_it_was_not_asked_for() -> None:
    with GzipBomb() as server:
        status, headers, packed = ask(server)
        assert (status, headers["server"], headers["content-encoding"]) == (200, "llama.cpp", "gzip")
        assert len(packed) < strangers.BOMB / 100
        unpacked = zlib.decompressobj(wbits=31).decompress(packed, 1_000_000)
        assert len(unpacked) == 1_000_000
        assert unpacked.startswith(b'{"status":"ok"')


def test_a_deep_list_breaks_a_parser() -> None:
    with DeepJson() as server:
        text = ask(server)[2]
        assert text.count(b"[") == strangers.DEEP
        with pytest.raises(RecursionError):
            json.loads(text)


def test_a_redirect_points_at_a_server_that_would_count_its_followers() -> None:
    with AnswersEverything() as target, Redirects(target.url) as server:
        status, headers, text = ask(server, "/v1/models?x=1")
        assert (status, headers["location"], text) == (307, f"{target.url}/v1/models?x=1", b"")
        assert server.requests == [("GET", "/v1/models?x=1")]
        assert target.requests == []
        ask(target, "/followed")
        assert target.requests == [("GET", "/followed")]


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_passes_for_llamacpp_and_tells_its_lie(lie: str) -> None:
    with LyingLlamaCpp(lie) as server:
        status, headers, text = ask(server)
        assert (status, headers["server"], text) == (200, "llama.cpp", b'{"status":"ok"}')
        assert (ask(server, "/props")[2], ask(server, "/v1/models")[2]) == LIES[lie]
        assert ask(server, "/nope")[0] == 404
        assert len(server.requests) == 4


def test_what_the_lies_read_as() -> None:
    def model(lie: str) -> dict[str, object]:
        data = json.loads(LIES[lie][1])["data"]
        assert isinstance(data[0], dict)
        return data[0]

    def context(lie: str) -> object:
        meta = model(lie)["meta"]
        assert isinstance(meta, dict)
        return meta["n_ctx"]

    assert (context("honest"), context("strings"), context("nulls")) == (512, "512", None)
    assert (context("negative"), context("infinite"), context("fraction")) == (-1, math.inf, 0.5)
    assert str(model("ansi")["id"]).startswith("\x1b[2J")
    assert len(str(model("long")["id"])) == 10_000
    assert len({each["id"] for each in json.loads(LIES["many"][1])["data"]}) == 20_000
    with pytest.raises(UnicodeDecodeError):
        LIES["not_utf8"][1].decode()


def test_a_lie_can_be_made_up() -> None:
    with LyingLlamaCpp(props=b"7", models=b"null") as server:
        assert (ask(server, "/props")[2], ask(server, "/v1/models")[2]) == (b"7", b"null")


def test_another_server_takes_over_a_port_that_was_in_use() -> None:
    with AnswersEverything() as first:
        held = connect(first)
        assert held.recv(15) == b"HTTP/1.1 200 OK"
    with Silent(port=first.port) as second:
        assert second.port == first.port
    held.close()


def test_a_server_leaves_nothing_behind_and_says_so_if_it_broke() -> None:
    class Broken(HttpLoopback):
        def answer(self, request: object) -> None:  # type: ignore[override]
            raise ValueError("a fake with a mistake")

    with (
        pytest.raises(RuntimeError, match="a fake with a mistake"),
        Broken() as server,
        connect(server) as client,
    ):
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(server)
