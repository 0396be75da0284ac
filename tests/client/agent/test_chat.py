"""One turn with a server: the real llama.cpp, and servers that lie, drip, redirect and break off."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hived_client.agent import chat as chat_module
from hived_client.agent.chat import PIECES_A_TOKEN, Chat
from hived_client.agent.words import Piece, Request, ToolCall, tool_result
from hived_client.agent.words import Reply as Answer
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault, fault
from tests.servers.llamacpp import ALIAS, ARGUMENTS, SAY, TOOL, LlamaCpp
from tests.servers.loopback import HttpLoopback, Reply
from tests.servers.loopback import Request as Asked

pytestmark = pytest.mark.anyio

HELLO = Request(messages=[{"role": "user", "content": "Hello"}], max_tokens=64)
OFFER = {"type": "function", "function": {"name": TOOL, "description": "", "parameters": {"type": "object"}}}
STREAM = (("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))


class Scripted(HttpLoopback):
    """Answers every call with the same."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply
        self.asked: list[Asked] = []
        self.left = threading.Event()

    def answer(self, request: Asked) -> Reply:
        self.asked.append(request)
        return self._reply


def target(url: str, **fields: Any) -> Target:
    found = {
        "model": f"openai/{ALIAS}",
        "api_base": f"{url}/v1",
        "provider": "llamacpp",
        "name": ALIAS,
    } | fields
    return Target(endpoint=str(found["provider"]), **found)


def event(**document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


async def failure(reply: Reply, **fields: Any) -> Fault:
    with Scripted(reply) as server:
        async with Chat() as chat:
            with pytest.raises(CallFailed) as failed:
                await chat.complete(target(server.url, **fields), HELLO)
    return failed.value.fault


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[LlamaCpp]:
    with LlamaCpp() as running:
        yield running


async def test_the_real_server_says_its_sentence_piece_by_piece_and_counts(llamacpp: LlamaCpp) -> None:
    pieces: list[Piece] = []
    async with Chat() as chat:
        reply = await chat.complete(target(llamacpp.url), HELLO, pieces.append)
    assert reply.text == SAY
    assert len(pieces) > 1
    assert "".join(piece.text for piece in pieces) == SAY
    assert reply.usage.completion_tokens
    assert reply.finish_reason == "stop"


async def test_the_real_server_makes_its_call_and_takes_the_result(llamacpp: LlamaCpp) -> None:
    async with Chat() as chat:
        asked = await chat.complete(target(llamacpp.url), Request(messages=HELLO.messages, tools=[OFFER]))
        (call,) = asked.tool_calls
        assert (call.name, json.loads(call.arguments)) == (TOOL, ARGUMENTS)
        history = [*HELLO.messages, asked.message(), tool_result(call, "42")]
        said = await chat.complete(target(llamacpp.url), Request(messages=history, tools=[OFFER]))
    assert said.text == SAY


@pytest.mark.parametrize("written", ['{"key": ', "", "[1]", "null", "[" * 100_000, '{"a":' * 100_000])
async def test_arguments_that_are_no_object_do_not_end_the_conversation(
    llamacpp: LlamaCpp, written: str
) -> None:
    wrong = ToolCall(id="a", name=TOOL, arguments=written)
    said = Answer(tool_calls=(wrong,)).message()
    history = [*HELLO.messages, said, tool_result(wrong, "the arguments are no object")]
    async with Chat() as chat:
        reply = await chat.complete(target(llamacpp.url), Request(messages=history, tools=[OFFER]))
    assert reply.text == SAY


async def test_the_real_server_refuses_a_prompt_that_is_too_long(llamacpp: LlamaCpp) -> None:
    long = Request(messages=[{"role": "user", "content": "word " * 5000}])
    async with Chat() as chat:
        with pytest.raises(CallFailed) as failed:
            await chat.complete(target(llamacpp.url), long)
    assert failed.value.code == "call.context_exceeded"
    assert "exceeds the available context size" in failed.value.message


async def test_nothing_listens(unused_port: int) -> None:
    async with Chat() as chat:
        with pytest.raises(CallFailed) as failed:
            await chat.complete(target(f"http://127.0.0.1:{unused_port}"), HELLO)
    assert failed.value.code == "server.down"


async def test_a_redirect_is_never_followed() -> None:
    with Scripted(Reply(headers=STREAM)) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            headers = (("location", f"{elsewhere.url}/v1/chat/completions"), ("content-length", "0"))
            assert (await failure(Reply(status=status, headers=headers))).code == "server.redirects"
        assert elsewhere.requests == []


async def test_no_proxy_is_used_whatever_the_environment_says(
    llamacpp: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted(Reply(headers=STREAM)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with Chat() as chat:
            assert (await chat.complete(target(llamacpp.url), HELLO)).text == SAY
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (
            503,
            {"error": "server busy, please try again.  maximum pending requests exceeded"},
            "call.queue_full",
        ),
        (
            503,
            {
                "error": {
                    "message": "The engine is currently busy and cannot accept new requests.",
                    "type": "x",
                }
            },
            "call.queue_full",
        ),
        (
            500,
            {"error": "model requires more system memory (9 GiB) than is available (2 GiB)"},
            "call.no_memory",
        ),
        (
            400,
            {
                "error": {
                    "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'
                }
            },
            "call.no_tool_parser",
        ),
        (
            500,
            {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}},
            "call.no_jinja",
        ),
        (400, {"error": "registry.ollama.ai/library/x:latest does not support tools"}, "model.lacks"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 4096 tokens."}},
            "call.context_exceeded",
        ),
        (404, {"error": "model 'x' not found"}, "model.unknown"),
        (404, {"error": "404 page not found"}, "call.rejected"),
        (401, {"error": "Unauthorized"}, "server.unauthorised"),
        (
            503,
            {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
            "server.loading",
        ),
        (400, {"error": "what is that"}, "call.rejected"),
        (500, {"error": "what was that"}, "call.failed"),
    ],
)
async def test_what_servers_say_is_the_fault_that_it_is(status: int, body: dict[str, Any], code: str) -> None:
    raw = json.dumps(body).encode()
    found = await failure(Reply(status=status, headers=(("content-length", str(len(raw))),), body=raw))
    assert found.code == code
    assert "?" not in found.message


async def test_an_error_with_status_200_is_one() -> None:
    raw = b'{"error":"Unexpected endpoint or method. (POST /v1/chat/completions)"}'
    found = await failure(Reply(headers=(("content-length", str(len(raw))),), body=raw))
    assert found.code == "call.failed"
    assert "Unexpected endpoint" in found.message


async def test_an_error_in_the_middle_of_a_stream() -> None:
    body = event(choices=[{"delta": {"content": "a"}}]) + event(error={"message": "CUDA out of memory"})
    assert (await failure(Reply(headers=STREAM, body=body))).code == "call.no_memory"


async def test_a_stream_without_its_last_word_was_cut_off() -> None:
    body = event(choices=[{"delta": {"content": "a"}}])
    assert (await failure(Reply(headers=STREAM, body=body))).code == "call.broken_off"


async def test_a_connection_that_breaks() -> None:
    def break_off() -> Iterator[bytes]:
        yield event(choices=[{"delta": {"content": "a"}}])
        raise ConnectionResetError

    found = await failure(Reply(headers=STREAM, body=break_off()))
    assert (found.code, "the connection ended" in found.message) == ("call.broken_off", True)


async def test_what_the_listener_raises_comes_out_as_it_is(llamacpp: LlamaCpp) -> None:
    def told(piece: Piece) -> None:
        raise ValueError(piece.text)

    async with Chat() as chat:
        with pytest.raises(ValueError, match=r"^I "):
            await chat.complete(target(llamacpp.url), HELLO, told)


class Stale(Scripted):
    """Closes a kept connection as soon as it is used again, without a word."""

    def answer(self, request: Asked) -> Reply:
        found = super().answer(request)
        if len(self.asked) == 2:
            raise ConnectionResetError
        return found


async def test_a_kept_connection_that_had_gone_stale_is_no_failure() -> None:
    body = event(choices=[{"delta": {"content": "a"}}]) + b"data: [DONE]\n\n"
    with Stale(Reply(headers=STREAM, body=body)) as server:
        async with Chat() as chat:
            said = [(await chat.complete(target(server.url), HELLO)).text for _ in range(2)]
    assert said == ["a", "a"]
    assert len(server.asked) == 3


async def test_a_server_that_never_answers_is_not_asked_again() -> None:
    class Mute(Scripted):
        def answer(self, request: Asked) -> Reply:
            super().answer(request)
            raise ConnectionResetError

    with Mute(Reply()) as server:
        async with Chat() as chat:
            with pytest.raises(CallFailed) as failed:
                await chat.complete(target(server.url), HELLO)
    assert failed.value.code == "call.broken_off"
    assert len(server.asked) == 1


async def test_an_endless_line_is_left() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    assert (await failure(Reply(headers=STREAM, body=endless()))).code == "call.failed"


@pytest.mark.parametrize(("allowed", "context"), [(4, None), (4, 512), (None, 4)])
async def test_an_answer_that_goes_on_past_all_that_it_may_have_is_left(
    allowed: int | None, context: int | None
) -> None:
    with Scripted(
        Reply(headers=STREAM, body=itertools.repeat(event(choices=[{"delta": {"content": "a"}}])))
    ) as server:
        heard: list[Piece] = []
        asked = Request(messages=HELLO.messages, max_tokens=allowed)
        async with Chat() as chat:
            with pytest.raises(CallFailed, match="no end"):
                await chat.complete(target(server.url, context=context), asked, heard.append)
    assert len(heard) == 4 * PIECES_A_TOKEN


async def test_a_tools_call_that_is_written_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "EMPTY", 8)
    delta = {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "a"}}]}
    with Scripted(Reply(headers=STREAM, body=itertools.repeat(event(choices=[{"delta": delta}])))) as server:
        async with Chat() as chat:
            with pytest.raises(CallFailed, match="no end"):
                await chat.complete(target(server.url), Request(messages=HELLO.messages, max_tokens=4))


async def test_a_server_that_only_keeps_the_connection_open_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "SILENCE", 0.5)
    with Scripted(Reply(headers=STREAM, body=itertools.repeat(b": ping\n\n" * 1000))) as server:
        async with Chat() as chat:
            with pytest.raises(CallFailed, match="says nothing"):
                await chat.complete(target(server.url), HELLO)


async def test_a_compressed_answer_is_not_unpacked() -> None:
    headers = (("content-encoding", "gzip"), ("content-length", "3"))
    assert (await failure(Reply(headers=headers, body=b"\x1f\x8b\x08"))).code == "call.failed"


async def test_cancelling_hangs_up_at_once() -> None:
    def drip() -> Iterator[bytes]:
        while not server.asked[0].gone():
            yield event(choices=[{"delta": {"content": "."}}])
            time.sleep(0.01)
        server.left.set()

    with Scripted(Reply(headers=STREAM, body=drip())) as server:
        async with Chat() as chat:
            with anyio.CancelScope() as scope:
                await chat.complete(target(server.url), HELLO, lambda piece: scope.cancel())
            assert scope.cancelled_caught
            assert await anyio.to_thread.run_sync(server.left.wait, 60.0)


async def test_a_server_that_hived_knows_to_be_gone_is_given_up() -> None:
    def silence() -> Iterator[bytes]:
        while not server.asked[0].gone():
            time.sleep(0.01)
        yield b""

    gone = fault("server.down", title="llama.cpp", url="http://x", start="")
    silent: list[float] = []

    async def watch(asked: Target, seconds: float) -> Fault | None:
        silent.append(seconds)
        return gone if len(silent) > 1 else None

    with Scripted(Reply(headers=STREAM, body=silence())) as server:
        async with Chat(watch) as chat:
            with pytest.raises(CallFailed) as failed:
                await chat.complete(target(server.url), HELLO)
    assert failed.value.fault == gone


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize("error", ["no", "who is Bearer sk-secret?", {"message": "sk-secret, sk-secret"}])
async def test_the_key_goes_along_and_is_never_said(status: int, error: object) -> None:
    raw = json.dumps({"error": error}).encode()
    with Scripted(Reply(status=status, headers=(("content-length", str(len(raw))),), body=raw)) as server:
        async with Chat() as chat:
            with pytest.raises(CallFailed) as failed:
                await chat.complete(target(server.url, api_key="sk-secret"), HELLO)
        assert server.asked[0].headers["authorization"] == "Bearer sk-secret"
    assert "secret" not in repr(failed.value)


@pytest.mark.parametrize("key", ["sk-…", "sk-\udcff"])
async def test_a_key_that_is_no_ascii_is_sent_as_it_is(key: str) -> None:
    with Scripted(Reply(status=401, headers=(("content-length", "0"),))) as server:
        async with Chat() as chat:
            with pytest.raises(CallFailed) as failed:
                await chat.complete(target(server.url, api_key=key), HELLO)
        sent = server.asked[0].headers["authorization"]
    assert failed.value.code == "server.unauthorised"
    assert sent.encode("latin-1") == b"Bearer " + key.encode("utf-8", "surrogatepass")
