"""One step of an agent: a conversation with a model that ends when the step's outputs are there.

Outputs come by a tool call, ``set_output``, as in Hive. A model that only talks is reminded once; one that
still gives no output has failed, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from hived_client.agent.folder import Agent, Node
from hived_client.agent.tools import AgentTool, call_tool
from hived_client.agent.words import Reply, Request, ToolCall, legible, read_arguments, tool_result
from hived_client.vocabulary.faults import Fault, fault

SET_OUTPUT = "set_output"

Complete = Callable[[Request], Awaitable[Reply]]
"""Has one turn with the step's model. Raises ``CallFailed`` or ``NotReady``."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a step."""

    outputs: dict[str, Any]
    turns: int
    repaired: bool = False
    """Whether it had to be reminded of its outputs."""
    problem: Fault | None = None


async def run_step(
    agent: Agent,
    node: Node,
    memory: Mapping[str, Any],
    tools: Mapping[str, AgentTool],
    complete: Complete,
) -> Done:
    """Run one step. ``memory`` is what the steps before it left, ``tools`` those of the agent."""
    mine = [tools[name] for name in node.tools]
    offered = [tool.offer() for tool in mine]
    if node.output_keys:
        offered.append(_output_tool(node))
    messages: list[Mapping[str, Any]] = opening(agent, node, memory)
    outputs: dict[str, Any] = {}
    repaired = False
    for turn in range(1, agent.max_iterations + 1):
        reply = await complete(Request(messages=messages, tools=offered, max_tokens=agent.max_tokens))
        messages.append(reply.message())
        for call in reply.tool_calls:
            result = _take_output(node, call, outputs) if call.name == SET_OUTPUT else None
            if result is None:
                result = await _call(mine, call, agent.tool_seconds)
            messages.append(tool_result(call, result))
        missing = [key for key in node.required if key not in outputs]
        # Where all may be left out, one that calls a tool first has not decided yet: it is shown what came.
        if node.output_keys and not missing and (outputs or not reply.tool_calls):
            return Done(outputs=outputs, turns=turn, repaired=repaired)
        if reply.tool_calls:
            continue
        if not node.output_keys:
            return Done(outputs={"response": reply.text}, turns=turn)
        if repaired:
            problem = fault("agent.no_output", node=node.id, missing=", ".join(missing))
            return Done(outputs=outputs, turns=turn, repaired=True, problem=problem)
        repaired = True
        messages.append({"role": "user", "content": _reminder(missing)})
    problem = fault("agent.endless", node=node.id, turns=agent.max_iterations)
    return Done(outputs=outputs, turns=agent.max_iterations, repaired=repaired, problem=problem)


def opening(agent: Agent, node: Node, memory: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the first messages of a step: who it is and what for, and what it is given."""
    parts = [agent.identity, node.system_prompt or node.description]
    if agent.goal.description:
        parts.append(f"Goal: {agent.goal.description}")
    criteria = [*agent.goal.success_criteria, *filter(None, [node.success_criteria])]
    if criteria:
        parts.append("It succeeds when:\n" + "\n".join(f"- {each}" for each in criteria))
    if agent.goal.constraints:
        parts.append("Constraints:\n" + "\n".join(f"- {each}" for each in agent.goal.constraints))
    if node.output_keys:
        keys = ", ".join(node.output_keys)
        parts.append(
            f"When you have them, give the outputs by calling {SET_OUTPUT} once for each of: {keys}."
        )
    system = legible("\n\n".join(part.strip() for part in parts if part and part.strip()))
    given = (
        {key: memory[key] for key in node.input_keys if key in memory} if node.input_keys else dict(memory)
    )
    said = "\n".join(f"{key}: {_shown(value)}" for key, value in given.items()) or "Begin."
    if list(given) == ["query"]:
        said = _shown(given["query"])
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": said}]


def _output_tool(node: Node) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": SET_OUTPUT,
            "description": "Give one output of this step. Call it once for each output.",
            "parameters": {
                "type": "object",
                "properties": {
                    "key": {"type": "string", "enum": list(node.output_keys)},
                    "value": {
                        "type": "string",
                        "description": "The output; JSON where it is not plain text.",
                    },
                },
                "required": ["key", "value"],
            },
        },
    }


def _take_output(node: Node, call: ToolCall, outputs: dict[str, Any]) -> str | None:
    """Keep an output; return what the model is told of it."""
    given = read_arguments(call.arguments)
    if isinstance(given, str):
        return f"Nothing is kept: {given}."
    if "value" not in given:
        return "Give both key and value."
    key = given.get("key")
    if key not in node.output_keys:
        return f"There is no output {key!r}; there are {', '.join(node.output_keys)}."
    outputs[key] = given["value"]
    return f"{key} is kept."


async def _call(tools: Sequence[AgentTool], call: ToolCall, seconds: float | None) -> str:
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        known = ", ".join(tool.name for tool in tools) or "none"
        return f"There is no tool {call.name!r}; there are: {known}."
    return await call_tool(tool, call.arguments, seconds)


def _reminder(missing: Sequence[str]) -> str:
    return f"The step is not done: call {SET_OUTPUT} for {', '.join(missing)}, and say nothing else."


def _shown(value: object) -> str:
    if isinstance(value, str):
        return legible(value)
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):
        return legible(str(value))
