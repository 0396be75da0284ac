"""The guard under a client that LiteLLM is given, without LiteLLM: what may leave, and what may come."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hived_client.agent import egress
from hived_client.agent.chat import MOST_ERROR
from hived_client.agent.egress import Exchange, Guard
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from tests.servers.emulators import Emulator
from tests.servers.loopback import HttpLoopback, Reply
from tests.servers.loopback import Request as Asked
from tests.servers.strangers import GzipBomb, Redirects


def target(url: str = "http://127.0.0.1:8080", **fields: Any) -> Target:
    known: dict[str, Any] = {
        "model": "openai/m",
        "api_base": f"{url}/v1",
        "provider": "llamacpp",
        "name": "m",
    }
    return Target(endpoint="e", **(known | fields))


def admitted(guard: Guard, url: str, **headers: str) -> httpx.Request:
    request = httpx.Request("POST", url, headers=headers)
    guard.admit(request)
    return request


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8081/v1/chat/completions",
        "https://127.0.0.1:8080/v1/chat/completions",
        "http://127.0.0.2:8080/v1/chat/completions",
        "http://localhost:8080/v1/chat/completions",
        "http://api.openai.com/v1/chat/completions",
        "http://127.0.0.1:8080@example.com/v1",
        "http://127.0.0.1/v1",
    ],
)
def test_nothing_leaves_for_another_origin(url: str) -> None:
    guard = Guard(target())
    with pytest.raises(CallFailed) as failed:
        admitted(guard, url)
    assert failed.value.code == "call.astray"
    assert guard.requests == 0
    assert guard.last is not None
    assert guard.last.failure is failed.value


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(CallFailed) as failed:
        admitted(Guard(target()), "http://me:secret@example.com/v1")
    assert "secret" not in repr(failed.value.fault)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/chat/completions"),
        ("http://GPU-Box.local", "http://gpu-box.local:80/v1/x"),
        ("https://gpu.lan", "https://gpu.lan/v1/x"),
        ("http://[::1]:9", "http://[::1]:9/v1/x"),
    ],
)
def test_the_servers_own_address_is_reached_however_it_is_written(base: str, url: str) -> None:
    guard = Guard(target(base))
    admitted(guard, url)
    assert guard.requests == 1


def test_only_the_servers_own_key_is_sent() -> None:
    mine = {"authorization": "Bearer of-the-cloud", "OpenAI-Organization": "o", "cookie": "c", "x-mine": "1"}
    url = "http://127.0.0.1:8080/v1"
    sent = admitted(Guard(target(api_key="its-own")), url, **mine)
    assert sent.headers["authorization"] == "Bearer its-own"
    bare = admitted(Guard(target()), url, **mine)
    assert {"authorization", "openai-organization", "cookie"}.isdisjoint(bare.headers)
    assert bare.headers["x-mine"] == "1"


def test_a_connection_is_not_waited_for_longer_than_without_litellm() -> None:
    request = httpx.Request("POST", "http://127.0.0.1:8080/v1", extensions={"timeout": {"read": 7.0}})
    Guard(target()).admit(request)
    assert request.extensions["timeout"] == {"read": 7.0, "connect": 5.0}


def heard(*chunks: bytes, over: bool = True, reads: bool = True) -> Exchange:
    exchange = Exchange(target(), reads=reads)
    for chunk in chunks:
        exchange.hear(chunk)
    exchange.over = over
    return exchange


def test_a_stream_that_has_said_its_last_word_is_whole() -> None:
    assert heard(b"data: {}\n", b"\ndata: [DO", b"NE]\n\n").end() is None


def test_a_stream_without_its_last_word_was_cut_off_by_the_server_only() -> None:
    cut = heard(b'data: {"choices": []}\n\n').end()
    assert cut is not None
    assert cut.code == "call.broken_off"
    assert heard(b'data: {"choices": []}\n\n', over=False).end() is None


def test_an_error_in_the_middle_of_a_stream_is_raised() -> None:
    with pytest.raises(CallFailed) as failed:
        heard(b'data: {"error": {"message": "out of memory"}}\n\n')
    assert failed.value.code == "call.no_memory"


def test_an_answer_that_is_not_read_along_may_be_anything() -> None:
    assert heard(b'{"error"', b": broken", reads=False).end() is None


@pytest.mark.parametrize("reads", [True, False])
def test_a_line_without_an_end_is_refused(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "MOST_LINE", 1000)
    with pytest.raises(CallFailed) as failed:
        heard(*([b"x" * 100] * 11), reads=reads)
    assert "no end" in failed.value.message
    heard(*([b": " + b"x" * 900 + b"\n"] * 11), reads=reads)


@pytest.mark.parametrize("reads", [True, False])
def test_an_answer_without_an_end_is_refused(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "MOST_BYTES", 1000)
    with pytest.raises(CallFailed, match="no end"):
        heard(*([b": x\n"] * 300), reads=reads)


# Over a real connection, on asyncio: LiteLLM knows nothing else.


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def fetched(guard: Guard, url: str) -> httpx.Response:
    async with egress._http(guard, asynchronous=True) as client:
        response: httpx.Response = await client.post(url, json={})
        return response


def fetched_sync(guard: Guard, url: str) -> httpx.Response:
    with egress._http(guard, asynchronous=False) as client:
        response: httpx.Response = client.post(url, json={})
        return response


@pytest.mark.anyio
async def test_a_redirect_is_told_and_its_address_is_kept_back() -> None:
    with Emulator(table={"/v1/x": {}}) as other, Redirects(other.url) as server:
        guard = Guard(target(server.url))
        for answer in (
            await fetched(guard, f"{server.url}/v1/x"),
            fetched_sync(guard, f"{server.url}/v1/x"),
        ):
            assert answer.status_code == 307
            assert "location" not in answer.headers
            assert "answers with a redirect" in answer.json()["error"]["message"]
            assert guard.last is not None
            assert guard.last.failure is not None
            assert guard.last.failure.code == "server.redirects"
        assert other.connections == 0


@pytest.mark.anyio
async def test_an_answer_that_is_packed_is_not_unpacked() -> None:
    with GzipBomb() as server:
        for answer in (
            await fetched(Guard(target(server.url)), f"{server.url}/v1/x"),
            fetched_sync(Guard(target(server.url)), f"{server.url}/v1/x"),
        ):
            assert answer.status_code == 502
            assert len(answer.content) < 2000


@pytest.mark.anyio
async def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(table={"/v1/x": {"a": 1}}) as server, Emulator(table={}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        guard = Guard(target(server.url))
        assert (await fetched(guard, f"{server.url}/v1/x")).json() == {"a": 1}
        assert fetched_sync(guard, f"{server.url}/v1/x").json() == {"a": 1}
        assert proxy.connections == 0


class Errors(HttpLoopback):
    """Answers with an error, of which more is said than anybody reads."""

    def answer(self, request: Asked) -> Reply:
        body = b'{"error": "out of memory"}' + b" " * 200_000
        return Reply(status=500, headers=(("content-length", str(len(body))),), body=body)


@pytest.mark.anyio
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_error_is_passed_on_and_known(asynchronous: bool) -> None:
    with Errors() as server:
        guard = Guard(target(server.url))
        url = f"{server.url}/v1/x"
        answer = await fetched(guard, url) if asynchronous else fetched_sync(guard, url)
    assert answer.status_code == 500
    assert len(answer.content) <= MOST_ERROR
    assert guard.last is not None
    assert guard.last.failure is not None
    assert guard.last.failure.code == "call.no_memory"


@pytest.mark.anyio
async def test_nobody_there_is_said_as_without_litellm(unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(CallFailed) as failed:
        await fetched(Guard(target(url)), f"{url}/v1/x")
    assert failed.value.code == "server.down"
    with pytest.raises(CallFailed) as failed:
        fetched_sync(Guard(target(url)), f"{url}/v1/x")
    assert failed.value.code == "server.down"
