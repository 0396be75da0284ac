"""``AgentRunner`` on Hive's own engine, where Hive can be imported, with hived plugged in.

Hive reads more kinds of agents than we do, and does more with them; what a run comes to is told in the same
words. Which Hive it is, is read from its files, for its import takes seconds: the older ones have
``AgentRunner``; the newer ones run a worker's file by their colony, and no graphs any more: those run here.
Hive runs on asyncio.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from hived_client.agent.folder import Agent, AgentUnusable, read_agent
from hived_client.agent.hive import install
from hived_client.agent.result import ExecutionResult
from hived_client.agent.runner import AgentRunner
from hived_client.agent.settings import preferred_model
from hived_client.doors.paths import places
from hived_client.errors import HivedError, NotReady

Kind = Literal["runner", "colony"]

_FILES: dict[Kind, str] = {"runner": "runner/runner.py", "colony": "host/colony_runtime.py"}
WORK = 600.0
"""Seconds for a worker of a colony, as Hive itself has it."""


def hive_here() -> Kind | None:
    """Tell which Hive can be imported; imports nothing of it."""
    try:
        found = importlib.util.find_spec("framework")
    except (ImportError, ValueError):
        return None
    for folder in (found.submodule_search_locations if found is not None else None) or ():
        for kind, file in _FILES.items():
            if all(os.path.isfile(os.path.join(folder, each)) for each in ("llm/litellm.py", file)):
                return kind
    return None


class HiveRunner(AgentRunner):
    """One agent, run by Hive."""

    def __init__(
        self,
        agent: Agent,
        kind: Kind,
        *,
        model: str | None,
        storage_path: str | None,
        interactive: bool,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(agent, model=model or "", environment=environment)
        self._kind = kind
        self._given = model
        self._storage = storage_path
        self._interactive = interactive

    def __repr__(self) -> str:
        return f"<HiveRunner {self.agent.name} on {self.model or 'what its file names'}>"

    async def run(
        self,
        input_data: Mapping[str, Any] | None = None,
        session_state: Mapping[str, Any] | None = None,
        entry_point_id: str | None = None,
    ) -> ExecutionResult:
        """Run the agent once by Hive. What goes wrong is in the result; only cancellation is raised."""
        began = time.monotonic()
        data = dict(input_data or {})
        try:
            await self._check()
            await asyncio.to_thread(install)
            if self._kind == "runner":
                result = await self._by_runner(data, session_state, entry_point_id)
            else:
                result = await self._by_colony(data)
        except HivedError as error:
            result = _failed(data, str(error))
            result.fault = error.fault
        except Exception as error:  # noqa: BLE001 - Hive's own, of any kind
            result = _failed(data, f"{type(error).__name__}: {error}")
        result.total_latency_ms = round((time.monotonic() - began) * 1000)
        return result

    async def _check(self) -> None:
        """Say at once what need not wait for seconds of imports. Raises ``NotReady``."""
        if not self.model or not self._is_local_model(self.model):
            return
        try:
            await self._hived.resolve(self.model)
        except NotReady as no:
            if not no.fault.retryable:
                raise
        except HivedError:
            pass  # the daemon does not answer: the call will show it

    async def _by_runner(
        self, data: dict[str, Any], session_state: Mapping[str, Any] | None, entry_point_id: str | None
    ) -> ExecutionResult:
        from pathlib import Path  # Hive wants paths

        module = await asyncio.to_thread(importlib.import_module, "framework.runner")
        runner = await asyncio.to_thread(
            module.AgentRunner.load,
            agent_path=Path(self.agent.folder),
            storage_path=Path(self._storage) if self._storage else None,
            model=self._given,
            interactive=self._interactive,
        )
        state = dict(session_state) if session_state else None
        try:
            return _translated(await runner.run(data, state, entry_point_id))
        finally:
            await runner.cleanup_async()

    async def _by_colony(self, data: dict[str, Any]) -> ExecutionResult:
        from pathlib import Path

        host = await asyncio.to_thread(importlib.import_module, "framework.host.colony_runtime")
        llm = importlib.import_module("framework.llm.litellm").LiteLLMProvider(model=self.model)
        node, goal = self.agent.nodes[0], self.agent.goal
        spec = host.AgentSpec(
            id=node.id,
            name=node.name,
            description=node.description or node.name,
            system_prompt=node.system_prompt,
        )
        purpose = host.Goal(id=node.id, name=goal.name or node.name, description=goal.description)
        with tempfile.TemporaryDirectory(prefix="hived-colony-") as folder:
            colony = host.ColonyRuntime(spec, purpose, Path(self._storage or folder), llm=llm)
            await colony.start()
            try:
                workers = await colony.spawn(_task(data), input_data=data)
                (report,) = await colony.wait_for_worker_reports(workers, timeout=WORK)
            finally:
                await colony.stop()
        return _reported(report, data, node.id)


def load_with_hive(
    agent_path: str | os.PathLike[str],
    storage_path: str | os.PathLike[str] | None,
    model: str | None,
    interactive: bool,
    environment: Mapping[str, str],
) -> HiveRunner | None:
    """Return a runner on Hive's engine; ``None`` where there is none that can run this agent."""
    kind = hive_here()
    if kind is None:
        return None
    agent = _colonys(agent_path) if kind == "colony" else _runners(agent_path)
    if agent is None:
        return None
    model = model or preferred_model(places(environment).configuration)
    if kind == "colony" and model is None:
        return None
    storage = None if storage_path is None else os.fspath(storage_path)
    return HiveRunner(
        agent, kind, model=model, storage_path=storage, interactive=interactive, environment=environment
    )


def _runners(path: str | os.PathLike[str]) -> Agent | None:
    """Return the agent as far as we need it: Hive reads it itself, also in shapes that we do not know."""
    folder = os.fspath(path)
    if not any(os.path.exists(os.path.join(folder, name)) for name in ("agent.json", "agent.py")):
        return None
    return Agent(name=os.path.basename(os.path.abspath(folder)), folder=folder, nodes=(), entry="")


def _colonys(path: str | os.PathLike[str]) -> Agent | None:
    """Return the agent of a worker's file without tools of its own: those run here."""
    try:
        agent = read_agent(path)
    except AgentUnusable:
        return None
    is_worker = not os.path.exists(os.path.join(agent.folder, "agent.json"))
    return agent if is_worker and not agent.nodes[0].tools else None


def _task(data: Mapping[str, Any]) -> str:
    """Return what a worker is told to do: the one text that it is given, or all of it."""
    if len(data) == 1 and isinstance(text := next(iter(data.values())), str):
        return text
    return msgspec.json.encode(dict(data)).decode()


def _translated(result: Any) -> ExecutionResult:
    """Return Hive's result as ours: its fields have the same names."""
    known = {field.name for field in dataclasses.fields(ExecutionResult)}
    fields = {name: value for name, value in vars(result).items() if name in known}
    return ExecutionResult(**fields)


def _reported(report: Mapping[str, Any], data: dict[str, Any], node: str) -> ExecutionResult:
    """Return a worker's report as the result of a run."""
    success = report.get("status") == "success"
    given = report.get("data")
    output = data | (dict(given) if isinstance(given, Mapping) else {})
    if report.get("summary"):
        output.setdefault("summary", report["summary"])
    return ExecutionResult(
        success=success,
        output=output,
        error=None if success else str(report.get("error") or report.get("summary") or report.get("status")),
        steps_executed=1,
        total_tokens=int(report.get("tokens_used") or 0),
        path=[node],
        node_visit_counts={node: 1},
        nodes_with_failures=[] if success else [node],
        execution_quality="clean" if success else "failed",
    )


def _failed(data: dict[str, Any], why: str) -> ExecutionResult:
    return ExecutionResult(success=False, output=data, error=why, execution_quality="failed")
