"""A single llama.cpp loads, serves what was recorded, sleeps, wakes and asks for a key."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import openai
import pytest

from tests.servers.loading import LlamaCppLoading
from tests.servers.recordings import Call, check_same, read_transcript

LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
PATHS = (
    "/health",
    "/v1/health",
    "/props",
    "/v1/models",
    "/models",
    "/slots",
    "/metrics",
    "/lora-adapters",
    "/nope",
)
NOT_COPIED = {"/tools", "/completion", "/v1/embeddings", "/slots?fail_on_no_slot=1"}
"""What was recorded with the real one and this fake leaves out; and what changed once it had worked."""


@pytest.fixture
def server() -> Iterator[LlamaCppLoading]:
    with LlamaCppLoading() as running:
        yield running


def ask(
    server: LlamaCppLoading, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()
    finally:
        connection.close()


def first_of_each() -> list[Call]:
    """The recorded calls, each question once: the fake does not count what it worked."""
    calls: dict[tuple[str, str, str], Call] = {}
    for call in read_transcript("llamacpp"):
        if call.path not in NOT_COPIED and (call.method, call.path) != ("POST", "/lora-adapters"):
            calls.setdefault((call.method, call.path, str(call.body)), call)
    return list(calls.values())


@pytest.mark.parametrize("path", PATHS)
def test_while_it_loads_every_path_says_so(server: LlamaCppLoading, path: str) -> None:
    status, headers, text = ask(server, "GET", path)
    assert (status, headers["server"], json.loads(text)) == (503, "llama.cpp", LOADING)
    assert server.requests == [("GET", path)]


@pytest.mark.parametrize("call", first_of_each(), ids=lambda call: f"{call.method} {call.path}")
def test_once_loaded_it_answers_as_the_real_server_did(server: LlamaCppLoading, call: Call) -> None:
    server.finish()
    check_same(call, *ask(server, call.method, call.path, call.content))


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/props", "/v1/models", "/models", "/metrics"])
def test_a_quiet_question_does_not_wake(server: LlamaCppLoading, path: str) -> None:
    server.finish()
    server.sleep()
    assert ask(server, "GET", path)[0] == 200
    assert json.loads(ask(server, "GET", "/props")[2])["is_sleeping"] is True
    assert server.woken_by == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/slots"), ("GET", "/lora-adapters"), ("POST", "/tokenize"), ("POST", "/v1/chat/completions")],
)
def test_any_other_question_wakes(server: LlamaCppLoading, method: str, path: str) -> None:
    server.finish()
    server.sleep()
    assert ask(server, method, path, b"{}" if method == "POST" else None)[0] == 200
    assert server.woken_by == [f"{method} {path}"]
    assert json.loads(ask(server, "GET", "/props")[2])["is_sleeping"] is False


def test_waking_it_by_hand_is_not_a_question(server: LlamaCppLoading) -> None:
    server.finish()
    server.sleep()
    server.wake()
    assert json.loads(ask(server, "GET", "/props")[2])["is_sleeping"] is False
    assert server.woken_by == []


def test_a_key_is_needed_everywhere_but_at_health(server: LlamaCppLoading) -> None:
    server.finish()
    server.require_key("k")
    assert ask(server, "GET", "/health")[0] == ask(server, "GET", "/v1/health")[0] == 200
    for path in ("/props", "/v1/models", "/slots", "/nope"):
        status, headers, text = ask(server, "GET", path)
        assert (status, json.loads(text)["error"]["type"]) == (401, "authentication_error")
        assert headers["server"] == "llama.cpp"
        assert ask(server, "GET", path, Authorization="Bearer k")[0] == (404 if path == "/nope" else 200)
    server.require_key(None)
    assert ask(server, "GET", "/props")[0] == 200


def test_the_openai_library_meets_its_real_name_under_any_name(server: LlamaCppLoading) -> None:
    server.finish()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0) as client:
        assert [model.id for model in client.models.list()] == ["tiny-random"]
        whole = client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hello"}])
        assert whole.model == "tiny-random"
