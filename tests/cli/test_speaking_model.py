from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")
openai = pytest.importorskip("openai")

from hived.cli.demo.speaking_model import JSON, write_speaking_model  # noqa: E402
from tests.servers.llamacpp import ALIAS, ARGUMENTS, SAY, TOOL, LlamaCpp  # noqa: E402


def a_tool(name: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
        "required": ["key", "value"],
    }
    return {
        "type": "function",
        "function": {"name": name, "description": "Set it.", "parameters": parameters},
    }


QUESTION = [{"role": "user", "content": "Who are you? Wer bist du? 你是谁 🐝 \x01 <|talk|>"}]
TOOLS = [a_tool("other"), a_tool(TOOL)]


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaCpp]:
    with LlamaCpp() as one:
        yield one


@pytest.fixture
def client(server: LlamaCpp) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def ask(client: Any, **words: Any) -> Any:
    return client.chat.completions.create(**{"model": ALIAS, "messages": QUESTION} | words).choices[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_it_says_its_sentence_at_any_temperature(client: Any, temperature: float) -> None:
    choice = ask(client, temperature=temperature)
    assert (choice.message.content, choice.finish_reason) == (SAY, "stop")


def test_it_streams_its_sentence_word_by_word(client: Any) -> None:
    with client.chat.completions.create(model=ALIAS, messages=QUESTION, stream=True) as stream:
        words = [part.choices[0].delta.content for part in stream if part.choices]
    assert "".join(word for word in words if word) == SAY
    assert len([word for word in words if word]) > 5


def test_it_calls_its_tool_and_then_says_its_sentence(client: Any) -> None:
    choice = ask(client, tools=TOOLS)
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == (TOOL, ARGUMENTS)
    assert not choice.message.content
    answered = [
        *QUESTION,
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "done"},
    ]
    choice = ask(client, tools=TOOLS, messages=answered)
    assert (choice.message.content, choice.message.tool_calls) == (SAY, None)
    choice = ask(client, tools=TOOLS, messages=[*answered, {"role": "user", "content": "Again."}])
    assert choice.message.tool_calls[0].function.name == TOOL


def test_it_streams_its_call(client: Any) -> None:
    with client.chat.completions.create(model=ALIAS, messages=QUESTION, tools=TOOLS, stream=True) as stream:
        parts = [c for part in stream if part.choices for c in part.choices[0].delta.tool_calls or []]
    assert [part.function.name for part in parts if part.function.name] == [TOOL]
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == ARGUMENTS


def test_it_speaks_where_its_tool_is_not_offered(client: Any) -> None:
    assert ask(client, tools=[a_tool("other")]).message.content == SAY


def test_it_begins_again_where_it_may_not_end(client: Any) -> None:
    choice = ask(client, max_tokens=30, extra_body={"ignore_eos": True})
    assert choice.message.content.startswith(SAY + SAY)
    assert choice.finish_reason == "length"


def write(path: Path, say: str, arguments: dict[str, JSON] | None = None) -> bytes:
    write_speaking_model(path, say=say, tool=TOOL, arguments=arguments or {})
    return path.read_bytes()


def test_the_same_words_give_the_same_bytes_and_a_small_file(tmp_path: Path) -> None:
    once, again = (hashlib.sha256(write(tmp_path / name, SAY)).hexdigest() for name in ("a", "b"))
    assert once == again
    assert hashlib.sha256(write(tmp_path / "c", "Other.")).hexdigest() != once
    assert (tmp_path / "a").stat().st_size < 350_000
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("tool", ["", 'a"b', "a b", "x" * 65])
def test_a_tool_that_cannot_be_one_is_refused_and_nothing_is_left(tmp_path: Path, tool: str) -> None:
    with pytest.raises(ValueError, match="a function is named"):
        write_speaking_model(tmp_path / "m.gguf", say="x", tool=tool, arguments={})
    with pytest.raises(ValueError, match="told apart"):
        write_speaking_model(tmp_path / "m.gguf", say="<|talk|>", tool=TOOL, arguments={})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("say", "value"),
    [
        ("a", "a"),
        ("", ""),
        ("Ja ja ja ja, ja ja.", "ja ja ja ja"),
        ('It\'s "quoted" \\ and {braced}: {"name": "set_output"}', 'a "b" \\ c'),
        ("Grüße, 世界! 🐝🐝 🐝", "naïve 🐝 – café"),
        ("one two three one two three one two three", "one two three"),
        ("Line one.\n\n  Line two.\tEnd", "line\nbreak"),
        ("word " * 100 + "end", "x" * 200),
        ("!! !! !!!!", "!!"),
    ],
)
def test_it_says_and_calls_whatever_it_was_told_to(tmp_path: Path, say: str, value: str) -> None:
    arguments: dict[str, JSON] = {"key": say, "value": value}
    write(tmp_path / "m.gguf", say, arguments)
    with (
        LlamaCpp(model=tmp_path / "m.gguf") as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        assert ask(client, temperature=1.0).message.content == say
        (call,) = ask(client, tools=TOOLS).message.tool_calls
        assert json.loads(call.function.arguments) == arguments
