"""What a run costs: until its first token, inside hived, at the server, and until a clear failure."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import anyio
import anyio.to_thread
import httpx
import msgspec

from hived_client.agent.dialects import OpenAi
from hived_client.agent.folder import read_agent
from hived_client.agent.runner import AgentRunner
from hived_client.agent.steps import opening
from hived_client.agent.words import Request
from hived_client.doors.sync import Client
from tests.benchmarks.daemons import Running, daemon
from tests.benchmarks.measuring import Row, faster, figure, process_times, ratio, short, timed
from tests.servers.llamacpp import ALIAS, LlamaCpp
from tests.servers.loopback import Reply
from tests.servers.loopback import Request as Asked
from tests.servers.ollama import Ollama
from tests.servers.strangers import LyingLlamaCpp

MODEL = f"server/{ALIAS}"
QUERY = {"query": "Hello!"}

_RUN = """
import os, sys, anyio
from hived_client import AgentRunner
runner = AgentRunner.load(sys.argv[1], model=sys.argv[2])
runner.on_piece = lambda piece: os._exit(0)
anyio.run(runner.run, {"query": "Hello!"})
os._exit(1)
"""
"""A program that ends with the first token of an agent's run."""

_BARE = """
import os, sys, httpx
body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
client = httpx.Client(trust_env=False, verify=False)
with client.stream("POST", sys.argv[1] + "/v1/chat/completions", json=body) as response:
    for line in response.iter_lines():
        if '"content":"' in line:
            os._exit(0)
os._exit(1)
"""
"""The same by hand: Python, ``import httpx`` and the server's own first token, and nothing else."""


_LITELLM = """
import os, sys, litellm
answer = litellm.completion(model="openai/m", api_base=sys.argv[1] + "/v1", api_key="none", stream=True,
                            messages=[{"role": "user", "content": "Hello!"}])
for chunk in answer:
    if chunk.choices[0].delta.content:
        os._exit(0)
os._exit(1)
"""
"""The same through LiteLLM, as agents do it today."""


def agent_rows(scale: float) -> Iterator[Row]:
    """A run, beside the same call made by hand."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        path = Path(folder) / "agent"
        path.mkdir()
        (path / "greeter.json").write_text('{"name": "greeter", "system_prompt": "You greet."}')
        with LlamaCpp() as server, daemon({"server": server.url}) as running:
            yield _first_token(path, server.url, running, max(5, int(40 * scale)))
            if importlib.util.find_spec("litellm") is not None:
                yield _by_litellm(path, server.url, running, max(3, int(10 * scale)))
        yield from _inside(path, max(30, int(400 * scale)))
        yield _extra_requests(path)
        yield from _failures(path, max(5, int(50 * scale)))


def _first_token(path: Path, url: str, running: Running, times: int) -> Row:
    commands = [
        [sys.executable, "-P", "-c", _RUN, str(path), MODEL],
        [sys.executable, "-P", "-c", _BARE, url],
    ]
    mine, bare = process_times(commands, running.environment, times)
    what = "new process to the first token of an agent's run"
    return ratio(what, mine.p50, "import httpx and the same call", bare.p50, 2)


def _by_litellm(path: Path, url: str, running: Running, times: int) -> Row:
    commands = [
        [sys.executable, "-P", "-c", _RUN, str(path), MODEL],
        [sys.executable, "-P", "-c", _LITELLM, url],
    ]
    quiet = dict(running.environment) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    mine, theirs = process_times(commands, quiet, times)
    return faster("the same, beside LiteLLM", mine.p50, "import litellm, completion", theirs.p50, 5)


class _Instant(LyingLlamaCpp):
    """Answers a call with one word, and keeps the moment at which it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_at = 0.0

    def answer(self, request: Asked) -> Reply:
        if request.path != "/v1/chat/completions":
            return super().answer(request)
        self.asked_at = time.perf_counter()
        chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        body = b"data: " + msgspec.json.encode(chunk) + b"\n\ndata: [DONE]\n\n"
        length = ("content-length", str(len(body)))
        return Reply(headers=(("content-type", "text/event-stream"), length), body=body)


def _inside(path: Path, times: int) -> Iterator[Row]:
    """From ``run()`` to the request at the server, paired with the same request by a bare client."""
    with _Instant() as server, daemon({"server": server.url}) as running:
        runner = AgentRunner.load(path, model="server/m", environment=dict(running.environment))
        agent = read_agent(path)
        messages = opening(agent, agent.nodes[0], QUERY)
        body = OpenAi().body("m", Request(messages=messages), {})

        async def by_hand() -> float:
            began = time.perf_counter()
            async with (
                httpx.AsyncClient(trust_env=False, verify=False) as client,
                client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as response,
            ):
                taken = server.asked_at - began
                await response.aread()
            return taken

        async def by_hived() -> float:
            began = time.perf_counter()
            result = await runner.run(QUERY)
            assert result.success, result.error
            return server.asked_at - began

        async def pairs() -> list[tuple[float, float]]:
            return [(await by_hived(), await by_hand()) for _ in range(times)][times // 10 :]

        found = anyio.run(pairs)
    inside = median(mine - bare for mine, bare in found)
    bare = median(bare for _, bare in found)
    what = "inside hived between run() and the request at the server, p50"
    yield Row(what, short(inside), f"a bare call: {short(bare)}", inside, 1e-3, shown=short(inside))


def _extra_requests(path: Path) -> Row:
    """Requests to an Ollama for one run, apart from hived's own watching."""
    with Ollama() as server, daemon({"server": server.url}, kind="ollama") as running:
        server.add("m:latest", capabilities=("completion", "tools"))
        Client(running.where).refresh()
        before = [line for line in server.requests if line[0] == "POST"]
        runner = AgentRunner.load(path, model="server/m", environment=dict(running.environment))
        result = anyio.run(runner.run, QUERY)
        assert result.success, result.error
        asked = [line for line in server.requests if line[0] == "POST"][len(before) :]
    extra = len(asked) - 1
    return Row("requests beside the one call of a run, at Ollama", str(extra), "", extra, 0, shown=str(extra))


def _failures(path: Path, times: int) -> Iterator[Row]:
    with LlamaCpp() as server, daemon({"server": server.url}) as running:
        runner = AgentRunner.load(path, model=MODEL, environment=dict(running.environment))

        def fail() -> None:
            result = anyio.run(runner.run, QUERY)
            assert result.fault is not None

        async def run_and_kill() -> float:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                result = await runner.run(QUERY)
            assert result.fault is not None
            return time.perf_counter() - killed[0]

        killed: list[float] = []

        async def kill() -> None:
            await anyio.sleep(0.3)
            killed.append(time.perf_counter())
            os.kill(server.pid, signal.SIGKILL)

        os.kill(server.pid, signal.SIGSTOP)
        yield figure("a server is killed in the middle of a run → the sentence", anyio.run(run_and_kill), 1.0)
        time.sleep(0.5)
        yield figure(
            "a run on a server known to be down → the sentence, p50", timed(fail, times, warm=2).p50, 0.01
        )
