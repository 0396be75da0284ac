"""The fake LM Studio keeps to what is documented of the real one, and satisfies its clients."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import lmstudio
import openai
import pytest

from tests.servers.lm_studio import EMBEDDER, GEMMA, QWEN, LmStudio

HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[LmStudio]:
    with LmStudio() as running:
        yield running


def ask(
    server: LmStudio, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()
    finally:
        connection.close()


def ids(server: LmStudio, path: str) -> list[str]:
    return [each["id"] for each in json.loads(ask(server, "GET", path)[2])["data"]]


@pytest.mark.parametrize("path", ["/nope", "/health", "/api/tags", "/version", "/"])
def test_a_path_that_it_does_not_know_is_200_with_an_error(server: LmStudio, path: str) -> None:
    status, headers, text = ask(server, "GET", path)
    assert (status, headers["x-powered-by"]) == (200, "Express")
    assert text == f'{{"error":"Unexpected endpoint or method. (GET {path})"}}'
    assert json.loads(ask(server, "POST", "/lmstudio-greeting", {})[2])["error"].startswith("Unexpected")


@pytest.mark.parametrize(
    ("level", "known"),
    [
        ("v1", {"/api/v1/models", "/api/v0/models", "/v1/models"}),
        ("v0", {"/api/v0/models", "/v1/models"}),
        ("openai", {"/v1/models"}),
    ],
)
def test_each_level_has_its_own_lists_and_the_older_ones(level: str, known: set[str]) -> None:
    with LmStudio(level=level) as server:  # type: ignore[arg-type]
        assert ask(server, "GET", "/lmstudio-greeting")[2] == '{"lmstudio":true}'
        paths = ("/api/v1/models", "/api/v0/models", "/v1/models")
        assert {path for path in paths if "error" not in json.loads(ask(server, "GET", path)[2])} == known


def test_the_own_list_tells_what_is_loaded_and_how(server: LmStudio) -> None:
    server.load(GEMMA, context=8192)
    server.load(GEMMA, context=16384)
    gemma, qwen, embedder = json.loads(ask(server, "GET", "/api/v1/models")[2])["models"]
    told = [(each["id"], each["config"]["context_length"]) for each in gemma["loaded_instances"]]
    assert told == [(GEMMA, 8192), (f"{GEMMA}:2", 16384)]
    assert (qwen["loaded_instances"], qwen["quantization"]["name"]) == ([], "Q4_K_M")
    assert (embedder["type"], embedder.get("capabilities")) == ("embedding", None)
    server.unload(GEMMA)
    server.unload(f"{GEMMA}:2")
    assert json.loads(ask(server, "GET", "/api/v1/models")[2])["models"][0]["loaded_instances"] == []


def test_without_just_in_time_loading_the_older_lists_have_what_is_loaded() -> None:
    with LmStudio(jit=False) as server:
        assert ids(server, "/v1/models") == ids(server, "/api/v0/models") == []
        status, _, text = ask(server, "POST", "/v1/chat/completions", {"model": QWEN, "messages": HELLO})
        assert (status, json.loads(text)["error"]["param"]) == (404, "model")
        server.load(GEMMA)
        assert ids(server, "/v1/models") == ids(server, "/api/v0/models") == [GEMMA]
        # Whatever is asked for, the only model that is loaded answers.
        assert ask(server, "POST", "/v1/chat/completions", {"model": QWEN, "messages": HELLO})[0] == 200
        assert server.loads == [(GEMMA, "test")]


def test_a_chat_loads_its_model_and_no_list_does(server: LmStudio) -> None:
    for path in ("/api/v1/models", "/api/v0/models", "/v1/models"):
        ask(server, "GET", path)
    assert server.loads == []
    assert ids(server, "/v1/models") == [GEMMA, QWEN, EMBEDDER]
    ask(server, "POST", "/v1/chat/completions", {"model": QWEN, "messages": HELLO})
    assert server.loads == [(QWEN, "POST /v1/chat/completions")]


def test_a_context_that_is_too_small_is_an_error_inside_200(server: LmStudio) -> None:
    server.load(QWEN, context=4)
    asked = {"model": QWEN, "messages": [{"role": "user", "content": "one two three four five"}]}
    status, _, text = ask(server, "POST", "/v1/chat/completions", asked)
    assert status == 200
    assert json.loads(text)["error"].startswith("Trying to keep the first 5 tokens")
    status, headers, text = ask(server, "POST", "/v1/chat/completions", asked | {"stream": True})
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert text.startswith('event: error\ndata: {"error":{')


def test_a_token_is_wanted_everywhere_but_at_the_greeting(server: LmStudio) -> None:
    server.require_token("sk-lm-a:b")
    assert ask(server, "GET", "/lmstudio-greeting")[0] == 200
    status, _, text = ask(server, "GET", "/api/v1/models")
    assert (status, json.loads(text)["error"]["code"]) == (401, "invalid_api_key")
    assert ask(server, "GET", "/api/v1/models", Authorization="Bearer sk-lm-a:b")[0] == 200
    server.require_token("sk-lm-a:b", quietly=True)
    status, _, text = ask(server, "GET", "/v1/models")
    assert (status, "Unexpected endpoint" in text) == (200, True)


def test_the_openai_library_lists_chats_and_streams(server: LmStudio) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0) as client:
        assert [model.id for model in client.models.list()] == [GEMMA, QWEN, EMBEDDER]
        whole = client.chat.completions.create(
            model=QWEN, messages=[{"role": "user", "content": "hello"}], max_tokens=3
        )
        assert (whole.model, whole.choices[0].message.content) == (QWEN, "Hello hi")
        stream = client.chat.completions.create(
            model=QWEN,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello hi"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3
        server.load(QWEN, context=1)
        server.unload(QWEN)
        too_long = client.chat.completions.create(
            model=QWEN, messages=[{"role": "user", "content": "one two"}], stream=True
        )
        with pytest.raises(openai.APIError, match="Trying to keep"):
            list(too_long)
        server.require_token("t")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_its_own_python_client_takes_it_for_an_lm_studio(server: LmStudio) -> None:
    """Beyond that check it speaks WebSocket on another port, which nothing here does."""
    assert lmstudio.Client.is_valid_api_host(f"127.0.0.1:{server.port}") is True
    assert server.requests == [("GET", "/lmstudio-greeting")]
