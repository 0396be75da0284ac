"""The functions of an agent's ``tools.py``, as Hive finds them, and how they are called.

Hive knows two ways: functions that its decorator ``tool`` has marked (``_tool_metadata``), and a table
``TOOLS`` with one ``tool_executor`` for all. Both are taken by their shape, so that neither needs Hive.
The file is the user's own program: it is run, as Hive runs it.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from hived_client.agent.folder import AgentUnusable
from hived_client.agent.post import run_aside
from hived_client.agent.words import legible, read_arguments
from hived_client.vocabulary.faults import fault

MOST_RESULT = 200_000
"""Characters of a tool's result that the model is told."""

_TYPES = {int: "integer", float: "number", bool: "boolean", dict: "object", list: "array", str: "string"}


class AgentTool(msgspec.Struct, frozen=True, kw_only=True):
    """One function that a model may call."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of its arguments."""
    call: Callable[[dict[str, Any]], object]

    def offer(self) -> dict[str, Any]:
        """Return it as OpenAI's API wants it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def read_tools(folder: str) -> dict[str, AgentTool]:
    """Load ``tools.py`` of a folder, if it is there. Raises ``AgentUnusable``."""
    path = os.path.join(folder, "tools.py")
    if not os.path.isfile(path):
        return {}
    spec = importlib.util.spec_from_file_location("agent_tools", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        raise AgentUnusable(fault("agent.unreadable", path=path, why=why)) from error
    return {tool.name: tool for tool in (*_table(module), *_marked(module))}


async def call_tool(tool: AgentTool, arguments: str, seconds: float | None = None) -> str:
    """Call a tool with arguments as the model wrote them; what goes wrong is told to the model as text.

    A blocking function runs in a thread. After ``seconds`` it is no longer waited for.
    """
    import anyio

    given = read_arguments(arguments)
    if isinstance(given, str):
        return _json({"error": given})
    try:
        with anyio.move_on_after(seconds):
            result = await _result(tool, given)
            content = getattr(result, "content", result)  # Hive's ToolResult
            return legible(content if isinstance(content, str) else _json(content))[:MOST_RESULT]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the model is told, whatever it is
        return legible(_json({"error": f"{type(error).__name__}: {error}"}))
    return _json({"error": f"it took longer than {seconds:g} s"})


async def _result(tool: AgentTool, given: dict[str, Any]) -> object:
    if inspect.iscoroutinefunction(tool.call):
        found: object = await tool.call(given)
        return found
    result = await run_aside(lambda: tool.call(given))
    return await result if isinstance(result, Awaitable) else result


def _marked(module: types.ModuleType) -> list[AgentTool]:
    found = []
    for name, function in vars(module).items():
        told = getattr(function, "_tool_metadata", None)
        if callable(function) and isinstance(told, Mapping):
            found.append(_of_function(function, str(told.get("name") or name), told.get("description")))
    return found


def _of_function(function: Callable[..., object], name: str, description: object) -> AgentTool:
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation may name what is not there
        hints = {}
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(parameter.name)
        properties[parameter.name] = {"type": _TYPES.get(typing.get_origin(hint) or hint or str, "string")}
        if parameter.default is parameter.empty:
            required.append(parameter.name)

    if inspect.iscoroutinefunction(function):

        async def call_async(arguments: dict[str, Any]) -> object:
            return await function(**arguments)

        call: Callable[[dict[str, Any]], object] = call_async
    else:

        def call(arguments: dict[str, Any]) -> object:
            return function(**arguments)

    return AgentTool(
        name=name,
        description=str(description or function.__doc__ or f"Execute {name}").strip(),
        parameters={"type": "object", "properties": properties, "required": required},
        call=call,
    )


class _Use:
    """What ``tool_executor`` is given: the fields of Hive's ToolUse."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        self.id, self.name, self.input = f"call_{name}", name, given


def _table(module: types.ModuleType) -> list[AgentTool]:
    table, execute = getattr(module, "TOOLS", None), getattr(module, "tool_executor", None)
    if not isinstance(table, Mapping) or not callable(execute):
        return []
    found = []
    for name, told in table.items():

        def call(arguments: dict[str, Any], name: str = str(name)) -> object:
            return execute(_Use(name, arguments))

        found.append(
            AgentTool(
                name=str(name),
                description=str(_field(told, "description") or f"Execute {name}"),
                parameters=_schema(_field(told, "parameters")),
                call=call,
            )
        )
    return found


def _field(told: object, name: str) -> object:
    return told.get(name) if isinstance(told, Mapping) else getattr(told, name, None)


def _schema(told: object) -> dict[str, Any]:
    return dict(told) if isinstance(told, Mapping) else {"type": "object", "properties": {}}


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)
