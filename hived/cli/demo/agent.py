"""The demo's agent: a folder as Hive exports them, run by ``AgentRunner`` on the demo's own model."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import anyio
import msgspec

from hived_client.agent.result import ExecutionResult
from hived_client.agent.runner import AgentRunner

HIVE_TOOK = 151.0
"""Seconds until Hive itself (its commit 54fd8db4e, LiteLLM 1.83.4) gave up on a server that was not there;
measured once, on another day, so it is shown for comparison only."""
QUERY = {"query": "Who are you?"}
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
    runner = AgentRunner.load(folder, model=model)
    return _aside(lambda: anyio.run(runner.run, QUERY))


def run_and_kill(
    folder: Path, model: str, pid: int, said: Callable[[], None]
) -> tuple[ExecutionResult, float]:
    """Run the agent and kill its server meanwhile; return the result and the seconds from the kill to it.

    The server is stopped first, so that the run is surely under way when it is killed.
    """
    runner = AgentRunner.load(folder, model=model)
    killed, interrupted = 0.0, False

    async def both() -> ExecutionResult:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            return await runner.run(QUERY)
        raise AssertionError("a task group does not end otherwise")

    async def kill() -> None:
        nonlocal killed
        await anyio.sleep(UNDER_WAY)
        if interrupted:
            return
        said()
        killed = time.perf_counter()
        os.kill(pid, signal.SIGKILL)

    os.kill(pid, signal.SIGSTOP)
    try:
        result = _aside(lambda: anyio.run(both))
    except BaseException:
        interrupted = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)  # interrupted: a stopped process could not be ended
        raise
    return result, time.perf_counter() - killed


def _aside(act: Callable[[], ExecutionResult]) -> ExecutionResult:
    """Run an event loop in a thread: Ctrl-C, which may come at any moment, must not break it in the middle.

    The thread of a run that is left behind ends with its server, before the process does.
    """
    done: Future[ExecutionResult] = Future()

    def work() -> None:
        try:
            done.set_result(act())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=work).start()
    return done.result()
