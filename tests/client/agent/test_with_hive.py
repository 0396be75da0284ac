"""Runs by Hive's own engine: stand-ins of both Hives, and which of them runs what."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hived_client import AgentRunner
from hived_client.agent.folder import AgentUnusable
from hived_client.agent.hive_calls import Attended
from hived_client.agent.with_hive import HiveRunner, hive_here
from hived_client.doors import sync
from hived_client.doors.sync import Client
from tests.client.agent.folders import graph, worker
from tests.client.agent.hive_stand_in import write_hive
from tests.servers.ollama import Ollama

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Hive runs on asyncio."""
    return "asyncio"


RUNNER = """
from dataclasses import dataclass, field
from framework.llm.litellm import LiteLLMProvider
import framework.llm.litellm as module

@dataclass
class ExecutionResult:
    success: bool
    output: dict = field(default_factory=dict)
    error: str | None = None
    path: list = field(default_factory=list)
    total_retries: int = 0
    of_hives_own: str = "x"

class AgentRunner:
    @classmethod
    def load(cls, agent_path, mock_mode=False, storage_path=None, model=None, interactive=True):
        self = cls()
        self.model, self.path = model, agent_path
        return self

    async def run(self, input_data=None, session_state=None, entry_point_id=None):
        if input_data.get("query") == "break":
            raise RuntimeError("Hive is broken")
        llm = LiteLLMProvider(model=self.model)
        output = dict(input_data) | {
            "model": llm.model, "base": llm.api_base, "litellm": type(module.litellm).__name__,
            "folder": self.path.name, "state": session_state, "entry": entry_point_id,
        }
        return ExecutionResult(True, output, path=["greet"], total_retries=2)

    async def cleanup_async(self):
        CLEANED.append(self.model)

CLEANED = []
"""

COLONY = """
class AgentSpec:
    def __init__(self, **fields):
        self.fields = fields

Goal = AgentSpec
STOPPED = []

class ColonyRuntime:
    def __init__(self, agent_spec, goal, storage_path, llm=None):
        self.spec, self.goal, self.llm = agent_spec.fields, goal.fields, llm
        assert storage_path.is_dir()

    async def start(self):
        pass

    async def spawn(self, task, count=1, input_data=None):
        self.task = task
        return ["w1"]

    async def wait_for_worker_reports(self, worker_ids, timeout=600.0):
        assert worker_ids == ["w1"]
        if self.task == "fail":
            return [{"status": "failed", "summary": "Worker crashed", "data": {}, "error": "it broke"}]
        data = {"task": self.task, "prompt": self.spec["system_prompt"], "base": self.llm.api_base}
        return [{"status": "success", "summary": "Done.", "data": data, "error": None, "tokens_used": 7}]

    async def stop(self):
        STOPPED.append(self.task)
"""


@pytest.fixture(autouse=True)
def own_places(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HOME", "HIVED_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("OLLAMA_API_BASE", raising=False)
    with Client() as client:
        monkeypatch.setattr(sync, "shared", client)
        yield


@pytest.fixture
def ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ollama]:
    """A server at the address that LiteLLM's variable names, and at the default one as far as we look."""
    with Ollama() as server:
        server.add("llama3")
        monkeypatch.setenv("OLLAMA_API_BASE", server.url)
        yield server


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which packages are imported, and forgotten after the test."""
    folder = tmp_path / "hive"
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [each for each in sys.modules if each.partition(".")[0] in ("framework", "litellm")]:
        del sys.modules[name]


def make(folder: Path, package: str, file: str, text: str, *, commit: str) -> None:
    write_hive(folder, commit)
    (folder / "framework" / package).mkdir()
    (folder / "framework" / package / "__init__.py").write_text("")
    (folder / "framework" / package / file).write_text(text)


@pytest.fixture
def old(importable: Path) -> Path:
    make(importable, "runner", "runner.py", RUNNER, commit="a0d14b8a2")
    (importable / "framework" / "runner" / "__init__.py").write_text(
        "from framework.runner.runner import AgentRunner, CLEANED"
    )
    return importable


@pytest.fixture
def new(importable: Path) -> Path:
    make(importable, "host", "colony_runtime.py", COLONY, commit="54fd8db4e")
    return importable


def greeter(folder: Path) -> Path:
    node = {"id": "greet", "input_keys": ["query"], "output_keys": ["answer"]}
    return graph(folder / "agent", [node], terminal=["greet"])


def module(name: str) -> Any:
    return sys.modules[name]


def test_no_hive_is_here_and_something_else_of_that_name_is_none(importable: Path) -> None:
    assert hive_here() is None
    (importable / "framework").mkdir(parents=True)
    (importable / "framework" / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    assert hive_here() is None


def test_which_hive_it_is_is_known_without_importing_it(old: Path) -> None:
    (old / "framework" / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    assert hive_here() == "runner"


async def test_the_older_hive_runs_a_graph_with_hived_plugged_in(
    old: Path, ollama: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HiveRunner, "_check", _nothing)
    runner = AgentRunner.load(greeter(tmp_path), model="ollama/llama3")
    assert isinstance(runner, HiveRunner)
    async with runner:
        result = await runner.run({"query": "Hello!"}, {"memory": {}}, "default")
    assert result.success, result.error
    assert result.output == {
        "query": "Hello!",
        "model": "ollama_chat/llama3",
        "base": ollama.url,
        "litellm": Attended.__name__,
        "folder": "agent",
        "state": {"memory": {}},
        "entry": "default",
    }
    assert (result.path, result.total_retries, result.steps_executed) == (["greet"], 2, 0)
    assert module("framework.runner").CLEANED == ["ollama/llama3"]


async def test_what_breaks_in_hive_is_in_the_result(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HiveRunner, "_check", _nothing)
    result = await AgentRunner.load(greeter(tmp_path), model="ollama/llama3").run({"query": "break"})
    assert (result.success, result.error) == (False, "RuntimeError: Hive is broken")
    assert module("framework.runner").CLEANED == ["ollama/llama3"]


async def test_a_model_that_cannot_be_called_is_said_before_hive_is_imported(
    old: Path, tmp_path: Path
) -> None:
    result = await AgentRunner.load(greeter(tmp_path), model="openai_compatible/none").run({})
    assert result.fault is not None
    assert result.fault.code == "provider.nowhere"
    assert result.execution_quality == "failed"
    assert "framework.runner" not in sys.modules


async def test_the_newer_hive_runs_a_workers_file(
    new: Path, ollama: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HiveRunner, "_check", _nothing)
    folder = worker(tmp_path / "agent")
    result = await AgentRunner.load(folder, model="ollama/llama3").run({"query": "Hello!"})
    assert result.is_clean_success, result.error
    assert result.output == {
        "query": "Hello!",
        "task": "Hello!",
        "prompt": "You greet.",
        "base": ollama.url,
        "summary": "Done.",
    }
    assert (result.path, result.total_tokens) == (["greeter"], 7)
    failed = await AgentRunner.load(folder, model="ollama/llama3").run({"query": "fail"})
    assert (failed.success, failed.error, failed.execution_quality) == (False, "it broke", "failed")
    assert module("framework.host.colony_runtime").STOPPED == ["Hello!", "fail"]


def test_what_the_newer_hive_does_not_run_runs_here(new: Path, tmp_path: Path) -> None:
    assert not isinstance(AgentRunner.load(greeter(tmp_path), model="ollama/llama3"), HiveRunner)
    with pytest.raises(AgentUnusable, match="engine='hive'"):
        AgentRunner.load(greeter(tmp_path), model="ollama/llama3", engine="hive")


def test_what_only_we_keep_to_runs_here(old: Path, environment: dict[str, str], tmp_path: Path) -> None:
    folder = greeter(tmp_path)
    for more in (
        {"mock_mode": True},
        {"private": True},
        {"environment": environment},
        {"provider": "litellm"},
    ):
        keywords: dict[str, Any] = {"model": "ollama/llama3", **more}
        assert type(AgentRunner.load(folder, **keywords)) is AgentRunner
        with pytest.raises(ValueError, match="does not keep to"):
            AgentRunner.load(folder, engine="hive", **keywords)
    assert type(AgentRunner.load(folder, model="ollama/llama3", engine="hived")) is AgentRunner


async def _nothing(self: HiveRunner) -> None:
    """Instead of the question to hived: its own tests are elsewhere."""
