"""One step: outputs by a tool call, one reminder, and nothing made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hived_client.agent.folder import Agent, Goal, Node
from hived_client.agent.steps import Done, opening, run_step
from hived_client.agent.tools import AgentTool
from hived_client.agent.words import Reply, Request, ToolCall

pytestmark = pytest.mark.anyio


def says(text: str) -> Reply:
    return Reply(text=text, finish_reason="stop")


def calls(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=(ToolCall(id="1", name=name, arguments=json.dumps(arguments)),))


class Model:
    """Answers in turn, and keeps what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Reply:
        self.asked.append(Request(messages=list(request.messages), tools=request.tools))
        return self.replies.pop(0)


ECHO = AgentTool(name="echo", description="", parameters={"type": "object"}, call=lambda given: given)


async def step(model: Model, node: Node, **more: Any) -> Done:
    agent = Agent(name="a", folder="/", nodes=(node,), entry=node.id, **more)
    return await run_step(agent, node, {"query": "Hi"}, {"echo": ECHO}, model)


async def test_a_step_without_outputs_ends_with_what_was_said() -> None:
    done = await step(Model(says("Hello")), Node(id="n"))
    assert (done.outputs, done.problem) == ({"response": "Hello"}, None)


async def test_outputs_come_by_a_call_and_end_the_step() -> None:
    model = Model(calls("set_output", key="answer", value="42"))
    done = await step(model, Node(id="n", output_keys=("answer",)))
    assert (done.outputs, done.turns, done.repaired) == ({"answer": "42"}, 1, False)
    offered = [tool["function"]["name"] for tool in model.asked[0].tools]
    assert offered == ["set_output"]


async def test_a_model_that_only_talks_is_reminded_once() -> None:
    model = Model(says("It is 42"), calls("set_output", key="answer", value="42"))
    done = await step(model, Node(id="n", output_keys=("answer",)))
    assert (done.outputs, done.repaired, done.problem) == ({"answer": "42"}, True, None)
    assert "set_output for answer" in model.asked[1].messages[-1]["content"]


async def test_one_that_goes_on_talking_has_failed_and_nothing_is_made_up() -> None:
    done = await step(Model(says("42"), says("42")), Node(id="n", output_keys=("answer",)))
    assert done.problem is not None
    assert done.problem.code == "agent.no_output"
    assert done.outputs == {}


async def test_an_output_that_may_be_missing_may_be_missing() -> None:
    model = Model(calls("set_output", key="a", value="1"))
    done = await step(model, Node(id="n", output_keys=("a", "b"), nullable_output_keys=("b",)))
    assert (done.outputs, done.problem) == ({"a": "1"}, None)


async def test_where_every_output_may_be_missing_a_tools_result_is_shown_all_the_same() -> None:
    model = Model(calls("echo", x=1), calls("set_output", key="a", value="1"))
    node = Node(id="n", tools=("echo",), output_keys=("a",), nullable_output_keys=("a",))
    done = await step(model, node)
    assert (done.outputs, done.turns) == ({"a": "1"}, 2)
    assert (await step(Model(says("nothing")), node)).outputs == {}


async def test_a_tool_is_called_and_its_result_goes_back_to_the_model() -> None:
    model = Model(calls("echo", x=1), says("done"))
    await step(model, Node(id="n", tools=("echo",)))
    assert model.asked[1].messages[-1] == {
        "role": "tool",
        "tool_call_id": "1",
        "name": "echo",
        "content": '{"x":1}',
    }


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (calls("rm"), "There is no tool 'rm'"),
        (calls("set_output", key="z", value=1), "There is no output 'z'"),
        (calls("set_output", key="answer"), "Give both"),
        (Reply(tool_calls=(ToolCall(id="1", name="set_output", arguments="{"),)), "not JSON"),
        (Reply(tool_calls=(ToolCall(id="1", name="set_output", arguments="[" * 100_000),)), "not JSON"),
        (Reply(tool_calls=(ToolCall(id="1", name="set_output", arguments="[]"),)), "not an object"),
    ],
)
async def test_a_wrong_call_is_told_to_the_model(reply: Reply, told: str) -> None:
    model = Model(reply, calls("set_output", key="answer", value="42"))
    done = await step(model, Node(id="n", output_keys=("answer",)))
    assert done.outputs == {"answer": "42"}
    assert told in model.asked[1].messages[-1]["content"]


async def test_a_model_that_never_ends_is_ended() -> None:
    node = Node(id="n", tools=("echo",))
    done = await step(Model(*[calls("echo")] * 3), node, max_iterations=3)
    assert done.problem is not None
    assert done.problem.code == "agent.endless"


async def test_what_the_step_is_told_holds_its_prompt_its_goal_and_its_inputs(
    said: Callable[[Agent, Node, dict[str, Any]], tuple[str, str]],
) -> None:
    node = Node(id="n", system_prompt="You greet.", input_keys=("name",), output_keys=("greeting",))
    goal = Goal(description="Greet", success_criteria=("friendly",), constraints=("brief",))
    agent = Agent(name="a", folder="/", nodes=(node,), entry="n", goal=goal, identity="You are Bee.")
    system, user = said(agent, node, {"name": {"first": "Ada"}, "secret": "x"})
    assert system.startswith("You are Bee.\n\nYou greet.\n\nGoal: Greet")
    assert "- friendly" in system
    assert "- brief" in system
    assert "greeting" in system
    assert user == 'name: {"first":"Ada"}'


@pytest.fixture
def said() -> Callable[[Agent, Node, dict[str, Any]], tuple[str, str]]:
    def texts(agent: Agent, node: Node, memory: dict[str, Any]) -> tuple[str, str]:
        system, user = opening(agent, node, memory)
        return system["content"], user["content"]

    return texts


@pytest.mark.parametrize("given", ["a\udcffb", ["a\udcffb"]])
def test_half_a_character_in_what_a_step_is_given_is_written_as_its_number(given: object) -> None:
    agent = Agent(name="a", folder="/", nodes=(), entry="", identity="I\ud800")
    said = [each["content"] for each in opening(agent, Node(id="n"), {"query": given})]
    assert "I\\ud800" in said[0]
    assert "a\\udcffb" in said[1]
    assert "".join(said).isascii()
