"""What is written to the servers and read from them, by recorded lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived_client.agent.dialects import Broken, Ollama, OpenAi, Reader, dialect_of, said_error
from hived_client.agent.words import Reply, Request, ToolCall, Usage, tool_result
from tests.servers.recordings import recorded

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
HELLO = {"role": "user", "content": "Hello"}


def read(reader: Reader, text: str) -> Reply:
    for line in text.encode().split(b"\n"):
        reader.read(line)
    return reader.reply()


def events(*documents: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(each)}\n\n" for each in documents) + "data: [DONE]\n\n"


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def test_a_recorded_stream_of_vllm_is_read_with_its_count_of_tokens() -> None:
    reader = OpenAi().reader()
    found = read(reader, recorded("vllm", "POST", "/v1/chat/completions", 1).text)
    assert reader.done
    assert found.usage == Usage(prompt_tokens=12, completion_tokens=4)
    assert found.finish_reason == "length"
    assert found.model == "tiny-random"
    assert found.text.startswith("ater)")


def test_a_recorded_stream_of_ollama_is_read_with_its_count_of_tokens() -> None:
    reader = Ollama().reader()
    found = read(reader, recorded("ollama", "POST", "/api/chat", 1).text)
    assert reader.done
    assert found.text == "$at;"
    assert found.usage == Usage(prompt_tokens=15, completion_tokens=3)
    assert found.finish_reason == "length"


def test_a_call_that_comes_in_pieces_is_put_together_by_its_index() -> None:
    pieces = [
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"x"'}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "go", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
    ]
    found = read(OpenAi().reader(), events(*pieces))
    assert found.tool_calls == (
        ToolCall(id="a", name="look", arguments='{"x": 1}'),
        ToolCall(id="b", name="go", arguments="{}"),
    )


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_what_a_model_thinks_is_kept_apart_from_what_it_says(field: str) -> None:
    found = read(OpenAi().reader(), events(delta(**{field: "hm"}), delta(content="yes")))
    assert (found.reasoning, found.text) == ("hm", "yes")


def test_ollamas_call_has_an_object_for_arguments_and_says_stop_as_if_it_had_spoken() -> None:
    call = {"function": {"name": "look", "arguments": {"x": 1}}}
    lines = [
        {"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ]
    found = read(Ollama().reader(), "\n".join(map(json.dumps, lines)))
    assert [(c.name, json.loads(c.arguments)) for c in found.tool_calls] == [("look", {"x": 1})]
    assert found.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"error": {"message": "no memory"}}',
        b'data: {"error": "no memory"}',
        b"data: nonsense",
        b"data: 7",
    ],
)
def test_an_error_in_the_middle_of_a_stream_is_one_whatever_the_status_was(line: bytes) -> None:
    with pytest.raises(Broken):
        OpenAi().reader().read(line)


def test_an_error_in_a_line_of_ollamas_is_said_in_its_words() -> None:
    with pytest.raises(Broken, match="model runner has unexpectedly stopped"):
        Ollama().reader().read(b'{"error": "model runner has unexpectedly stopped"}')


def test_a_request_to_ollama_carries_its_context_and_length_as_options() -> None:
    body = Ollama().body("m", Request(messages=[HELLO], max_tokens=7, seed=1), {"num_ctx": 16384})
    assert body["options"] == {"num_ctx": 16384, "num_predict": 7, "seed": 1}
    assert body["stream"] is True


def test_a_request_in_openais_dialect_asks_for_the_count_of_tokens() -> None:
    body = OpenAi().body("m", Request(messages=[HELLO], tools=[TOOL], temperature=0.0), {})
    assert body["stream_options"] == {"include_usage": True}
    assert body["tools"] == [TOOL]
    assert body["temperature"] == 0.0
    assert "max_tokens" not in body


def test_a_conversation_with_calls_is_written_as_ollama_has_it() -> None:
    call = ToolCall(id="a", name="look", arguments='{"x": 1}')
    said = Reply(text="", tool_calls=(call,)).message()
    picture = {
        "role": "user",
        "content": [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        ],
    }
    body = Ollama().body("m", Request(messages=[picture, said, tool_result(call, "found")]), {})
    shown, asked, answered = body["messages"]
    assert shown == {"role": "user", "content": "see", "images": ["QUJD"]}
    assert asked["tool_calls"] == [{"function": {"name": "look", "arguments": {"x": 1}}}]
    assert answered == {"role": "tool", "content": "found", "tool_name": "look"}


@pytest.mark.parametrize("written", ['{"x": ', "", "[1]", '"x"', "null", "[" * 100_000, '{"a":' * 100_000])
def test_arguments_that_are_no_object_are_none_in_either_dialect(written: str) -> None:
    broken = {"id": "a", "type": "function", "function": {"name": "look", "arguments": written}}
    body = Ollama().body("m", Request(messages=[{"role": "assistant", "tool_calls": [broken]}]), {})
    assert body["messages"][0]["tool_calls"] == [{"function": {"name": "look", "arguments": {}}}]
    said = Reply(tool_calls=(ToolCall(id="a", name="look", arguments=written),)).message()
    assert said["tool_calls"][0]["function"]["arguments"] == "{}"


def test_only_what_has_no_v1_speaks_ollamas_own() -> None:
    assert isinstance(dialect_of("ollama_chat"), Ollama)
    assert all(isinstance(dialect_of(each), OpenAi) for each in ("openai", "hosted_vllm", "lm_studio"))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"error": "text"}, "text"),
        ({"error": {"message": "text", "code": 4}}, "text"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "a\x1b[31m\nb"}, "a [31m b"),
        ({"choices": []}, None),
        ([], None),
    ],
)
def test_an_error_is_read_in_every_shape_and_shown_as_one_plain_line(
    document: object, said: str | None
) -> None:
    assert said_error(document) == said


@given(st.lists(st.one_of(st.binary(max_size=60), st.just(b'data: {"choices": 3}'), st.just(b"data: [1]"))))
def test_no_line_breaks_a_reader(lines: list[bytes]) -> None:
    for reader in (OpenAi().reader(), Ollama().reader()):
        for line in lines:
            try:
                reader.read(line)
            except Broken:
                break
        assert isinstance(reader.reply(), Reply)


def test_calls_that_are_no_list_are_none() -> None:
    reader = Ollama().reader()
    reader.read(b'{"message": {"tool_calls": 5, "content": 7}, "done": true}')
    assert reader.reply() == Reply()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "tool_calls", "function", "index", "message", "usage", "arguments"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["choices", "message", "usage", "done", "model"]), json_values))
def test_no_shape_of_a_chunk_breaks_a_reader(chunk: dict[str, Any]) -> None:
    data = json.dumps(chunk).encode()
    for reader, line in ((OpenAi().reader(), b"data: " + data), (Ollama().reader(), data)):
        try:
            reader.read(line)
        except Broken:
            continue
        assert isinstance(reader.reply(), Reply)
