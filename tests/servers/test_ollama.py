"""The fake Ollama answers what the real one was recorded to answer, and its vendor's client believes it."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from tests.servers.ollama import KEEP_ALIVE, Load, Ollama
from tests.servers.recordings import Call, read_transcript

HELLO = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}

# A clock, a dice or a model decides these, not the server.
TIMES = frozenset({"created_at", "modified_at", "expires_at"})
DYNAMIC = frozenset(
    {
        "completion_tokens",
        "content",
        "context",
        "eval_duration",
        "id",
        "load_duration",
        "prompt_eval_duration",
        "prompt_tokens",
        "response",
        "total_duration",
        "total_tokens",
    }
)
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z")


@pytest.fixture
def server() -> Iterator[Ollama]:
    with Ollama() as running:
        running.add("tiny")
        running.add("tools:7b", capabilities=("completion", "tools"))
        yield running


@pytest.fixture
def client(server: Ollama) -> Iterator[ollama.Client]:
    one = ollama.Client(host=server.url, timeout=60.0, trust_env=False)
    yield one
    one._client.close()


@pytest.fixture
def gpt(server: Ollama) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0) as one:
        yield one


def ask(
    server: Ollama, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()
    finally:
        connection.close()


def settled(value: object, key: str = "") -> object:
    """Copy a JSON value with what is dynamic replaced by its type."""
    if key in TIMES:
        assert isinstance(value, str)
        assert RFC3339.fullmatch(value), value
        return "<time>"
    if key in DYNAMIC and not (key == "id" and not str(value).startswith("chatcmpl-")):
        return f"<{type(value).__name__}>"
    if isinstance(value, dict):
        return {name: settled(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [settled(each, key) for each in value]
    return value


def values(text: str) -> list[object]:
    """Read the lines of a text: JSON, events, or just words."""
    found: list[object] = []
    for line in text.splitlines():
        word = line.removeprefix("data: ")
        found.append(json.loads(word) if word.startswith("{") else line)
    return found


def check_same(call: Call, status: int, headers: dict[str, str], text: str) -> None:
    where = f"{call.method} {call.path} {call.body}"
    assert status == call.status, where
    told, meant = values(text), values(call.text)
    assert repr(list(map(settled, told, [""] * len(told)))) == repr(
        list(map(settled, meant, [""] * len(meant)))
    ), where
    fixed = told == [settled(each) for each in told]
    assert list(headers) == list(call.headers), where
    for name, value in headers.items():
        if name != "content-length" or fixed:
            assert value == call.headers[name], f"{where}: {name}"
    if fixed:
        assert text == call.text, where


def test_every_recorded_call_is_answered_as_the_real_server_answered_it() -> None:
    calls = read_transcript("ollama")
    assert len(calls) == 37
    with Ollama(version="0.0.0") as server:
        for call in calls:
            at = parsedate_to_datetime(call.headers["date"]).timestamp()
            server.clock = lambda at=at: at + 0.25  # type: ignore[misc]
            check_same(call, *ask(server, call.method, call.path, call.body))
        assert server.requests == [(call.method, call.path) for call in calls]
        assert server.loads == [
            Load("tiny:latest", "POST /api/generate"),
            Load("tiny-b:v2", "POST /api/generate"),
            Load("tiny-lora:latest", "POST /api/generate"),  # in the place of tiny, whose weights it has
            Load("tiny:latest", "POST /api/embed"),
        ]


def test_no_path_of_a_real_machine_is_in_the_transcript() -> None:
    for call in read_transcript("ollama"):
        assert not any(part in call.text for part in ("/home/", "/root/", "/tmp/", "/Users/"))


def test_the_vendors_client_lists_models_and_their_facts(client: ollama.Client, server: Ollama) -> None:
    listed = client.list().models
    assert [model.model for model in listed] == ["tiny:latest", "tools:7b"]
    assert listed[0].details is not None
    assert listed[0].details.parameter_size == "138K"
    shown = client.show("TINY")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 2048
    with pytest.raises(ollama.ResponseError, match="model 'nope:latest' not found") as missing:
        client.show("nope")
    assert missing.value.status_code == 404
    assert server.loads == []


def test_the_vendors_client_loads_chats_and_unloads(client: ollama.Client, server: Ollama) -> None:
    assert client.ps().models == []
    whole = client.chat("tiny", HELLO, options={"num_predict": 3})
    assert whole.message.content
    assert (whole.done_reason, whole.eval_count) == ("length", 3)
    pieces = [piece.message.content or "" for piece in client.chat("tiny", HELLO, stream=True)]
    assert "".join(pieces)
    running = client.ps().models[0]
    assert (running.model, running.context_length, running.size_vram) == ("tiny:latest", 512, 0)
    assert client.generate("tiny", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert server.loads == [Load("tiny:latest", "POST /api/chat")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_with_tools_calls_one_and_another_does_not(client: ollama.Client, stream: bool) -> None:
    chat: Any = client.chat
    asked = chat("tools:7b", HELLO, tools=[TOOL], stream=stream)
    answers = list(asked) if stream else [asked]
    calls = [call for answer in answers for call in answer.message.tool_calls or ()]
    assert [(call.function.name, dict(call.function.arguments)) for call in calls] == [
        ("look", {"at": "hive"})
    ]
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        client.chat("tiny", HELLO, tools=[TOOL])


def test_a_pull_tells_its_progress_and_brings_the_model(client: ollama.Client, server: Ollama) -> None:
    server.publish("new:1b", size=1000)
    told = list(client.pull("new:1b", stream=True))
    assert [each.completed for each in told if each.completed] == [250, 500, 750, 1000]
    assert (told[0].status, told[-1].status) == ("pulling manifest", "success")
    assert "new:1b" in [model.model for model in client.list().models]


def test_a_pull_that_fails_says_so_inside_a_stream_that_began_well(server: Ollama) -> None:
    server.publish("broken", size=1000)
    server.fail_pull("broken", "write: no space left on device")
    for name, why in (("nope", "file does not exist"), ("broken", "no space left on device")):
        status, _, text = ask(server, "POST", "/api/pull", {"model": name})
        assert status == 200
        assert why in json.loads(text.splitlines()[-1])["error"]
    assert ask(server, "POST", "/api/pull", {"model": "nope", "stream": False})[0] == 500


def test_openais_client_lists_chats_and_calls(gpt: openai.OpenAI, server: Ollama) -> None:
    assert [(each.id, each.owned_by) for each in gpt.models.list()] == [
        ("tiny:latest", "library"),
        ("tools:7b", "library"),
    ]
    messages: Any = HELLO
    tools: Any = [TOOL]
    answer = gpt.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    called = gpt.chat.completions.create(model="tools:7b", messages=messages, tools=tools)
    assert called.choices[0].message.tool_calls is not None
    assert called.choices[0].finish_reason == "tool_calls"
    chunks = list(gpt.chat.completions.create(model="tools:7b", messages=messages, tools=tools, stream=True))
    assert chunks[0].choices[0].delta.tool_calls is not None
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        gpt.chat.completions.create(model="nope", messages=messages)


def listed(server: Ollama, name: str) -> dict[str, Any]:
    """Return a model as the list has it, in which the newest by whole seconds comes first."""
    models = json.loads(ask(server, "GET", "/api/tags")[2])["models"]
    (found,) = (each for each in models if each["name"] == name)
    return dict(found)


def test_a_cloud_model_names_its_host_and_is_never_loaded(client: ollama.Client, server: Ollama) -> None:
    server.add("big:cloud", remote=("https://ollama.com:443", "big"), size=400)
    entry = listed(server, "big:cloud")
    assert (entry["remote_host"], entry["remote_model"]) == ("https://ollama.com:443", "big")
    client.chat("big:cloud", HELLO)
    assert server.loads == []
    assert client.ps().models == []


def test_a_list_from_before_0_30_lacks_what_came_then(server: Ollama) -> None:
    server.add("old", old=True)
    entry = listed(server, "old:latest")
    assert "capabilities" not in entry
    assert "context_length" not in entry["details"]


def test_a_killed_runner_is_listed_until_a_request_loads_it_again(
    client: ollama.Client, server: Ollama
) -> None:
    server.load("tiny", size=100, size_vram=60, context_length=4096)
    server.kill_runner("tiny")
    running = client.ps().models[0]
    assert (running.size, running.size_vram, running.context_length) == (100, 60, 4096)
    client.chat("tiny", HELLO)
    assert server.loads == [Load("tiny:latest", "test"), Load("tiny:latest", "POST /api/chat")]


def test_what_runs_longest_is_listed_first_and_forever_is_far_away(server: Ollama) -> None:
    server.clock = lambda: 1_000_000.0
    server.load("tiny")
    ask(server, "POST", "/api/generate", {"model": "tools:7b", "keep_alive": -1})
    first, second = json.loads(ask(server, "GET", "/api/ps")[2])["models"]
    assert (first["name"], first["expires_at"][:4]) == ("tools:7b", "2262")
    assert second["expires_at"] == f"1970-01-12T13:{46 + int(KEEP_ALIVE / 60)}:40Z"


@pytest.mark.parametrize(("keep_alive", "status"), [("10m", 200), ("1h30m", 200), (5, 200), ("5", 400)])
def test_keep_alive_is_seconds_or_a_duration_of_go(server: Ollama, keep_alive: object, status: int) -> None:
    body = {"model": "tiny", "keep_alive": keep_alive}
    assert ask(server, "POST", "/api/generate", body)[0] == status


def test_a_server_that_starts_accepts_and_answers_only_later() -> None:
    with Ollama(starting=True) as server, socket.create_connection(("127.0.0.1", server.port), 60.0) as one:
        one.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        one.settimeout(0.05)
        with pytest.raises(TimeoutError):
            one.recv(1)
        server.finish_start()
        one.settimeout(60)
        assert one.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_server_that_starts_can_be_got_rid_of() -> None:
    with Ollama(starting=True) as server, socket.create_connection(("127.0.0.1", server.port), 60.0) as one:
        one.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert server.requests == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:11434"}, 200),
        ({"Host": "192.168.1.7"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "box.internal"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "8.8.8.8"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
)
def test_a_foreign_host_or_origin_is_refused_without_a_word(
    server: Ollama, headers: dict[str, str], status: int
) -> None:
    told = ask(server, "GET", "/api/version", None, **headers)
    assert told[0] == status
    assert (told[2] == "") is (status == 403)


def test_the_folder_on_disk_is_what_the_server_lists(tmp_path: Path) -> None:
    with Ollama(folder=tmp_path) as server:
        for name in ("tiny", "user/m:q4", "hf.co/Org/Repo:Q4_K_M"):
            server.add(name)
        tags = json.loads(ask(server, "GET", "/api/tags")[2])["models"]
        paths = (
            "registry.ollama.ai/library/tiny/latest",
            "registry.ollama.ai/user/m/q4",
            "hf.co/Org/Repo/Q4_K_M",
        )
        for entry, path in zip(tags, paths, strict=True):
            manifest = (tmp_path / "manifests" / path).read_bytes()
            assert sha256(manifest).hexdigest() == entry["digest"]
            told = json.loads(manifest)
            parts = [told["config"], *told["layers"]]
            assert sum(part["size"] for part in parts) == entry["size"]
            for part in parts:
                blob = tmp_path / "blobs" / part["digest"].replace(":", "-")
                assert blob.stat().st_size == part["size"]
        for name in ("tiny", "user/m:q4", "hf.co/Org/Repo:Q4_K_M"):
            server.remove(name)
        assert list((tmp_path / "blobs").iterdir()) == []
        assert list((tmp_path / "manifests").rglob("*/")) == []


@pytest.mark.parametrize(("path", "status"), [("/api/status", 200), ("/nope", 404), ("/api/show", 405)])
def test_a_path_is_known_or_not(server: Ollama, path: str, status: int) -> None:
    assert ask(server, "GET", path)[0] == status
    with Ollama(status=False) as older:
        assert ask(older, "GET", path)[0] == (404 if path == "/api/status" else status)


@pytest.mark.parametrize(("body", "why"), [([], "unmarshal"), ({"model": ""}, "model is required")])
def test_a_question_that_is_none_is_refused(server: Ollama, body: object, why: str) -> None:
    status, _, text = ask(server, "POST", "/api/pull", body)
    assert status == 400
    assert why in json.loads(text)["error"]
