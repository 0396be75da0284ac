"""Faults that only a call can show, and agents that cannot be run.

Where a server has to be without memory or full, a small one says what the vendor's own source says then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hived_client.agent.call_faults import truncated
from hived_client.agent.chat import Chat
from hived_client.agent.context import Meter
from hived_client.agent.folder import AgentUnusable
from hived_client.agent.runner import AgentRunner
from hived_client.agent.words import Reply as Heard
from hived_client.agent.words import Request
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault
from tests.client.agent.folders import graph, worker
from tests.daemon.running import Running, configure, llamacpp_at
from tests.faults.asking import one
from tests.faults.provoking import provokes
from tests.servers.llamacpp import ALIAS, LlamaCpp, is_called
from tests.servers.loopback import HttpLoopback, Reply
from tests.servers.loopback import Request as Asked
from tests.servers.ollama import Ollama


class Says(HttpLoopback):
    """Answers every call with one error."""

    def __init__(self, status: int, **document: object) -> None:
        super().__init__()
        self._status, self._body = status, json.dumps(document).encode()

    def answer(self, request: Asked) -> Reply:
        return Reply(
            status=self._status, headers=(("content-length", str(len(self._body))),), body=self._body
        )


def target(url: str, provider: str = "llamacpp", name: str = ALIAS) -> Target:
    prefix = {"ollama": "ollama_chat", "vllm": "hosted_vllm"}.get(provider, "openai")
    base = url if provider == "ollama" else f"{url}/v1"
    return Target(
        model=f"{prefix}/{name}", api_base=base, endpoint=provider, provider=provider, name=name, context=4096
    )


def ask(text: str = "Hello", **more: object) -> Request:
    return Request(messages=[{"role": "user", "content": text}], **more)  # type: ignore[arg-type]


async def said(server: Says, provider: str) -> Fault:
    with server:
        return await failed(target(server.url, provider), ask())


async def failed(where: Target, request: Request) -> Fault:
    async with Chat() as chat:
        with pytest.raises(CallFailed) as no:
            await chat.complete(where, request)
    return no.value.fault


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[LlamaCpp]:
    with LlamaCpp() as server:
        yield server


@provokes("call.queue_full", "an Ollama says what it says when OLLAMA_MAX_QUEUE requests wait")
async def test_the_queue_is_full() -> Fault:
    full = "server busy, please try again.  maximum pending requests exceeded"
    return await said(Says(503, error=full), "ollama")


@provokes("call.queue_full", "a vLLM says that its engine is busy")
async def test_the_engine_is_busy() -> Fault:
    busy = "The engine is currently busy and cannot accept new requests. Please try again later."
    return await said(Says(503, error={"message": busy, "type": "Service Unavailable", "code": 503}), "vllm")


@provokes("call.no_memory", "an Ollama says that its runner ended for want of resources")
async def test_there_is_no_memory() -> Fault:
    ended = (
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error,"
        " check ollama server logs for details"
    )
    return await said(Says(500, error=ended), "ollama")


@provokes("call.no_tool_parser", "a vLLM that was started without a tool parser is sent tools")
async def test_there_is_no_tool_parser() -> Fault:
    text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    return await said(Says(400, error={"message": text, "type": "BadRequestError", "code": 400}), "vllm")


@provokes("call.no_jinja", "a llama.cpp says what it says to tools when it was started without jinja")
async def test_there_is_no_template_engine() -> Fault:
    text = "tools param requires --jinja flag"
    return await said(Says(500, error={"code": 500, "message": text, "type": "server_error"}), "llamacpp")


@provokes(
    "call.context_exceeded", "a real llama.cpp is sent a prompt of 25,000 tokens for a context of 4,096"
)
async def test_the_prompt_is_too_long(llamacpp: LlamaCpp) -> Fault:
    return await failed(target(llamacpp.url), ask("word " * 5000))


@provokes("call.rejected", "a real llama.cpp is sent a message without a role")
async def test_the_call_makes_no_sense(llamacpp: LlamaCpp) -> Fault:
    return await failed(target(llamacpp.url), Request(messages=[{"content": 3}]))


@provokes("call.failed", "a vLLM says what it says when its engine has just died")
async def test_the_server_fails() -> Fault:
    text = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return await said(Says(500, error={"message": text, "type": "InternalServerError", "code": 500}), "vllm")


@provokes("call.broken_off", "a real llama.cpp is killed while it has a request")
async def test_the_server_dies_at_work() -> Fault:
    with LlamaCpp() as server:
        server.stop_process()
        found: list[Fault] = []

        async def call() -> None:
            found.append(await failed(target(server.url), ask()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await is_called(server)
            await anyio.to_thread.run_sync(server.kill)
    return found[0]


class Forgetful(Ollama):
    """Cuts a prompt that is longer than its context, and says nothing, as Ollama does."""

    def answer(self, request: Asked) -> Reply:
        found = super().answer(request)
        if request.path != "/api/chat":
            return found
        counted = min(4096, len(request.body) // 4)
        lines = [json.loads(line) for line in b"".join(found.body).splitlines()]  # type: ignore[arg-type]
        lines[-1]["prompt_eval_count"] = counted
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return Reply(headers=(("content-length", str(len(body))),), body=body)


@provokes("call.truncated", "an Ollama counts 4,096 tokens of a prompt of 80 kB")
async def test_the_prompt_was_cut_in_silence() -> Fault:
    with Forgetful() as server:
        server.add("tiny:latest")
        where, request = target(server.url, "ollama", "tiny"), ask("word " * 16_000)
        async with Chat() as chat:
            reply: Heard = await chat.complete(where, request)
        counted = reply.usage.prompt_tokens or 0
        meter = Meter()
        assert meter.learn(request, counted, where.context)
        return truncated(where, sent=meter.prompt(request), counted=counted)


@provokes("call.cut_short", "a real llama.cpp may say four tokens only")
async def test_the_answer_is_cut_short(
    llamacpp: LlamaCpp, tmp_path: Path, environment: dict[str, str]
) -> Fault:
    folder = worker(tmp_path / "w", loop_config={"max_tokens": 4})
    configure(environment, llamacpp_at(llamacpp.url))
    with Running(environment):
        model = f"llamacpp/{ALIAS}"
        result = await AgentRunner.load(folder, model=model, environment=environment).run({"query": "Hello!"})
    return one("call.cut_short", result.warnings)  # the daemon may have been late, which is told, too


def unusable(
    folder: Path, model: str | None = "ollama/x", environment: dict[str, str] | None = None
) -> Fault:
    with pytest.raises(AgentUnusable) as no:
        AgentRunner.load(folder, model=model, environment=environment or {"HOME": str(folder)})
    return no.value.fault


@provokes("agent.missing", "an empty folder")
def test_there_is_no_agent(tmp_path: Path) -> Fault:
    return unusable(tmp_path)


@provokes("agent.unreadable", "an agent.json with a graph without nodes")
def test_the_agent_is_broken(tmp_path: Path) -> Fault:
    return unusable(graph(tmp_path, []))


@provokes("agent.needs_hive", "a graph with a router")
def test_the_agent_needs_hive(tmp_path: Path) -> Fault:
    return unusable(graph(tmp_path, [{"id": "a", "node_type": "router"}]))


@provokes("agent.no_tool", "an agent that wants a tool which its tools.py does not have")
def test_the_agents_tool_is_missing(tmp_path: Path) -> Fault:
    return unusable(worker(tmp_path, tools=["search"]))


@provokes("agent.no_model", "neither the caller nor the configuration names a model")
def test_no_model_is_named(tmp_path: Path, environment: dict[str, str]) -> Fault:
    return unusable(worker(tmp_path), model=None, environment=environment)


async def ran(folder: Path, llamacpp: LlamaCpp, environment: dict[str, str], model: str = "") -> Fault:
    """Run an agent on the real server, whose model calls its tool and then says its sentence."""
    configure(environment, llamacpp_at(llamacpp.url))
    with Running(environment):
        runner = AgentRunner.load(folder, model=model or f"llamacpp/{ALIAS}", environment=environment)
        result = await runner.run({"query": "Hello"})
    assert not result.success
    assert result.fault is not None
    return result.fault


TWO = {"id": "a", "output_keys": ["answer", "x"]}
"""A step with two outputs; the model only ever gives the first."""


@provokes("agent.no_output", "a model that gives one of two outputs, and then only talks")
async def test_the_output_does_not_come(
    tmp_path: Path, llamacpp: LlamaCpp, environment: dict[str, str]
) -> Fault:
    return await ran(graph(tmp_path, [TWO]), llamacpp, environment)


@provokes("agent.endless", "an agent that may have one turn, of which its model makes a call")
async def test_it_comes_to_no_end(tmp_path: Path, llamacpp: LlamaCpp, environment: dict[str, str]) -> Fault:
    folder = graph(tmp_path, [TWO], loop_config={"max_iterations": 1})
    return await ran(folder, llamacpp, environment)
