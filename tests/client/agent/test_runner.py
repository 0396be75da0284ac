"""AgentRunner: whole runs on the real llama.cpp and on faithful fakes, and every way in which they end."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hived.cli.demo.speaking_model import write_speaking_model
from hived_client import AgentRunner
from hived_client.agent import calls
from hived_client.agent.folder import AgentUnusable
from hived_client.agent.result import ExecutionResult
from hived_client.agent.words import Reply, Request, Usage
from hived_client.doors.aio import AsyncClient
from hived_client.doors.paths import places
from hived_client.errors import HivedError, NotReady, Unavailable
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import KINDS
from tests.client.agent.folders import graph, worker
from tests.daemon.running import Patient, Running, configure, wait_until, write_configuration
from tests.servers.llamacpp import LlamaCpp, is_called
from tests.servers.lm_studio import LmStudio
from tests.servers.loopback import Reply as Answer
from tests.servers.loopback import Request as Asking
from tests.servers.ollama import Ollama
from tests.servers.strangers import LyingLlamaCpp
from tests.servers.vllm import Vllm

pytestmark = pytest.mark.anyio

ANSWER = {"key": "answer", "value": "forty-two"}
QUERY = {"query": "Hello!"}


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """A real server on a model that gives one output, and then says a sentence."""
    path = tmp_path_factory.mktemp("model") / "agent.gguf"
    write_speaking_model(path, say="Hello from here.", tool="set_output", arguments=ANSWER)
    with LlamaCpp(model=path) as server:
        yield server


def greeter(folder: Path) -> Path:
    node = {"id": "greet", "input_keys": ["query"], "output_keys": ["answer"]}
    return graph(folder / "agent", [node], terminal=["greet"])


def providers(**urls: str) -> dict[str, object]:
    return {name: {"api_base": url} for name, url in urls.items()}


async def run(
    folder: Path, model: str, environment: Mapping[str, str], data: Mapping[str, Any] = QUERY, **more: Any
) -> ExecutionResult:
    """Run an agent, after the first look at its server: a question of the runner's does not wait for that."""
    client = Patient(places(environment), environment=environment)
    with contextlib.closing(client), contextlib.suppress(HivedError):
        await anyio.to_thread.run_sync(client.refresh)
    async with AgentRunner.load(folder, model=model, environment=environment, **more) as runner:
        return await runner.run(dict(data))


async def test_a_graph_with_outputs_on_the_real_server(
    llamacpp: LlamaCpp, environment: dict[str, str], tmp_path: Path
) -> None:
    configure(environment, providers(llamacpp=llamacpp.url))
    with Running(environment):
        result = await run(greeter(tmp_path), "llamacpp/tiny-agent", environment)
    assert result.is_clean_success, result.error
    assert result.output == QUERY | {"answer": "forty-two"}
    assert result.path == ["greet"]
    assert result.total_tokens > 100
    assert result.session_state == {"memory": result.output}


async def test_a_workers_file_streams_what_the_model_says(
    llamacpp: LlamaCpp, environment: dict[str, str], tmp_path: Path
) -> None:
    configure(environment, providers(llamacpp=llamacpp.url))
    pieces: list[str] = []
    with Running(environment):
        runner = AgentRunner.load(
            worker(tmp_path / "w"), model="llamacpp/tiny-agent", environment=environment
        )
        runner.on_piece = lambda piece: pieces.append(piece.text)
        result = await runner.run(QUERY)
    assert result.output["response"] == "".join(pieces) == "Hello from here."
    assert len(pieces) > 1


async def test_a_chain_goes_on_with_what_the_step_before_gave(
    llamacpp: LlamaCpp, environment: dict[str, str], tmp_path: Path
) -> None:
    nodes = [{"id": "a", "output_keys": ["answer"]}, {"id": "b", "input_keys": ["number"]}]
    edges = [{"source": "a", "target": "b", "condition": "on_success", "input_mapping": {"number": "answer"}}]
    configure(environment, providers(llamacpp=llamacpp.url))
    with Running(environment):
        result = await run(graph(tmp_path / "g", nodes, edges), "llamacpp/tiny-agent", environment)
    assert result.path == ["a", "b"]
    assert result.output["number"] == "forty-two"
    assert result.output["response"] == "Hello from here."


async def test_a_failure_takes_its_own_edge_and_the_run_is_degraded(
    llamacpp: LlamaCpp, environment: dict[str, str], tmp_path: Path
) -> None:
    nodes: list[dict[str, Any]] = [
        {"id": "a", "output_keys": ["answer", "other"]},
        {"id": "b"},
    ]  # it only ever gives `answer`
    edges = [{"source": "a", "target": "b", "condition": "on_failure"}]
    configure(environment, providers(llamacpp=llamacpp.url))
    with Running(environment):
        result = await run(graph(tmp_path / "g", nodes, edges), "llamacpp/tiny-agent", environment)
    assert result.path == ["a", "b"], result.error
    assert result.is_degraded_success
    assert result.nodes_with_failures == ["a"]


@pytest.mark.parametrize("model", ["ollama/tiny", "ollama_chat/tiny", "OLLAMA/tiny", "ollama/ollama/tiny"])
async def test_ollama_is_called_in_its_own_dialect_with_one_context(
    model: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with Asked() as server:
        server.add("tiny:latest", context_length=32768, capabilities=("completion", "tools"))
        configure(environment, providers(ollama=server.url))
        with Running(environment):
            result = await run(worker(tmp_path / "w"), model, environment)
    assert result.success, result.error
    assert result.total_tokens > 0
    bodies = [json.loads(body) for line, body in server.bodies if line == "POST /api/chat"]
    assert [body["options"]["num_ctx"] for body in bodies] == [16384]
    # A window that is full would be shifted, and the beginning forgotten.
    assert 15_000 < bodies[0]["options"]["num_predict"] < 16_384
    assert not any("/v1/" in line for line, _ in server.bodies)


async def test_the_context_of_a_long_prompt_is_taken_in_one_great_step_and_stays(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with Asked() as server:
        server.add("tiny:latest", context_length=131_072, capabilities=("completion", "tools"))
        configure(environment, providers(ollama=server.url))
        nodes: list[dict[str, Any]] = [
            {"id": "a", "system_prompt": "word " * 12_000},
            {"id": "b", "system_prompt": "word " * 14_000},
        ]
        edges = [{"source": "a", "target": "b", "condition": "on_success"}]
        with Running(environment):
            result = await run(graph(tmp_path / "g", nodes, edges), "ollama/tiny", environment)
    assert result.path == ["a", "b"], result.error
    bodies = [json.loads(body) for line, body in server.bodies if line == "POST /api/chat"]
    assert [body["options"]["num_ctx"] for body in bodies] == [32_768, 32_768]


async def test_a_prompt_that_no_context_holds_is_refused_before_the_call(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with Asked() as server:
        server.add("tiny:latest", context_length=8192)
        configure(environment, providers(ollama=server.url))
        folder = worker(tmp_path / "w", system_prompt="word " * 12_000)
        with Running(environment):
            result = await run(folder, "ollama/tiny", environment)
    assert result.fault is not None
    assert result.fault.code == "context.exceeds_native"
    assert not any(line == "POST /api/chat" for line, _ in server.bodies)


@pytest.mark.parametrize("prefix", ["vllm", "hosted_vllm"])
async def test_vllm(prefix: str, environment: dict[str, str], tmp_path: Path) -> None:
    with Vllm() as server:
        configure(environment, providers(vllm=server.url))
        with Running(environment):
            result = await run(worker(tmp_path / "w"), f"{prefix}/tiny-random", environment)
    assert result.success, result.error


async def test_lm_studio(environment: dict[str, str], tmp_path: Path) -> None:
    with LmStudio() as server:
        configure(environment, providers(lm_studio=server.url))
        with Running(environment) as daemon:
            models = wait_until(lambda: daemon.client.world().world.endpoints[0].models)
            assert models
            result = await run(worker(tmp_path / "w"), f"lm_studio/{models[0].name}", environment)
    assert result.success, result.error


async def test_a_server_that_is_known_to_be_down_costs_no_attempt(
    environment: dict[str, str], tmp_path: Path, unused_port: int
) -> None:
    configure(environment, providers(llamacpp=f"http://127.0.0.1:{unused_port}"))
    with Running(environment):
        result = await run(worker(tmp_path / "w"), "llamacpp/any", environment)
    assert not result.success
    assert result.fault is not None
    assert result.fault.hint
    assert result.error == f"{result.fault.message} → {result.fault.hint}"
    assert result.execution_quality == "failed"


async def test_a_server_that_is_killed_in_the_middle_ends_the_run_with_hiveds_sentence(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with LlamaCpp() as server:
        configure(environment, providers(llamacpp=server.url))
        with Running(environment) as daemon:
            daemon.client.resolve("llamacpp/tiny-agent", timeout=60.0)
            server.stop_process()

            async def kill() -> None:
                await is_called(server)
                await anyio.to_thread.run_sync(server.kill, signal.SIGKILL)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                folder, model = worker(tmp_path / "w"), "llamacpp/tiny-agent"
                result = await AgentRunner.load(folder, model=model, environment=environment).run(QUERY)
            assert not result.success
            assert result.fault is not None
            assert result.fault.code in ("server.down", "model.server_down")
            assert result.fault.hint.startswith("hived start llamacpp")


async def test_a_model_that_is_loading_is_waited_for_and_the_waiting_is_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    from tests.servers.loading import LlamaCppLoading

    waited: list[Fault] = []
    with LlamaCppLoading() as server:
        configure(environment, providers(llamacpp=server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "loading")
            runner = AgentRunner.load(worker(tmp_path / "w"), model="llamacpp/x", environment=environment)
            with anyio.fail_after(60.0), anyio.CancelScope() as enough:

                def wait(fault: Fault) -> None:
                    waited.append(fault)
                    enough.cancel()

                runner.on_wait = wait
                await runner.run(QUERY)
    assert {fault.code for fault in waited} == {"server.loading"}


class Answers(LyingLlamaCpp):
    """Passes for llama.cpp, and answers calls in turn; the last answer stays."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def answer(self, request: Asking) -> Answer:
        if request.path != "/v1/chat/completions":
            return super().answer(request)
        self.asked.append(json.loads(request.body))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def answered(document: Mapping[str, Any], status: int = 200) -> Answer:
    body = json.dumps(document).encode()
    if status == 200:
        body = b"data: " + body + b"\n\ndata: [DONE]\n\n"
    return Answer(status=status, headers=(("content-length", str(len(body))),), body=body)


LOADING = answered({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)


def says(text: str, reason: str = "stop") -> Answer:
    return answered({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]})


async def test_a_model_of_which_only_the_call_shows_that_it_loads_is_waited_for(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LATER", 0.01)
    waited: list[Fault] = []
    with Answers(LOADING, LOADING, says("Hello")) as server:
        configure(environment, providers(llamacpp=server.url))
        with Running(environment):
            runner = AgentRunner.load(worker(tmp_path / "w"), model="llamacpp/m", environment=environment)
            runner.on_wait = waited.append
            result = await runner.run(QUERY)
    assert result.output["response"] == "Hello"
    assert [fault.code for fault in waited] == ["server.loading"]
    assert len(server.asked) == 3


async def test_one_that_loads_for_ever_is_not(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LOADING", 0.05)
    monkeypatch.setattr(calls, "LATER", 0.01)
    with Answers(LOADING) as server:
        configure(environment, providers(llamacpp=server.url))
        with Running(environment):
            result = await run(worker(tmp_path / "w"), "llamacpp/m", environment)
    assert result.fault is not None
    assert result.fault.code == "server.loading"


async def test_an_answer_that_was_cut_short_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    with Answers(says("Once upon", "length")) as server:
        configure(environment, providers(llamacpp=server.url))
        with Running(environment):
            free = await run(worker(tmp_path / "w"), "llamacpp/m", environment)
            few = await run(worker(tmp_path / "f", loop_config={"max_tokens": 7}), "llamacpp/m", environment)
    assert free.success
    assert free.output["response"] == "Once upon"
    (told,) = (warning for warning in free.warnings if warning.code == "call.cut_short")
    assert told.message == "The answer of 'm' was cut short: the context is 512 tokens."
    assert told.hint == "hived resolve llamacpp/m --context 1024"
    assert [w.message for w in few.warnings] == [
        "The answer of 'm' was cut short: the agent allows 7 tokens."
    ]
    assert [asked.get("max_tokens") for asked in server.asked] == [None, 7]


class NeverAnswers(LyingLlamaCpp):
    """Passes for llama.cpp, and does not answer a call before its caller has hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.left = threading.Event(), threading.Event()

    def answer(self, request: Asking) -> Answer:
        if request.path != "/v1/chat/completions":
            return super().answer(request)
        self.called.set()
        while not request.gone() and not self.closing.wait(0.02):
            pass
        self.left.set()
        return Answer(headers=(("content-length", "0"),))


async def test_cancelling_a_run_hangs_up(environment: dict[str, str], tmp_path: Path) -> None:
    with NeverAnswers() as server:
        configure(environment, providers(llamacpp=server.url))
        with Running(environment):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, worker(tmp_path / "w"), "llamacpp/m", environment)
                assert await anyio.to_thread.run_sync(server.called.wait, 60.0)
                tasks.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(server.left.wait, 60.0)


async def test_a_mock_needs_neither_a_server_nor_a_model(environment: dict[str, str], tmp_path: Path) -> None:
    runner = AgentRunner.load(greeter(tmp_path), mock_mode=True, environment=environment)
    result = await runner.run(QUERY)
    assert result.success
    assert result.output["answer"] == "mock"


async def test_the_model_of_the_configuration_is_taken(environment: dict[str, str], tmp_path: Path) -> None:
    write_configuration(environment, json.dumps({"llm": {"provider": "ollama", "model": "qwen"}}))
    assert AgentRunner.load(worker(tmp_path / "w"), environment=environment).model == "ollama/qwen"


async def test_no_model_at_all_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(AgentUnusable) as no:
        AgentRunner.load(worker(tmp_path / "w"), environment=environment)
    assert no.value.code == "agent.no_model"


async def test_a_tool_that_is_not_there_is_said_before_anything_runs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(AgentUnusable) as no:
        AgentRunner.load(worker(tmp_path / "w", tools=["search"]), model="ollama/x", environment=environment)
    assert no.value.code == "agent.no_tool"


async def test_another_entry_point_needs_hive(environment: dict[str, str], tmp_path: Path) -> None:
    runner = AgentRunner.load(worker(tmp_path / "w"), model="ollama/x", environment=environment)
    result = await runner.run(QUERY, entry_point_id="webhook")
    assert result.fault is not None
    assert result.fault.code == "agent.needs_hive"


def test_the_signatures_are_hives() -> None:
    load = list(inspect.signature(AgentRunner.load).parameters)
    assert load[:5] == ["agent_path", "mock_mode", "storage_path", "model", "interactive"]
    assert list(inspect.signature(AgentRunner.run).parameters)[1:] == [
        "input_data",
        "session_state",
        "entry_point_id",
    ]


def test_no_local_model_needs_a_key() -> None:
    for kind in KINDS:
        for prefix in kind.prefixes:
            assert AgentRunner._is_local_model(f"{prefix}/x")
            assert AgentRunner._get_api_key_env_var(f"{prefix.upper()}/x") is None


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("anthropic/claude", "ANTHROPIC_API_KEY"),
        ("claude-sonnet-4", "ANTHROPIC_API_KEY"),
        ("gpt-4o", "OPENAI_API_KEY"),
        ("gemini/pro", "GEMINI_API_KEY"),
        ("Google/pro", "GEMINI_API_KEY"),
        ("groq/x", "GROQ_API_KEY"),
    ],
)
def test_a_cloud_model_needs_the_key_that_hive_says(model: str, variable: str) -> None:
    assert AgentRunner._get_api_key_env_var(model) == variable


class Asked(Ollama):
    """The fake, which keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[tuple[str, bytes]] = []

    def answer(self, request: Any) -> Any:
        self.bodies.append((request.line, request.body))
        return super().answer(request)


def test_importing_the_client_imports_neither_httpx_nor_litellm(environment: dict[str, str]) -> None:
    import subprocess
    import sys

    code = "import sys, hived_client; hived_client.AgentRunner; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"httpx", "litellm"} & set(done.stdout.split())


class Through:
    """Stands where LiteLLM's calls are made, and keeps what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from hived_client.agent import litellm_calls

        self.asked: list[Target | str] = []
        monkeypatch.setattr(litellm_calls, "complete", self.complete)
        monkeypatch.setattr(litellm_calls, "prepare", lambda: None)

    async def complete(self, where: Target | str, request: Request, *more: object) -> Reply:
        self.asked.append(where)
        return Reply(text="Hello", usage=Usage(prompt_tokens=3, completion_tokens=4))


async def test_a_model_of_the_clouds_goes_through_litellm_as_it_is(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = Through(monkeypatch)
    configure(environment)
    with Running(environment):
        result = await run(worker(tmp_path / "w"), "anthropic/claude", environment)
    assert (result.output["response"], result.total_tokens) == ("Hello", 7)
    assert through.asked == ["anthropic/claude"]


async def test_what_is_private_goes_to_the_server_whatever_proxy_is_set(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ollama() as server:
        server.add("tiny:latest", context_length=32768)
        configure(environment, providers(ollama=server.url))
        proxied = environment | {"HTTP_PROXY": "http://127.0.0.1:9"}
        monkeypatch.setenv("HTTP_PROXY", proxied["HTTP_PROXY"])
        with Running(environment):
            result = await run(worker(tmp_path / "w"), "ollama/tiny", proxied, private=True)
    assert result.success, result.error
    assert "proxy.hijacks" not in [each.code for each in result.warnings]


async def test_what_is_private_never_goes_there(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = Through(monkeypatch)
    configure(environment)
    with Running(environment):
        for private in (True, "lan"):
            result = await run(worker(tmp_path / "w"), "anthropic/claude", environment, private=private)
            assert result.fault is not None
            assert result.fault.code == "provider.unknown"
        result = await run(worker(tmp_path / "w"), "ollama/llama3", environment)
        assert not result.success
    assert through.asked == []


async def test_a_proxy_that_is_not_used_is_not_warned_of(
    llamacpp: LlamaCpp, environment: dict[str, str], tmp_path: Path
) -> None:
    configure(environment, providers(llamacpp=llamacpp.url))
    with Running(environment) as daemon:
        wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
        proxied = environment | {"HTTP_PROXY": "http://127.0.0.1:9"}
        result = await run(worker(tmp_path / "w"), "llamacpp/tiny-agent", proxied)
    assert result.success, result.error
    assert result.warnings == ()


@pytest.mark.parametrize(("silences", "says"), [(3, "nothing"), (10_000, "hived does not answer")])
async def test_a_hived_that_is_busy_is_asked_again_for_a_while(
    silences: int, says: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def resolve(self: AsyncClient, model: str, **more: object) -> Target:
        nonlocal asked
        asked += 1
        raise (
            Unavailable(fault("daemon.unresponsive", why="busy"))
            if asked <= silences
            else NotReady(fault("model.unnamed", model="nothing"))
        )

    monkeypatch.setattr(AsyncClient, "resolve", resolve)
    monkeypatch.setattr(calls, "AGAIN", 0.001)
    monkeypatch.setattr(calls, "BUSY", 0.05 if silences > 3 else 60.0)
    waited: list[str] = []
    runner = AgentRunner.load(worker(tmp_path / "w"), model="ollama/x", environment=environment)
    runner.on_wait = lambda why: waited.append(why.code)
    result = await runner.run(QUERY)
    assert says in (result.error or "")
    assert waited == ["daemon.unresponsive"]
    assert asked > 2


@pytest.mark.parametrize("name", ["lab", "Together_AI"])
async def test_a_server_that_the_user_named_is_no_cloud_also_where_hived_does_not_run(
    name: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = Through(monkeypatch)
    configure(environment, {name.lower(): {"like": "vllm", "api_base": "http://127.0.0.1:9"}})
    result = await run(worker(tmp_path / "w"), f"{name}/m", environment)
    assert result.error == "hived is not running. → hived serve"
    with Running(environment):
        result = await run(worker(tmp_path / "w"), f"{name}/m", environment)
    assert result.fault is not None
    assert result.fault.code.startswith("server.")
    assert through.asked == []


async def test_whoever_wants_litellm_for_a_local_model_has_it(
    llamacpp: LlamaCpp, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = Through(monkeypatch)
    configure(environment, providers(llamacpp=llamacpp.url))
    with Running(environment):
        result = await run(worker(tmp_path / "w"), "llamacpp/tiny-agent", environment, provider="litellm")
    assert result.success
    (target,) = through.asked
    assert isinstance(target, Target)
    assert target.api_base == f"{llamacpp.url}/v1"


async def test_without_litellm_a_model_of_the_clouds_is_said_to_need_it(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hived_client.agent import litellm_calls

    monkeypatch.setattr(litellm_calls, "is_installed", lambda: False)
    configure(environment)
    with Running(environment):
        result = await run(worker(tmp_path / "w"), "anthropic/claude", environment)
    assert result.fault is not None
    assert result.fault.code == "call.no_litellm"
    assert result.fault.hint == "pip install 'litellm>=1.81' mcp"
