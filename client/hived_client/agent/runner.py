"""``AgentRunner``: run an agent's folder on a local model, with Hive's signatures and without Hive.

    runner = AgentRunner.load(agent_path="./my_agent", model="ollama/llama3")
    result = await runner.run({"query": "Hello!"})

Nothing is probed and no key is needed: hived says from its file how the model is called, or what is wrong,
and then that is the result at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from hived_client.agent.calls import Calls, Provider, needs_litellm
from hived_client.agent.folder import Agent, AgentUnusable, read_agent
from hived_client.agent.result import ExecutionResult
from hived_client.agent.settings import preferred_model
from hived_client.agent.steps import SET_OUTPUT, Complete, Done, run_step
from hived_client.agent.tools import AgentTool, read_tools
from hived_client.agent.words import Piece, Reply, Request, ToolCall
from hived_client.doors.aio import AsyncClient
from hived_client.doors.paths import places
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import is_local_model


class AgentRunner:
    """One agent, ready to run; as often as one likes."""

    def __init__(
        self,
        agent: Agent,
        *,
        model: str,
        tools: Mapping[str, AgentTool] | None = None,
        mock_mode: bool = False,
        private: bool | str = False,
        environment: Mapping[str, str] | None = None,
        provider: Provider = "auto",
    ) -> None:
        self.agent = agent
        self.model = model
        self.mock_mode = mock_mode
        self.on_piece: Callable[[Piece], None] | None = None
        """Hears what the model says, as it says it."""
        self.on_wait: Callable[[Fault], None] | None = None
        """Hears what a run waits for: a model that is loading."""
        self._tools = dict(tools or {})
        self._private = private
        self._provider = provider
        self._hived = AsyncClient(environment=environment)
        if not mock_mode and (provider == "litellm" or needs_litellm(model, self._hived)):
            from hived_client.agent import litellm_calls

            litellm_calls.prepare()  # importing it takes seconds, and goes on while the agent is made ready

    def __repr__(self) -> str:
        return f"<AgentRunner {self.agent.name} on {self.model}>"

    @classmethod
    def load(
        cls,
        agent_path: str | os.PathLike[str],
        mock_mode: bool = False,
        storage_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        interactive: bool = True,
        *,
        private: bool | str = False,
        environment: Mapping[str, str] | None = None,
        engine: str | None = None,
        provider: Provider = "auto",
    ) -> AgentRunner:
        """Load an agent's folder; the arguments are Hive's.

        ``engine``: ``"hive"`` runs it by Hive, with hived plugged in, ``"hived"`` runs it here; ``None``: by
        Hive where that can be imported, runs this agent, and nothing was said that only we keep to
        (``mock_mode``, ``private``, ``environment``, ``provider``). Here, ``storage_path`` and
        ``interactive`` change nothing: nothing is stored and nobody is asked. ``private``: as in ``resolve``.
        ``provider``: ``litellm`` has LiteLLM make the calls to local servers too. Raises ``AgentUnusable``.
        """
        variables = os.environ if environment is None else environment
        plain = not mock_mode and private is False and environment is None and provider == "auto"
        if engine == "hive" and not plain:
            raise ValueError("Hive's engine does not keep to mock_mode, private, environment and provider")
        if engine == "hive" or (engine is None and plain):
            from hived_client.agent.with_hive import load_with_hive

            by_hive = load_with_hive(agent_path, storage_path, model, interactive, variables)
            if by_hive is not None:
                return by_hive
            if engine == "hive":
                path = os.fspath(agent_path)
                raise AgentUnusable(fault("agent.needs_hive", what="engine='hive'", path=path))
        agent = read_agent(agent_path)
        tools = read_tools(agent.folder)
        wanted = [name for node in agent.nodes for name in node.tools]
        unknown = next((name for name in wanted if name not in tools), None)
        if unknown is not None:
            path = os.path.join(agent.folder, "tools.py")
            raise AgentUnusable(fault("agent.no_tool", tool=unknown, path=path))
        model = model or preferred_model(_configuration(variables))
        if model is None and not mock_mode:
            raise AgentUnusable(fault("agent.no_model", path=_configuration(variables)))
        return cls(
            agent,
            model=model or "mock/mock",
            tools=tools,
            mock_mode=mock_mode,
            private=private,
            environment=variables,
            provider=provider,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @staticmethod
    def _is_local_model(model: str) -> bool:
        return is_local_model(model)

    @staticmethod
    def _get_api_key_env_var(model: str) -> str | None:
        """Return the variable with a model's key: none is needed for a local one."""
        if is_local_model(model):
            return None
        folded = model.casefold()
        provider = folded.partition("/")[0] if "/" in folded else "openai"
        if folded.startswith("claude"):
            provider = "anthropic"
        provider = {"google": "gemini"}.get(provider, provider)
        return f"{provider.upper().replace('-', '_')}_API_KEY"

    async def run(
        self,
        input_data: Mapping[str, Any] | None = None,
        session_state: Mapping[str, Any] | None = None,
        entry_point_id: str | None = None,
    ) -> ExecutionResult:
        """Run the agent once. What goes wrong is in the result; only cancellation is raised.

        Cancelling closes the connection to the server, which stops its work.
        """
        began = time.monotonic()
        run = _Run(self.agent, dict(_kept(session_state)) | dict(input_data or {}))
        try:
            if entry_point_id not in (None, "default", self.agent.entry):
                what = f"the entry point {entry_point_id!r}"
                raise AgentUnusable(fault("agent.needs_hive", what=what, path=self.agent.folder))
            if self.mock_mode:
                await run.go(self._tools, lambda node_model: _mock)
            else:
                await self._run(run)
        except HivedError as error:
            run.fail(error)
        run.result.total_latency_ms = round((time.monotonic() - began) * 1000)
        return run.result

    async def _run(self, run: _Run) -> None:
        open_calls: dict[str, Calls] = {}

        def calls(model: str | None) -> Complete:
            wanted = model or self.model
            if wanted not in open_calls:
                open_calls[wanted] = Calls(
                    wanted,
                    private=self._private,
                    told=self.on_piece,
                    waiting=self.on_wait,
                    hived=self._hived,
                    provider=self._provider,
                )
            return open_calls[wanted].complete

        try:
            await run.go(self._tools, calls)
        finally:
            for each in open_calls.values():
                await each.__aexit__()
                run.result.total_tokens += each.tokens
                run.result.warnings += tuple(each.warnings.values())


class _Run:
    """One run as it goes on."""

    def __init__(self, agent: Agent, memory: dict[str, Any]) -> None:
        self.agent = agent
        self.memory = memory
        self.result = ExecutionResult(success=False, output=memory)

    async def go(self, tools: Mapping[str, AgentTool], calls: Callable[[str | None], Complete]) -> None:
        """Walk along the chain."""
        here: str | None = self.agent.entry
        while here is not None:
            node = self.agent.node(here)
            result = self.result
            result.path.append(here)
            result.steps_executed += 1
            result.node_visit_counts[here] = result.node_visit_counts.get(here, 0) + 1
            done = await run_step(self.agent, node, self.memory, tools, calls(node.model))
            self.memory.update(done.outputs)
            if done.repaired and done.problem is None:
                self._retried(here)
            here = self._next(here, done)
            if here is not None and result.steps_executed >= self.agent.max_steps:
                self._failed(fault("agent.endless", node=here, turns=self.agent.max_steps))
                return

    def fail(self, error: HivedError) -> None:
        """End it with what hived says."""
        self._failed(error.fault)

    def _next(self, here: str, done: Done) -> str | None:
        edge = self.agent.after(here, success=done.problem is None)
        if here in self.agent.terminal and done.problem is None:
            edge = None
        if edge is not None:
            for name, source in edge.input_mapping.items():
                if source in self.memory:
                    self.memory[name] = self.memory[source]
            if done.problem is not None:
                self.result.nodes_with_failures.append(here)
                self._degraded()
            return edge.target
        if done.problem is not None:
            self._failed(done.problem)
        else:
            self.result.success = True
            self.result.session_state = {"memory": dict(self.memory)}
        return None

    def _retried(self, here: str) -> None:
        self.result.total_retries += 1
        self.result.retry_details[here] = self.result.retry_details.get(here, 0) + 1
        self._degraded()

    def _degraded(self) -> None:
        self.result.had_partial_failures = True
        self.result.execution_quality = "degraded"

    def _failed(self, problem: Fault) -> None:
        self.result.success = False
        self.result.fault = problem
        self.result.error = str(HivedError(problem))
        self.result.execution_quality = "failed"


def _configuration(environment: Mapping[str, str]) -> str:
    return places(environment).configuration


def _kept(session_state: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what an earlier run left, under either of Hive's names for it."""
    state = session_state or {}
    kept = state.get("memory") or state.get("data_buffer") or {}
    return kept if isinstance(kept, Mapping) else {}


async def _mock(request: Request) -> Reply:
    """Answer without a model: every output that is asked for, or a word."""
    wanted: list[str] = []
    for tool in request.tools:
        function = tool["function"]
        if function["name"] == SET_OUTPUT:
            wanted = function["parameters"]["properties"]["key"]["enum"]
    calls = tuple(
        ToolCall(
            id=f"mock_{key}",
            name=SET_OUTPUT,
            arguments=msgspec.json.encode({"key": key, "value": "mock"}).decode(),
        )
        for key in wanted
    )
    return Reply(text="" if calls else "mock", tool_calls=calls, finish_reason="stop")
