"""LiteLLM itself, of whichever version is installed: quiet, and local where the model is.

These run by themselves (``-m litellm``), where LiteLLM is installed; ``.ci/litellm`` runs them with each
version that is supported.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hived_client.agent import litellm_calls
from hived_client.agent.chat import Chat
from hived_client.agent.litellm_calls import complete, local_kwargs, prepare
from hived_client.agent.litellm_thread import import_litellm
from hived_client.agent.words import Piece, Reply, Request, tool_result
from hived_client.errors import CallFailed
from hived_client.vocabulary.faults import Fault, fault
from tests.client.agent.litellm_ways import (
    HELLO,
    MODEL,
    PREFIXES,
    request,
    target,
)
from tests.servers.llamacpp import ALIAS, SAY, TOOL, LlamaCpp, child_environment
from tests.servers.loopback import HttpLoopback
from tests.servers.loopback import Reply as Answer
from tests.servers.loopback import Request as Asked
from tests.servers.ollama import Ollama
from tests.servers.strangers import Redirects
from tests.servers.vllm import Vllm

if importlib.util.find_spec("litellm") is None:  # importing it here would have it ask for a price list
    pytest.skip("LiteLLM is not installed", allow_module_level=True)

# What LiteLLM and its dependencies warn of while they are imported is not ours to mend.
pytestmark = [pytest.mark.litellm, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).resolve().parents[3]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
STREAM = (("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
LINES = (("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked"))
JSON = (("content-type", "application/json"), ("transfer-encoding", "chunked"))


class Scripted(HttpLoopback):
    """Answers every call with the same, and remembers what it was asked."""

    def __init__(self, reply: Answer | Callable[[Asked], Answer]) -> None:
        super().__init__()
        self._reply = reply
        self.asked: list[Asked] = []

    def answer(self, request: Asked) -> Answer:
        self.asked.append(request)
        return self._reply if isinstance(self._reply, Answer) else self._reply(request)


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def delta(text: str, ends: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": ends}
    return event(
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    )


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[LlamaCpp]:
    with LlamaCpp() as server:
        yield server


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def forgets() -> Iterator[None]:
    """Have LiteLLM let go of the connections that it keeps for calls without our client."""
    yield
    litellm = sys.modules.get("litellm")
    if litellm is not None and litellm.in_memory_llm_clients_cache.cache_dict:
        litellm.in_memory_llm_clients_cache.flush_cache()
        gc.collect()


# The same as without LiteLLM.


@pytest.mark.anyio
@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_turn_is_the_same_as_without_litellm(llamacpp: LlamaCpp, prefix: str, tools: bool) -> None:
    asked = request(tools=tools, max_tokens=64, temperature=0.0, seed=7)
    with Ollama() as ollama:
        ollama.add(MODEL, capabilities=("completion", "tools"))
        where = target(prefix, ollama.url if prefix == "ollama_chat" else llamacpp.url)
        pieces: list[Piece] = []
        reply = await complete(where, asked, pieces.append)
        async with Chat() as chat:
            assert plain(reply) == plain(await chat.complete(where, asked))
    assert "".join(piece.text for piece in pieces) == reply.text
    assert reply.usage.prompt_tokens
    assert reply.usage.completion_tokens is not None
    assert bool(reply.tool_calls) is tools
    assert reply.finish_reason in (("tool_calls",) if tools else ("stop", "length"))


def plain(reply: Reply) -> dict[str, Any]:
    """Return an answer without what differs from call to call: the numbers of tool calls, cached tokens."""
    calls = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    return {
        "text": reply.text,
        "reasoning": reply.reasoning,
        "calls": calls,
        "finish": reply.finish_reason,
        "usage": reply.usage,
        "model": reply.model,
    }


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm", "lm_studio"])
async def test_the_result_of_a_call_is_taken(llamacpp: LlamaCpp, prefix: str) -> None:
    where = target(prefix, llamacpp.url)
    asked = await complete(where, request(tools=True))
    (call,) = asked.tool_calls
    history = [HELLO, asked.message(), tool_result(call, "42")]
    said = await complete(where, Request(messages=history, tools=request(tools=True).tools))
    assert said.text == SAY


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm", "lm_studio"])
async def test_what_a_model_thinks_is_told_apart_from_what_it_says(prefix: str) -> None:
    thought = {"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    ended = event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    body = [event(head | {"choices": [thought]}), delta("yes"), ended, b"data: [DONE]\n\n"]
    pieces: list[Piece] = []
    with Scripted(Answer(headers=STREAM, body=b"".join(body))) as server:
        reply = await complete(target(prefix, server.url), request(tools=False), pieces.append)
    assert (reply.reasoning, reply.text, reply.finish_reason) == ("hm", "yes", "length")
    assert pieces == [Piece("", "hm"), Piece("yes", "")]
    assert reply.usage.prompt_tokens is None, "a server that counts nothing has counted nothing"


FAILURES: dict[str, tuple[str, Answer]] = {
    "redirect": (
        "server.redirects",
        Answer(status=307, headers=(("location", "/x"), ("content-length", "0"))),
    ),
    "key": ("server.unauthorised", Answer(status=401, headers=JSON, body=b'{"error": "Unauthorized"}')),
    "queue": (
        "call.queue_full",
        Answer(status=503, headers=JSON, body=b'{"error": "server busy, try again"}'),
    ),
    "memory": (
        "call.no_memory",
        Answer(status=500, headers=JSON, body=b'{"error": "model requires more system memory (9 GiB)"}'),
    ),
    "context": (
        "call.context_exceeded",
        Answer(
            status=400,
            headers=JSON,
            body=b'{"error": {"message": "This model\'s maximum context length is 512 tokens."}}',
        ),
    ),
    "rejected": ("call.rejected", Answer(status=422, headers=JSON, body=b'{"error": "no such field"}')),
    "failed": ("call.failed", Answer(status=500, headers=JSON, body=b"")),
    "cut": ("call.broken_off", Answer(headers=STREAM, body=delta("Hel"))),
    "torn": (
        "call.broken_off",
        Answer(
            headers=(
                ("content-type", "text/event-stream"),
                ("content-length", "9999"),
                ("connection", "close"),
            ),
            body=delta("Hel"),
        ),
    ),
    "packed": (
        "call.failed",
        Answer(headers=(("content-encoding", "gzip"), ("content-length", "1")), body=b"x"),
    ),
    "within": (
        "call.no_memory",
        Answer(headers=STREAM, body=delta("Hel") + event({"error": {"message": "out of memory"}})),
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", FAILURES)
async def test_what_goes_wrong_is_said_as_without_litellm(name: str, prefix: str) -> None:
    code, reply = FAILURES[name]
    if prefix == "ollama_chat" and name in ("cut", "torn", "within"):
        said = b'{"model":"m","message":{"role":"assistant","content":"Hel"},"done":false}\n'
        kept = LINES if name != "torn" else (("content-length", "9999"), ("connection", "close"))
        reply = Answer(
            headers=kept, body=said + (b'{"error": "out of memory"}\n' if name == "within" else b"")
        )
    with Scripted(reply) as server:
        where = target(prefix, server.url)
        failed = await fails(where)
        async with Chat() as chat:
            with pytest.raises(CallFailed) as plainly:
                await chat.complete(where, request(tools=False))
        calls = [each.line for each in server.asked]
    assert failed.code == plainly.value.code
    if name != "packed":
        assert failed == plainly.value.fault
        assert failed.code == code
    assert calls == ["POST /api/chat" if prefix == "ollama_chat" else "POST /v1/chat/completions"] * 2


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_nothing_listens(prefix: str, unused_port: int) -> None:
    began = time.monotonic()
    assert (await fails(target(prefix, f"http://127.0.0.1:{unused_port}"))).code == "server.down"
    assert time.monotonic() - began < 20.0, "it was tried again"


async def fails(where: Any, **fields: Any) -> Fault:
    with pytest.raises(CallFailed) as failed:
        await complete(where, request(tools=False, **fields))
    return failed.value.fault


# Giving up.


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_turn_that_is_given_up_closes_its_connection(prefix: str) -> None:
    left = threading.Event()
    heard = anyio.Event()

    def slowly(asked: Asked) -> Answer:
        def pieces() -> Iterator[bytes]:
            chunk = delta("Hel")
            if prefix == "ollama_chat":
                chunk = b'{"model":"m","message":{"role":"assistant","content":"Hel"},"done":false}\n'
            yield chunk
            while not asked.gone() and not server.closing.wait(0.02):
                pass
            left.set()

        return Answer(headers=LINES if prefix == "ollama_chat" else STREAM, body=pieces())

    with Scripted(slowly) as server:
        async with anyio.create_task_group() as tasks:

            async def go() -> None:
                await complete(target(prefix, server.url), request(tools=False), lambda piece: heard.set())

            tasks.start_soon(go)
            with anyio.fail_after(60.0):
                await heard.wait()
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(left.wait, 60.0)


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list a process's files")
async def test_a_turn_leaves_nothing_open(llamacpp: LlamaCpp, prefix: str) -> None:
    with Ollama() as ollama:
        ollama.add(MODEL, capabilities=("completion", "tools"))
        where = target(prefix, ollama.url if prefix == "ollama_chat" else llamacpp.url)
        await complete(where, request(tools=True))
        before = connections()
        for tools in (False, True, False, True):
            await complete(where, request(tools=tools))
        # The fake's own half of a connection is closed by a thread of its own.
        with anyio.fail_after(60.0):
            while connections() > before:  # noqa: ASYNC110 - nobody tells when a file is closed
                await anyio.sleep(0.01)


def connections() -> int:
    """Return how many sockets this process has open."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(each.readlink()).startswith("socket:")
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_turn_may_be_given_up_before_its_first_word(prefix: str) -> None:
    arrived, left = threading.Event(), threading.Event()

    def never(asked: Asked) -> Answer:
        arrived.set()
        while not asked.gone() and not server.closing.wait(0.02):
            pass
        left.set()
        return Answer(headers=(("content-length", "0"),))

    with Scripted(never) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(complete, target(prefix, server.url), request(tools=False))
            assert await anyio.to_thread.run_sync(arrived.wait, 30.0)
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(left.wait, 60.0)


@pytest.mark.anyio
async def test_a_server_that_is_known_to_be_down_is_not_waited_for() -> None:
    gone = fault("server.down", title="vLLM", url="http://127.0.0.1:1", start="vllm serve m")
    waited: list[float] = []

    async def watch(where: object, silent: float) -> Fault | None:
        waited.append(silent)
        return gone if silent > 0.5 else None

    with Vllm() as server:
        server.stop_engine()
        where = target("hosted_vllm", server.url, name="tiny-random", model="hosted_vllm/tiny-random")
        with anyio.fail_after(60.0), pytest.raises(CallFailed) as failed:
            await complete(where, request(tools=False), watch=watch)
    assert failed.value.fault == gone
    assert waited == sorted(waited)


# Local means local.


@cache
def table(place: str) -> dict[str, Any]:
    """Go every way in a process of its own: ``proxied``, or where there is nothing but loopback."""
    environment = {
        name: value for name, value in child_environment().items() if name.lower() not in ("no_proxy",)
    }
    command = [sys.executable, "-m", "tests.client.agent.litellm_ways"]
    if place == "alone":
        script = 'ip link set lo up && exec "$@"'
        command = ["unshare", "-Urn", "sh", "-c", script, "sh", *command]
        return _table(command, {k: v for k, v in environment.items() if k not in PROXIES})
    with Scripted(Answer(status=502, headers=(("content-length", "0"),))) as proxy:
        found = _table(command, environment | dict.fromkeys(PROXIES, proxy.url))
        return found | {"proxied": [each.line for each in proxy.asked], "knocks": proxy.connections}


def _table(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@cache
def namespaces() -> bool:
    """Tell whether this user may make a network namespace."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "-Urn", "ip", "link"], capture_output=True, check=False).returncode == 0


@pytest.fixture(params=["alone", "proxied"])
def gone(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "alone" and not namespaces():
        pytest.skip("this user may not make network namespaces")
    return table(request.param)


def test_every_way_reaches_its_server_and_nobody_else(gone: dict[str, Any]) -> None:
    assert len(gone["rows"]) == len(PREFIXES) * (2 + 1) * 6
    assert [row for row in gone["rows"] if not row["fits"]] == []
    assert gone["elsewhere"] == []
    assert gone.get("proxied", []) == []
    assert gone.get("knocks", 0) == 0


def test_nothing_is_asked_of_ollama_but_the_answer(gone: dict[str, Any]) -> None:
    assert gone["ollama"] == ["POST /api/chat"]


def test_no_redirect_is_followed(gone: dict[str, Any]) -> None:
    assert gone["redirected"] == len(PREFIXES) * 6
    assert gone["lured"] == 0


def test_without_our_client_litellm_follows_and_asks(
    no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see if our client did nothing."""
    litellm = import_litellm()
    with Ollama() as ollama, Redirects(ollama.url) as redirects:
        ollama.add("other:latest", capabilities=("completion", "tools"))
        monkeypatch.setenv("OLLAMA_API_BASE", ollama.url)
        where = target("ollama_chat", redirects.url, name="other:latest", model="ollama_chat/other:latest")
        offer = list(request(tools=True).tools)
        litellm.completion(messages=[HELLO], tools=offer, **where.completion_kwargs())
        assert ("POST", "/api/chat") in ollama.requests
        assert ("POST", "/api/show") in ollama.requests


def test_our_client_does_not_change_what_others_do(llamacpp: LlamaCpp, no_proxies: None) -> None:
    """The user's own calls in the same process go on as before: through a redirect as well."""
    litellm = import_litellm()
    where = target("openai", llamacpp.url)
    kwargs = local_kwargs(where, asynchronous=False)
    assert litellm.completion(messages=[HELLO], **kwargs).choices[0].message.content == SAY
    with Redirects(llamacpp.url) as redirects:
        mine = {"model": f"openai/{ALIAS}", "api_base": f"{redirects.url}/v1", "api_key": "mine"}
        assert litellm.completion(messages=[HELLO], **mine).choices[0].message.content == SAY


@pytest.mark.anyio
async def test_an_address_that_is_set_for_all_calls_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    litellm = await anyio.to_thread.run_sync(import_litellm)
    with Ollama() as ollama, Ollama() as other:
        ollama.add(MODEL)
        monkeypatch.setattr(litellm, "api_base", other.url)
        where = target("ollama_chat", ollama.url)
        failed = await fails(where)
        assert failed.code == "call.astray"
        assert other.url in failed.message
        assert other.connections == 0


@pytest.mark.anyio
async def test_fallbacks_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    litellm = await anyio.to_thread.run_sync(import_litellm)
    monkeypatch.setattr(litellm, "model_fallbacks", ["gpt-4o"])
    failed = await fails(target("openai", "http://127.0.0.1:9"))
    assert failed.code == "call.astray"
    assert "gpt-4o" in failed.message


FILE = {"type": "file", "file": {"file_id": "{}/secret.pdf"}}
PICTURE = {"type": "image_url", "image_url": {"url": "{}/secret.png"}}


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("part", [FILE, PICTURE], ids=["file", "picture"])
async def test_nothing_that_a_message_names_is_fetched(prefix: str, part: dict[str, Any]) -> None:
    refuses = Answer(status=400, headers=(("content-length", "0"),))
    with Scripted(refuses) as server, Scripted(refuses) as lure:
        named = json.loads(json.dumps(part).replace("{}", lure.url))
        message = {"role": "user", "content": [{"type": "text", "text": "Read it."}, named]}
        with pytest.raises(CallFailed) as failed:
            await complete(target(prefix, server.url), Request(messages=[message]))
        assert lure.connections == 0
    assert failed.value.code == ("call.astray" if part is FILE else "call.rejected")


@pytest.mark.anyio
async def test_only_the_servers_own_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OLLAMA_API_KEY", "HOSTED_VLLM_API_KEY", "LM_STUDIO_API_KEY"):
        monkeypatch.setenv(name, "sk-of-the-cloud")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    body = delta("yes", "stop") + b"data: [DONE]\n\n"
    for prefix in PREFIXES:
        with Scripted(Answer(headers=STREAM, body=body)) as server:
            with contextlib.suppress(CallFailed):  # Ollama speaks another dialect
                await complete(target(prefix, server.url), request(tools=False))
            (asked,) = server.asked
        expected = None if prefix == "ollama_chat" else "Bearer sk-no-key-required"
        assert asked.headers.get("authorization") == expected
        assert not any("sk-of-the-cloud" in value or "org-mine" in value for value in asked.headers.values())


@pytest.mark.anyio
async def test_a_prefix_that_litellm_does_not_know_is_called_in_the_common_dialect(
    llamacpp: LlamaCpp,
) -> None:
    where = target("openai", llamacpp.url, model=f"sglang/{ALIAS}", provider="sglang")
    assert (await complete(where, request(tools=False))).text == SAY


def test_a_program_that_calls_litellm_itself_is_told_of_a_redirect() -> None:
    litellm = import_litellm()
    with Redirects("http://127.0.0.1:9") as server:
        for prefix in PREFIXES:
            kwargs = local_kwargs(target(prefix, server.url), asynchronous=False)
            with pytest.raises(Exception, match="answers with a redirect") as failed:
                litellm.completion(messages=[HELLO], **kwargs)
            assert type(failed.value).__module__ == "litellm.exceptions"
            kwargs["client"].close()


def test_many_calls_at_once_share_one_client(llamacpp: LlamaCpp) -> None:
    litellm = import_litellm()
    kwargs = local_kwargs(target("openai", llamacpp.url))

    async def go() -> list[str]:
        async def one() -> str:
            stream = await litellm.acompletion(messages=[HELLO], stream=True, **kwargs)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        said = await asyncio.gather(*(one() for _ in range(8)))
        await kwargs["client"].close()
        return said

    assert asyncio.run(go()) == [SAY] * 8


# The facts.


def test_prices_of_the_cloud_are_left_alone() -> None:
    litellm = import_litellm()
    before = dict(litellm.model_cost["gpt-4o"])
    where = target("openai", "http://127.0.0.1:9", name="gpt-4o", model="openai/gpt-4o")
    litellm_calls.tell_facts(litellm, where, tools=True)
    assert litellm.model_cost["gpt-4o"] == before
    assert litellm.get_model_info("gpt-4o")["input_cost_per_token"] == before["input_cost_per_token"]


def test_what_litellm_knows_of_a_local_model_follows_what_hived_knows() -> None:
    litellm = import_litellm()
    for context in (2048, 8192):
        where = target("ollama_chat", "http://127.0.0.1:9", name="x:1", model="ollama_chat/x:1")
        where.facts["max_input_tokens"] = context
        litellm_calls.tell_facts(litellm, where, tools=False)
        assert litellm.get_model_info("ollama_chat/x:1")["max_input_tokens"] == context


# The cloud, which is a server of this device here.


@pytest.mark.anyio
async def test_a_cloud_model_is_called_with_the_users_own_key(
    llamacpp: LlamaCpp, monkeypatch: pytest.MonkeyPatch, no_proxies: None
) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    said = event(head | {"choices": [], "usage": usage})
    with Scripted(Answer(headers=STREAM, body=delta("yes", "stop") + said + b"data: [DONE]\n\n")) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user-0001")
        monkeypatch.setenv("OPENAI_API_BASE", f"{server.url}/v1")
        pieces: list[Piece] = []
        reply = await complete("openai/gpt-4o", request(tools=True, temperature=0.5), pieces.append)
        (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer sk-of-the-user-0001"
    body = json.loads(asked.body)
    assert (body["model"], body["stream"], body["temperature"]) == ("gpt-4o", True, 0.5)
    assert body["tools"] == list(request(tools=True).tools)
    assert reply.text == "yes"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 2)


def test_a_cloud_model_is_called_through_the_users_proxy() -> None:
    code = (
        "import anyio\n"
        "from hived_client.agent.litellm_calls import complete\n"
        "from tests.client.agent.litellm_ways import request\n"
        "print(anyio.run(lambda: complete('openai/gpt-4o', request(tools=False))).text)"
    )
    with Scripted(Answer(headers=STREAM, body=delta("yes", "stop") + b"data: [DONE]\n\n")) as proxy:
        environment = {k: v for k, v in child_environment().items() if k.lower() != "no_proxy"}
        environment |= dict.fromkeys(PROXIES, proxy.url)
        environment |= {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE": "http://cloud.invalid/v1"}
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stdout.strip() == "yes", done.stderr[-3000:]
        (asked,) = proxy.asked
    assert asked.target == "http://cloud.invalid/v1/chat/completions"


@pytest.mark.anyio
async def test_a_cloud_model_without_a_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    failed = await fails("gpt-4o")
    assert failed.code == "cloud.unauthorised"
    assert failed.hint == "export OPENAI_API_KEY=…"


@pytest.mark.anyio
async def test_no_key_stands_in_what_is_said_of_a_cloud_model(
    monkeypatch: pytest.MonkeyPatch, no_proxies: None
) -> None:
    words = b'{"error": {"message": "Incorrect API key provided: sk-of-the-user-0001"}}'
    with Scripted(Answer(status=400, headers=JSON, body=words)) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user-0001")
        monkeypatch.setenv("OPENAI_API_BASE", f"{server.url}/v1")
        failed = await fails("gpt-4o")
    assert failed.code == "cloud.failed"
    assert "Incorrect API key provided: ***" in failed.message
    assert "sk-of-the-user-0001" not in repr(failed)


# Quiet.


def test_it_is_imported_in_the_background_without_a_word_and_asks_nobody() -> None:
    code = (
        "import sys, time\n"
        "seen = []\n"
        "sys.addaudithook(lambda e, a: seen.append(a[1]) if e == 'socket.connect' else None)\n"
        "from hived_client.agent import litellm_calls as calls\n"
        "began = time.thread_time()\n"
        "calls.prepare(); calls.prepare()\n"
        "took = time.thread_time() - began\n"
        "assert 'litellm' not in sys.modules or took < 1.0, took\n"
        "while not calls._THREAD.ready: time.sleep(0.05)\n"
        "import os, litellm\n"
        "assert not litellm.telemetry and litellm.suppress_debug_info\n"
        "assert 'LITELLM_LOCAL_MODEL_COST_MAP' not in os.environ\n"
        "print(took < 1.0, seen)"
    )
    environment = {k: v for k, v in child_environment().items() if k != "LITELLM_LOCAL_MODEL_COST_MAP"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.strip() == "True []", done.stderr[-3000:]


def test_a_whole_process_says_nothing_but_what_the_model_says(llamacpp: LlamaCpp) -> None:
    code = (
        "import anyio, sys\n"
        "from hived_client.agent.litellm_calls import complete\n"
        "from tests.client.agent.litellm_ways import request, target\n"
        "for prefix in ('openai', 'hosted_vllm', 'lm_studio'):\n"
        "    where = target(prefix, sys.argv[1])\n"
        "    for tools in (False, True):\n"
        "        reply = anyio.run(lambda: complete(where, request(tools=tools)))\n"
        "        print(reply.text or reply.tool_calls[0].name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, llamacpp.url],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.splitlines() == [SAY, TOOL] * 3
    assert done.stderr == ""


@pytest.mark.anyio
async def test_the_callers_loop_is_not_held_up(llamacpp: LlamaCpp) -> None:
    """On the caller's loop a first call would take its time there: LiteLLM imports half of itself then."""
    prepare()
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()  # what others on this machine take is not the loop's
            await anyio.sleep(0.01)
            longest = max(longest, time.thread_time() - before)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        await complete(target("openai", llamacpp.url), request(tools=True))
        tasks.cancel_scope.cancel()
    assert longest < 1.0
