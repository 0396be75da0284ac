"""The demo's agent: a folder as Hive exports them, run by ``AgentRunner`` on the demo's own model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec

from hived_client.agent.result import ExecutionResult
from hived_client.agent.runner import AgentRunner

HIVE_TOOK = 151.0
"""Seconds until Hive itself (its commit 54fd8db4e, LiteLLM 1.83.4) gave up on a server that was not there;
measured once, on another day, so it is shown for comparison only."""
UNDER_WAY = 0.3
"""Seconds for which a run waits for its server before that is killed."""


def write_agent(folder: Path, *, output: str) -> Path:
    """Write an agent with one step, which has one output; return its folder."""
    node = {
        "id": "greet",
        "name": "Greet",
        "description": "Greet whoever asks.",
        "input_keys": ["query"],
        "output_keys": [output],
    }
    graph = {"id": "demo", "entry_node": "greet", "terminal_nodes": ["greet"], "nodes": [node], "edges": []}
    goal = {"id": "demo", "name": "greet", "description": "Greet whoever asks."}
    folder.mkdir(parents=True)
    (folder / "agent.json").write_bytes(msgspec.json.encode({"graph": graph, "goal": goal}))
    return folder


def run_agent(folder: Path, model: str) -> ExecutionResult:
    """Run the agent once."""
    return anyio.run(AgentRunner.load(folder, model=model).run, {"query": "Who are you?"})


def run_and_kill(
    folder: Path, model: str, pid: int, said: Callable[[], None]
) -> tuple[ExecutionResult, float]:
    """Run the agent and kill its server meanwhile; return the result and the seconds from the kill to it.

    The server is stopped first, so that the run is surely under way when it is killed.
    """
    killed = 0.0

    async def kill() -> None:
        nonlocal killed
        await anyio.sleep(UNDER_WAY)
        said()
        killed = time.perf_counter()
        os.kill(pid, signal.SIGKILL)

    async def both() -> ExecutionResult:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            return await AgentRunner.load(folder, model=model).run({"query": "Who are you?"})
        raise AssertionError("a task group does not end otherwise")

    os.kill(pid, signal.SIGSTOP)
    try:
        result = anyio.run(both)
    except BaseException:
        os.kill(pid, signal.SIGCONT)  # interrupted: a stopped process could not be ended
        raise
    return result, time.perf_counter() - killed
