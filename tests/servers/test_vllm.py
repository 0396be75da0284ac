"""The fake vLLM answers what the real one was recorded to answer, and lies where the real one lies."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator

import openai
import pytest

from tests.servers.recordings import Call, read_transcript, settled
from tests.servers.vllm import GUARDED, Vllm

HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def server() -> Iterator[Vllm]:
    with Vllm() as running:
        yield running


def ask(
    server: Vllm, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()
    finally:
        connection.close()


def gauges(server: Vllm, name: str) -> list[str]:
    text = ask(server, "GET", "/metrics")[2]
    return [line for line in text.splitlines() if line.startswith(f"vllm:{name}")]


def comparable(text: str) -> list[str]:
    """A body without what a clock, a dice or the model's own words decide."""
    text = re.sub(r'"(?:modelperm|chatcmpl|cmpl)-\w+"', '"<id>"', text)
    values: list[object] = []
    for line in text.splitlines():
        payload = line.removeprefix("data: ")
        values.append(json.loads(payload) if payload.startswith("{") else line)
    return [repr(settled(value, "")) for value in map(_without_text, values)]


def _without_text(value: object) -> object:
    if isinstance(value, dict):
        return {key: "<text>" if key == "text" else _without_text(each) for key, each in value.items()}
    return [_without_text(each) for each in value] if isinstance(value, list) else value


def check(call: Call, status: int, headers: dict[str, str], text: str) -> None:
    where = f"{call.method} {call.path}"
    assert status == call.status, where
    assert list(headers) == list(call.headers), where
    fixed = [name for name in headers if name not in ("date", "content-length")]
    assert [headers[name] for name in fixed] == [call.headers[name] for name in fixed], where
    if "content-length" in headers and call.method != "HEAD":
        assert int(headers["content-length"]) == len(text.encode()), where
    assert comparable(text) == comparable(call.text), where
    if call.path in ("/metrics", "/health", "/version", "/load", "/api/tags") or status >= 400:
        assert text == call.text, where


def test_every_recorded_call_is_answered_as_the_real_server_answered_it(server: Vllm) -> None:
    calls = read_transcript("vllm")
    assert len(calls) == 23
    for call in calls:
        check(call, *ask(server, call.method, call.path, call.body))
    assert server.requests == [(call.method, call.path) for call in calls]


def test_no_path_of_a_real_machine_is_in_the_transcript() -> None:
    for call in read_transcript("vllm"):
        assert not any(part in call.text for part in ("/home/", "/root/", "/tmp/", "/Users/"))


def test_it_refuses_while_it_starts_although_the_port_is_taken() -> None:
    with Vllm(starting=True) as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=60.0)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))
        server.finish_start()
        assert ask(server, "GET", "/health")[0] == 200


def test_a_stopped_engine_is_healthy_and_answers_nothing(server: Vllm) -> None:
    server.stop_engine()
    for path in ("/health", "/v1/models", "/metrics"):
        assert ask(server, "GET", path)[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=0.1)
    body = json.dumps({"model": "tiny-random", "messages": HELLO})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    server.continue_engine()
    assert ask(server, "POST", "/v1/chat/completions", {"messages": HELLO})[0] == 200


def test_a_killed_engine_is_seen_at_health_only_until_the_process_goes(server: Vllm) -> None:
    server.kill_engine()
    assert ask(server, "GET", "/health")[::2] == (503, "")
    assert ask(server, "GET", "/v1/models")[0] == ask(server, "GET", "/metrics")[0] == 200
    assert ask(server, "POST", "/v1/chat/completions", {"messages": HELLO})[0] == 500
    server.exit_process()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "GET", "/health")


def test_the_key_guards_what_begins_with_v1_and_nothing_else(server: Vllm) -> None:
    server.require_key("k")
    status, headers, text = ask(server, "GET", "/v1/models")
    assert (status, headers["content-type"], text) == (401, "application/json", '{"error":"Unauthorized"}')
    assert ask(server, "GET", "/v1/nope")[0] == ask(server, "POST", "/v1/chat/completions", {})[0] == 401
    assert ask(server, "GET", "/v1/models", Authorization="Bearer k")[0] == 200
    for path in ("/health", "/version", "/metrics", "/load"):
        assert not path.startswith(GUARDED)
        assert ask(server, "GET", path)[0] == 200


def test_load_and_sleep_are_shown_by_the_metrics(server: Vllm) -> None:
    labels = '{engine="0",model_name="tiny-random"}'
    assert gauges(server, "num_requests_running") == [f"vllm:num_requests_running{labels} 0.0"]
    server.running, server.waiting, server.kv_cache_usage = 3, 2, 0.25
    assert gauges(server, "num_requests_running") == [f"vllm:num_requests_running{labels} 3.0"]
    assert gauges(server, "num_requests_waiting{") == [f"vllm:num_requests_waiting{labels} 2.0"]
    assert gauges(server, "kv_cache") == [f"vllm:kv_cache_usage_perc{labels} 0.25"]
    for level, state in enumerate(("awake", "weights_offloaded", "discard_all")):
        server.sleep(level)
        awake = [line for line in gauges(server, "engine_sleep_state{") if line.endswith(" 1.0")]
        assert len(awake) == 1
        assert f'sleep_state="{state}"' in awake[0]
    server.log_stats = False
    assert "vllm:" not in ask(server, "GET", "/metrics")[2]
    assert "python_info" in ask(server, "GET", "/metrics")[2]


def test_what_is_for_developers_is_not_there_by_default(server: Vllm) -> None:
    for method, path in (("GET", "/is_sleeping"), ("POST", "/sleep"), ("POST", "/wake_up")):
        assert ask(server, method, path)[::2] == (404, '{"detail":"Not Found"}')
    server.dev_mode = True
    assert ask(server, "POST", "/sleep?level=2")[0] == 200
    assert ask(server, "GET", "/is_sleeping")[2] == '{"is_sleeping":true}'
    assert ask(server, "POST", "/v1/chat/completions", {"messages": HELLO})[0] == 200
    assert server.woken_by == ["POST /v1/chat/completions"]


@pytest.mark.parametrize(
    ("body", "status", "said", "param"),
    [
        ({"model": "nope"}, 404, "The model `nope` does not exist.", "model"),
        ({"messages": HELLO, "tools": [TOOL]}, 400, "--enable-auto-tool-choice", None),
        (
            {"messages": [{"content": "w " * 600}]},
            400,
            "maximum context length is 512 tokens",
            "input_tokens",
        ),
        ({"messages": HELLO, "max_tokens": 513}, 400, "cannot be greater than max_model_len", "max_tokens"),
    ],
)
def test_a_wrong_completion_is_refused(
    server: Vllm, body: object, status: int, said: str, param: str | None
) -> None:
    answered, _, text = ask(server, "POST", "/v1/chat/completions", body)
    error = json.loads(text)["error"]
    assert (answered, error["code"], error["param"]) == (status, status, param)
    assert said in error["message"]


def test_several_names_are_several_entries_and_an_adapter_has_a_parent() -> None:
    with Vllm(("a", "b"), root="org/base", max_model_len=4096) as server:
        server.add_adapter("sql", "/adapters/sql")
        listed = json.loads(ask(server, "GET", "/v1/models")[2])["data"]
        shown = [(each["id"], each["root"], each["parent"], each["max_model_len"]) for each in listed]
        assert shown == [
            ("a", "org/base", None, 4096),
            ("b", "org/base", None, 4096),
            ("sql", "/adapters/sql", "a", None),
        ]
        server.remove_adapter("sql")
        assert len(json.loads(ask(server, "GET", "/v1/models")[2])["data"]) == 2


def test_a_base_model_answers_in_its_first_name_and_an_adapter_in_its_own() -> None:
    with Vllm(("a", "b")) as server:
        server.add_adapter("sql", "/adapters/sql")
        for asked, answered in (("a", "a"), ("b", "a"), ("sql", "sql")):
            body = {"model": asked, "messages": HELLO, "max_tokens": 1}
            for path in ("/v1/chat/completions", "/v1/completions"):
                assert json.loads(ask(server, "POST", path, body)[2])["model"] == answered
            stream = ask(server, "POST", "/v1/chat/completions", body | {"stream": True})[2]
            assert f'"model":"{answered}"' in stream


def test_text_can_be_counted(server: Vllm) -> None:
    told = json.loads(ask(server, "POST", "/tokenize", {"prompt": "one two three"})[2])
    assert (told["count"], told["max_model_len"], told["tokens"]) == (3, 512, [1, 2, 3])


def test_the_openai_library_lists_chats_and_is_refused(server: Vllm) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0) as client:
        assert [model.id for model in client.models.list()] == ["tiny-random"]
        whole = client.chat.completions.create(
            model="tiny-random", messages=[{"role": "user", "content": "hello"}], max_tokens=3
        )
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("Hello hi", "length")
        stream = client.chat.completions.create(
            model="tiny-random",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello hi"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.completions.create(model="nope", prompt="x")
        server.require_key("k")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
