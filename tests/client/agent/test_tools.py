"""An agent's own functions: found as Hive finds them, called whatever the model wrote."""

from __future__ import annotations

import contextvars
import json
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from hived_client.agent.folder import AgentUnusable
from hived_client.agent.tools import AgentTool, call_tool, read_tools

pytestmark = pytest.mark.anyio

MARKED = """
def tool(description):
    def mark(function):
        function._tool_metadata = {"name": function.__name__, "description": description}
        return function
    return mark

@tool("Add two numbers")
def add(a: int, b: int = 1) -> dict:
    return {"sum": a + b}

@tool("Wait, then speak")
async def speak(words: list[str]) -> str:
    return " ".join(words)

@tool("Fail")
def fail():
    raise ValueError("no")

def not_a_tool(): ...
"""

TABLE = """
class Tool:
    def __init__(self, **fields): self.__dict__.update(fields)

class Result:
    content = '{"found": 1}'

PARAMETERS = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOLS = {"look": Tool(name="look", description="Look", parameters=PARAMETERS)}

def tool_executor(use):
    assert (use.name, use.input) == ("look", {"x": "y"})
    return Result()
"""


def folder(tmp_path: Path, text: str) -> str:
    (tmp_path / "tools.py").write_text(text)
    return str(tmp_path)


async def test_marked_functions_are_offered_by_their_signature(tmp_path: Path) -> None:
    tools = read_tools(folder(tmp_path, MARKED))
    assert sorted(tools) == ["add", "fail", "speak"]
    offered = tools["add"].offer()["function"]
    assert offered["description"] == "Add two numbers"
    assert offered["parameters"] == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a"],
    }
    assert tools["speak"].parameters["properties"] == {"words": {"type": "array"}}


async def test_they_are_called_blocking_or_not(tmp_path: Path) -> None:
    tools = read_tools(folder(tmp_path, MARKED))
    assert json.loads(await call_tool(tools["add"], '{"a": 2}')) == {"sum": 3}
    assert await call_tool(tools["speak"], '{"words": ["a", "b"]}') == "a b"


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"z": 1}', "null", "[" * 100_000, '{"a":' * 100_000])
async def test_what_the_model_wrote_wrongly_is_told_to_it(tmp_path: Path, arguments: str) -> None:
    tools = read_tools(folder(tmp_path, MARKED))
    assert "error" in json.loads(await call_tool(tools["add"], arguments))


async def test_a_function_that_fails_tells_the_model_why(tmp_path: Path) -> None:
    tools = read_tools(folder(tmp_path, MARKED))
    assert json.loads(await call_tool(tools["fail"], "{}")) == {"error": "ValueError: no"}


@pytest.mark.parametrize("end", ["raise SystemExit(2)", "import sys; sys.exit('bye')"])
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_function_that_would_end_the_process_only_fails(tmp_path: Path, kind: str, end: str) -> None:
    text = f"{kind} leave():\n    {end}\nleave._tool_metadata = {{}}\n"
    tools = read_tools(folder(tmp_path, text))
    assert "SystemExit" in json.loads(await call_tool(tools["leave"], "{}"))["error"]


async def test_a_file_that_would_end_the_process_is_said(tmp_path: Path) -> None:
    with pytest.raises(AgentUnusable, match="SystemExit"):
        read_tools(folder(tmp_path, "raise SystemExit(1)"))


@pytest.mark.parametrize("kind", ["blocking", "async"])
async def test_a_function_that_hangs_is_left_after_a_while(kind: str) -> None:
    let_go = threading.Event()

    async def wait(given: dict[str, object]) -> None:
        await anyio.sleep_forever()

    call = wait if kind == "async" else lambda given: let_go.wait()
    hanging = AgentTool(name="hang", description="", parameters={}, call=call)
    assert json.loads(await call_tool(hanging, "{}", 0.05)) == {"error": "it took longer than 0.05 s"}
    let_go.set()


def test_a_function_that_hangs_does_not_keep_the_process(anyio_backend: str) -> None:
    program = (
        "import anyio, functools, sys, threading\n"
        "from hived_client.agent.tools import AgentTool, call_tool\n"
        "def hang(given):\n    threading.Event().wait()\n"
        "tool = AgentTool(name='x', description='', parameters={}, call=hang)\n"
        "print(anyio.run(functools.partial(call_tool, tool, '{}', 0.05), backend=sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, anyio_backend], timeout=120, check=True, capture_output=True
    )
    assert b"longer than" in done.stdout


async def test_a_result_that_holds_itself_is_told_as_text() -> None:
    ring: list[object] = []
    ring.append(ring)
    tool = AgentTool(name="ring", description="", parameters={}, call=lambda given: ring)
    assert await call_tool(tool, "{}") == "[[...]]"


async def test_a_blocking_function_sees_the_callers_context_and_no_event_loop() -> None:
    asked: contextvars.ContextVar[str] = contextvars.ContextVar("asked")
    asked.set("by me")

    async def inner() -> str:
        return asked.get()

    tool = AgentTool(name="t", description="", parameters={}, call=lambda given: anyio.run(inner))
    assert await call_tool(tool, "{}") == "by me"


async def test_a_table_with_one_executor_is_taken_by_its_shape(tmp_path: Path) -> None:
    tools = read_tools(folder(tmp_path, TABLE))
    assert tools["look"].offer()["function"]["parameters"]["properties"] == {"x": {"type": "string"}}
    assert await call_tool(tools["look"], '{"x": "y"}') == '{"found": 1}'


async def test_a_file_that_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(AgentUnusable, match="ModuleNotFoundError"):
        read_tools(folder(tmp_path, "import no_such_module"))


async def test_no_file_is_no_tools(tmp_path: Path) -> None:
    assert read_tools(str(tmp_path)) == {}


@pytest.mark.parametrize("content", ["a\udcffb", ["a\udcffb"]])
async def test_half_a_character_in_a_result_is_written_as_its_number(content: object) -> None:
    tool = AgentTool(name="t", description="", parameters={}, call=lambda given: content)
    said = await call_tool(tool, "{}")
    assert "a\\udcffb" in said
    assert said.isascii()
