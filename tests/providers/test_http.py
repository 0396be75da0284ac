"""The one HTTP client: bounded in bytes and time, and it goes nowhere that it was not sent."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import httpx
import pytest

from hived.decisions.outcomes import NoAnswer
from hived.providers import http as module
from hived.providers.http import EVENT, EVENTS_RATE, LARGE, LINE, PIECE, SIP, SMALL, TURN, Http, Unusable
from tests.servers.loopback import HttpLoopback, Reply, Request
from tests.servers.strangers import (
    AnswersEverything,
    Crumbs,
    Dribble,
    GzipBomb,
    HalfResponse,
    HugeBody,
    Redirects,
    Resets,
    Silent,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http()
    yield client
    await client.aclose()


class Says(HttpLoopback):
    """Answers with a body, whole or in pieces, and keeps every request."""

    def __init__(self, *pieces: bytes, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__()
        self.asked: list[Request] = []
        self._pieces, self._status, self._headers = pieces, status, headers

    def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        chunked = (("Transfer-Encoding", "chunked"), ("Connection", "close"))
        return Reply(status=self._status, headers=self._headers + chunked, body=self._body())

    def _body(self) -> Iterator[bytes]:
        yield from self._pieces


async def unusable(http: Http, url: str, *, limit: int = SMALL, timeout: float = 60.0) -> NoAnswer:
    with pytest.raises(Unusable) as refused:
        await http.get(url, limit=limit, timeout=timeout)
    return refused.value.outcome


async def test_an_answer_comes_whole_with_its_status_and_headers(http: Http) -> None:
    with Says(b'{"a":', b"1}", status=404, headers=(("Server", "x"),)) as server:
        answer = await http.get(server.url + "/p?q=1", limit=SMALL, timeout=60.0)
    assert (answer.status, answer.headers["server"], answer.json()) == (404, "x", {"a": 1})
    assert server.requests == [("GET", "/p?q=1")]
    assert (http.requests, repr(http)) == (1, "<Http 1 requests>")


async def test_no_request_says_where_it_comes_from_or_what_it_could_unpack(http: Http) -> None:
    with Says(b"{}", headers=(("Set-Cookie", "a=b"),)) as server:
        for key in (None, "KEY"):
            await http.get(server.url, limit=SMALL, timeout=60.0, key=key)
    first, second = (request.headers for request in server.asked)
    assert first.keys() == {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert (first["accept-encoding"], first["connection"], first["user-agent"]) == (
        "identity",
        "close",
        "hived",
    )
    assert second["authorization"] == "Bearer KEY"
    assert second.keys() - first.keys() == {"authorization"}


@pytest.mark.parametrize("case", [str.upper, str.lower])
async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, case: type[str]) -> None:
    with AnswersEverything() as proxy, Says(b"{}") as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(case(name), proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        client = Http()
        await client.get(server.url, limit=SMALL, timeout=60.0)
        await client.aclose()
        assert (proxy.connections, server.connections) == (0, 1)


async def test_no_connection_is_kept(http: Http) -> None:
    with Says(b"{}") as server:
        for _ in range(3):
            await http.get(server.url, limit=SMALL, timeout=60.0)
        assert server.connections == 3


async def test_a_redirect_is_never_followed(http: Http) -> None:
    with AnswersEverything() as target, Redirects(target.url) as server:
        assert (await unusable(http, server.url)).kind == "redirect"
        assert (len(server.requests), target.connections) == (1, 0)


@pytest.mark.parametrize("status", [300, 301, 304, 399])
async def test_every_status_of_a_redirect_is_one(http: Http, status: int) -> None:
    with Says(b"", status=status) as server:
        assert (await unusable(http, server.url)).kind == "redirect"


async def test_an_answer_may_be_as_long_as_the_limit_and_no_byte_longer(http: Http) -> None:
    with Says(b"x" * 1000) as server:
        assert len((await http.get(server.url, limit=1000, timeout=60.0)).body) == 1000
        assert (await unusable(http, server.url, limit=999)).kind == "broken"


async def test_an_answer_without_end_is_left_at_the_limit(http: Http) -> None:
    with HugeBody() as server:
        found = await unusable(http, server.url, limit=SMALL)
        assert (found.kind, str(SMALL) in found.why) == ("broken", True)
        assert server.sent < LARGE  # what fits into the socket's buffers, not what could have come


async def test_an_answer_of_very_many_pieces_is_left_however_short_it_is(http: Http) -> None:
    """Its bytes are few, and the loop would be busy with them for a tenth of a second and more."""
    with Crumbs(SMALL // PIECE) as few, Crumbs(SMALL // PIECE + 2) as many:
        assert len((await http.get(few.url, limit=SMALL, timeout=60.0)).body) == SMALL // PIECE
        assert (await unusable(http, many.url, limit=SMALL)).kind == "broken"


class Counted:
    """An answer whose pieces are counted as they are taken out of what was read."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.pieces = 0

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_raw():
            self.pieces += 1
            yield piece


async def test_of_an_answer_that_is_left_no_more_is_taken_out_than_lay_in_one_sip() -> None:
    with Crumbs() as server:
        async with module._client(verify=False) as client, client.stream("GET", server.url) as response:
            counted = Counted(response)
            assert not await module._read(counted, lambda piece: False)  # type: ignore[arg-type]
    assert counted.pieces <= SIP // len(b"1\r\nx\r\n") + 1


class Buffered:
    """An answer of which all pieces lie there already."""

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for _ in range(100 * TURN):
            yield b"x"


async def test_an_answer_of_many_pieces_leaves_others_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        await anyio.lowlevel.checkpoint()
        before = turns
        assert await module._read(Buffered(), lambda chunk: True)  # type: ignore[arg-type]
        assert turns - before >= 99
        tasks.cancel_scope.cancel()


async def test_an_answer_that_is_packed_is_not_unpacked(http: Http) -> None:
    with GzipBomb() as server:
        found = await unusable(http, server.url, limit=LARGE)
        assert (found.kind, "compressed" in found.why) == ("broken", True)


@pytest.mark.parametrize(
    ("stranger", "kind"),
    [(HalfResponse, "broken"), (Resets, "broken"), (Silent, "silent"), (Dribble, "silent")],
)
async def test_what_is_no_answer_says_how(http: Http, stranger: type[Silent], kind: str) -> None:
    with stranger() as server:
        with anyio.fail_after(60.0):
            assert (await unusable(http, server.url, timeout=0.15)).kind == kind


async def test_who_was_held_over_a_deadline_asks_again(http: Http) -> None:
    with Silent() as hangs, Says(b"{}") as server:

        async def hold() -> None:
            time.sleep(1.0)  # the whole loop, as a SIGSTOP would

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            assert (await http.get(server.url, limit=SMALL, timeout=0.5)).status == 200
        assert http.requests == 2
        assert (await unusable(http, hangs.url, timeout=0.15)).kind == "silent"


@pytest.mark.parametrize("stranger", [HalfResponse, Resets])
async def test_who_hangs_up_is_told_from_who_says_nonsense(http: Http, stranger: type[Silent]) -> None:
    with stranger() as server, GzipBomb() as other:
        assert (await unusable(http, server.url)).cut
        assert not (await unusable(http, other.url)).cut


async def test_a_port_without_a_server_is_refused(http: Http) -> None:
    with Silent() as server:
        url = server.url
    assert await unusable(http, url) == NoAnswer(kind="refused", why="connection refused")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1",
        "http://a b/",
        "http://h:0",
        "http://" + "a" * 70 + ".x",
        "h",
        "",
        "ftp://127.0.0.1",
    ],
)
async def test_an_address_that_is_none_is_no_answer(http: Http, url: str) -> None:
    assert (await unusable(http, url, timeout=60.0)).kind in ("broken", "unreachable", "dns", "refused")


@pytest.mark.parametrize(
    "key", ["SECRET\n", "SECRET\r\nX-Evil: 1", "SECRET\x00", "SECRET\u2026", "SECRET\ud800"]
)
async def test_a_key_that_cannot_be_sent_is_not_quoted(http: Http, key: str) -> None:
    with Says(b"{}") as server:
        with pytest.raises(Unusable) as refused:
            await http.get(server.url, limit=SMALL, timeout=60.0, key=key)
        assert server.requests == []
    assert refused.value.outcome.kind == "broken"
    assert "SECRET" not in refused.value.outcome.why + str(refused.value)


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ConnectionRefusedError(), "refused"),
        (socket.gaierror(-2, "x"), "dns"),
        (ExceptionGroup("several addresses", [OSError("no route"), ConnectionRefusedError()]), "refused"),
        (OSError("no route"), "unreachable"),
        (ssl.SSLError("x"), "unreachable"),
    ],
)
def test_why_there_is_no_connection_is_found_behind_the_error(cause: Exception, kind: str) -> None:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = OSError("between")
    error.__cause__.__cause__ = cause
    assert module._unusable(error).outcome.kind == kind


def test_what_the_system_says_of_a_way_that_is_none_is_passed_on() -> None:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = OSError("between")
    error.__cause__.__cause__ = OSError(errno.ENETUNREACH, "Network is unreachable")
    assert module._unusable(error).outcome.why == "network is unreachable"


def test_errors_that_cause_each_other_in_a_circle_are_looked_at_once() -> None:
    one, other = httpx.ConnectError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert module._unusable(one).outcome.kind == "unreachable"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b"nan", b"9" * 5000, b'"\\ud800"', b"{'a':1}", b"\x00"]
)
def test_a_body_that_is_no_json_is_nothing(body: bytes) -> None:
    value = module.Answer(status=200, headers={}, body=body).json()
    assert value is None or isinstance(value, int | float)


# Streams.


async def lines_of(http: Http, server: HttpLoopback, timeout: float = 60.0) -> list[bytes]:
    found: list[bytes] = []
    await http.listen(server.url, found.append, timeout=timeout)
    return found


async def test_lines_are_handed_on_however_they_are_cut(http: Http) -> None:
    with Says(b"data: a\n", b"da", b"ta: b\r\n\r", b"\n", b"unended") as server:
        assert await lines_of(http, server) == [b"data: a", b"data: b", b""]
        assert server.asked[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (Says(b"data: a\n", status=404), "broken"),
        (Says(b"data: a\n", status=302), "redirect"),
        (Says(*[b"x" * (LINE // 8)] * 9), "broken"),
        (HalfResponse(), "broken"),
        (Silent(), "silent"),
        (Dribble(), "silent"),
        (Resets(), "broken"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_stream_that_is_none_is_left(server: HttpLoopback, kind: str) -> None:
    async def listen() -> None:
        client = Http()
        with pytest.raises(Unusable) as refused:
            await lines_of(client, server, timeout=0.15)
        assert refused.value.outcome.kind == kind
        await client.aclose()

    with server:
        anyio.run(listen)


async def test_who_listens_can_be_cancelled(http: Http) -> None:
    class Endless(Says):
        def _body(self) -> Iterator[bytes]:
            yield b"data: a\n"
            self.closing.wait()

    heard = anyio.Event()
    with Endless() as server:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await http.listen(server.url, lambda _: heard.set(), timeout=60.0)

            tasks.start_soon(listen)
            await heard.wait()
            tasks.cancel_scope.cancel()


class Floods(HttpLoopback):
    """Events that never stop, each of them short."""

    def answer(self, request: Request) -> Reply:
        headers = (("Content-Type", "text/event-stream"), ("Connection", "close"))
        return Reply(headers=headers, body=iter(lambda: b"data: {}\n\n" * 500, b""))


async def test_a_flood_of_events_is_cut_off(http: Http) -> None:
    told = 0

    def count(line: bytes) -> None:
        nonlocal told
        told += 1

    began = anyio.current_time()
    with Floods() as server, anyio.fail_after(60.0), pytest.raises(Unusable, match="too many"):
        await http.listen(server.url, count, timeout=60.0)
    # What may come at once, what may come while that is read, and the last sip of lines of one byte each.
    assert told <= (LINE + (anyio.current_time() - began) * EVENTS_RATE) / EVENT + SIP
