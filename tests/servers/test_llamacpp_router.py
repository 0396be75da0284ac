"""The fake router answers what the real one was recorded to answer, and loads only when asked to."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.servers.llamacpp_router import LlamaCppRouter, Load
from tests.servers.recordings import TRANSCRIPTS, check_same, read_transcript

HARMLESS = (
    "/health",
    "/props",
    "/v1/models",
    "/models",
    "/slots",
    "/slots?model=tiny-a&autoload=false",
    "/props?model=tiny-a&autoload=false",
    "/metrics?model=tiny-a&autoload=false",
    "/lora-adapters?model=tiny-a&autoload=false",
    "/nope",
)
LOADING = (
    "/slots?model=tiny-a",
    "/props?model=tiny-a",
    "/metrics?model=tiny-a",
    "/lora-adapters?model=tiny-a",
)


@pytest.fixture
def server() -> Iterator[LlamaCppRouter]:
    with LlamaCppRouter(load_seconds=0.01, unload_seconds=0.0) as running:
        yield running


def ask(
    server: LlamaCppRouter, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()
    finally:
        connection.close()


def message(text: str) -> object:
    return json.loads(text)["error"]["message"]


class Events:
    """A client of ``/models/sse``."""

    def __init__(self, server: LlamaCppRouter) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
        self._connection.request("GET", "/models/sse")
        self.response = self._connection.getresponse()
        server.wait_sse_clients(1)

    def take(self) -> tuple[str, str, object]:
        line = self.response.readline()
        assert line.startswith(b"data: "), line
        assert self.response.readline() == b"\n"
        event = json.loads(line[6:])
        assert list(event) == ["model", "event", "data"]
        return event["model"], event["event"], event["data"]

    def close(self) -> None:
        self.response.close()
        self._connection.close()


HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def events(server: LlamaCppRouter) -> Iterator[Events]:
    client = Events(server)
    yield client
    client.close()


def test_every_recorded_call_is_answered_as_the_real_server_answered_it() -> None:
    calls = read_transcript("llamacpp_router")
    assert len(calls) == 19
    with LlamaCppRouter(load_seconds=60.0, unload_seconds=60.0) as server:
        for call in calls:
            if call.path == "/v1/chat/completions":
                # tiny-a was loading when it was evicted; tiny-b was still there after its unload.
                server.load_seconds = 0.0
            check_same(call, *ask(server, call.method, call.path, call.body))
        assert server.requests == [(call.method, call.path) for call in calls]
        assert server.loads == [
            Load("tiny-a", "POST /models/load"),
            Load("tiny-b", "POST /v1/chat/completions"),
        ]


def test_no_path_of_a_real_machine_is_in_a_transcript() -> None:
    for server in ("llamacpp", "llamacpp_router"):
        for call in read_transcript(server):
            assert not any(part in call.text for part in ("/home/", "/root/", "/tmp/", "/Users/"))


@pytest.mark.parametrize("path", HARMLESS)
def test_a_harmless_question_loads_nothing(server: LlamaCppRouter, path: str) -> None:
    ask(server, "GET", path)
    assert server.requests == [("GET", path)]
    assert server.loads == []


@pytest.mark.parametrize("path", LOADING)
def test_a_question_about_a_model_loads_it_and_evicts_another(server: LlamaCppRouter, path: str) -> None:
    server.load("tiny-b")
    assert ask(server, "GET", path)[0] == 200
    assert server.loads == [Load("tiny-b", "test"), Load("tiny-a", f"GET {path}")]
    assert (server.status("tiny-a"), server.status("tiny-b")) == ("loaded", "unloaded")


def test_two_models_fit_where_two_are_allowed() -> None:
    with LlamaCppRouter(load_seconds=0.0, models_max=2) as server:
        server.load("tiny-a")
        server.load("tiny-b")
        assert (server.status("tiny-a"), server.status("tiny-b")) == ("loaded", "loaded")


def test_the_model_that_chatted_longest_ago_has_to_go() -> None:
    with LlamaCppRouter(("a", "b", "c"), load_seconds=0.0, unload_seconds=0.0, models_max=2) as server:
        server.load("a")
        server.load("b")
        ask(server, "POST", "/v1/chat/completions", {"model": "a", "messages": []})
        ask(server, "GET", "/slots?model=b")
        ask(server, "POST", "/models/load", {"model": "c"})
        assert [server.status(name) for name in "ab"] == ["loaded", "unloaded"]


def test_a_load_is_told_with_its_progress(server: LlamaCppRouter, events: Events) -> None:
    headers = {name.lower(): value for name, value in events.response.getheaders()}
    assert headers["content-type"] == "text/event-stream"
    assert headers["server"] == "llama.cpp"
    ask(server, "POST", "/models/load", {"model": "tiny-a"})
    assert events.take() == ("tiny-a", "model_status", {"status": "loading"})
    for value in (0.0, 1 / 3, 2 / 3, 1.0):
        progress = {"stages": ["text_model"], "current": "text_model", "value": value}
        assert events.take() == ("tiny-a", "status_change", {"status": "loading", "progress": progress})
    model, kind, data = events.take()
    assert (model, kind) == ("tiny-a", "status_change")
    assert isinstance(data, dict)
    assert data["status"] == "loaded"
    assert data["info"]["meta"]["n_ctx"] == 512
    ask(server, "POST", "/models/unload", {"model": "tiny-a"})
    assert events.take() == ("tiny-a", "status_change", {"status": "unloaded", "exit_code": 0})


def test_the_events_are_those_of_the_real_server(server: LlamaCppRouter, events: Events) -> None:
    """The recorded course: load a, chat with b (which evicts a), unload b, and a load of b that fails."""
    recorded = [
        json.loads(line.removeprefix("data: "))
        for line in (TRANSCRIPTS / "llamacpp_router_sse.txt").read_text("utf-8").splitlines()
    ]

    ask(server, "POST", "/models/load", {"model": "tiny-a"})
    server.wait_status("tiny-a", "loaded")
    ask(server, "POST", "/v1/chat/completions", {"model": "tiny-b", "messages": HELLO})
    ask(server, "POST", "/models/unload", {"model": "tiny-b"})
    server.wait_status("tiny-b", "unloaded")
    server.fail_load("tiny-b")
    ask(server, "POST", "/models/load", {"model": "tiny-b"})

    wanted = [shape(*event.values()) for event in recorded if not is_later_progress(event["data"])]
    seen: list[object] = []
    while len(seen) < len(wanted):
        event = events.take()
        if not is_later_progress(event[2]):
            seen.append(shape(*event))
    assert seen == wanted


def is_later_progress(data: Any) -> bool:
    """How often a load tells how far it is depends on the model's size: only the first word is compared."""
    return bool(data.get("progress", {}).get("value", 0.0) > 0.0)


def shape(model: str, kind: str, data: Any) -> object:
    """An event without what differs from model to model and from second to second."""
    if "info" in data:
        meta = dict.fromkeys(data["info"]["meta"])
        data = data | {"info": data["info"] | {"created": 0, "meta": meta}}
    return model, kind, data


def test_a_failed_load_is_listed_told_and_answered(server: LlamaCppRouter, events: Events) -> None:
    server.fail_load("tiny-a")
    status, _, text = ask(server, "GET", "/slots?model=tiny-a")
    assert (status, message(text)) == (500, "model name=tiny-a failed to load")
    told = [events.take() for _ in range(6)]
    assert told[-1] == ("tiny-a", "status_change", {"status": "unloaded", "exit_code": 1})
    listed = json.loads(ask(server, "GET", "/v1/models")[2])["data"][0]["status"]
    assert (listed["value"], listed["exit_code"], listed["failed"]) == ("unloaded", 1, True)
    server.load("tiny-a")
    assert server.status("tiny-a") == "loaded"


def test_sleep_is_listed_and_only_some_questions_wake(server: LlamaCppRouter, events: Events) -> None:
    server.load("tiny-a")
    server.sleep("tiny-a")
    told = [events.take() for _ in range(7)]
    assert told[-1] == ("tiny-a", "status_change", {"status": "sleeping"})
    assert json.loads(ask(server, "GET", "/props?model=tiny-a")[2])["is_sleeping"] is True
    assert ask(server, "GET", "/metrics?model=tiny-a&autoload=false")[0] == 200
    assert server.status("tiny-a") == "sleeping"
    assert json.loads(ask(server, "GET", "/v1/models")[2])["data"][0]["status"]["value"] == "sleeping"
    # Not loading is no protection here: the child runs, and the question reaches it.
    assert ask(server, "GET", "/slots?model=tiny-a&autoload=false")[0] == 200
    assert server.loads[1:] == [Load("tiny-a", "GET /slots?model=tiny-a&autoload=false")]
    assert events.take() == ("tiny-a", "status_change", {"status": "loaded"})


def test_a_question_to_a_model_that_loads_gets_503_from_its_child() -> None:
    with LlamaCppRouter(load_seconds=60.0) as server:
        server.load("tiny-a", wait=False)
        status, _, text = ask(server, "GET", "/props?model=tiny-a&autoload=false")
        assert (status, message(text)) == (503, "Loading model")
        assert (
            message(ask(server, "POST", "/models/load", {"model": "tiny-a"})[2]) == "model is already running"
        )


def test_a_download_is_told_listed_and_ends(server: LlamaCppRouter, events: Events) -> None:
    name = "someone/thing:Q4_K_M"
    assert ask(server, "POST", "/models", {"model": name})[0] == 200
    server.progress_download(name, done=10, total=100)
    assert events.take() == (name, "model_status", {"status": "downloading"})
    model, kind, data = events.take()
    assert (model, kind) == (name, "download_progress")
    assert isinstance(data, dict)
    assert list(data["progress"].values()) == [{"done": 10, "total": 100}]
    listed = json.loads(ask(server, "GET", "/models")[2])["data"][0]
    assert (listed["id"], listed["status"]["value"], listed["can_remove"]) == (name, "downloading", True)
    server.finish_download(name)
    assert events.take()[1] == "download_finished"
    assert json.loads(ask(server, "GET", "/models")[2])["data"][0]["status"]["value"] == "unloaded"
    assert events.take()[:2] == ("*", "models_reload")
    assert message(ask(server, "POST", "/models", {"model": name})[2]) == f"model '{name}' already exists"
    assert ask(server, "DELETE", f"/models?model={name}")[0] == 200
    assert events.take()[:2] == (name, "model_remove")
    assert server.loads == []


def test_a_cancelled_download_is_gone(server: LlamaCppRouter) -> None:
    server.start_download("a/b")
    assert ask(server, "POST", "/models/unload", {"model": "a/b"})[0] == 200
    assert [each["id"] for each in json.loads(ask(server, "GET", "/models")[2])["data"]] == [
        "tiny-a",
        "tiny-b",
    ]


def test_a_model_can_vanish_but_not_be_deleted_from_a_folder(server: LlamaCppRouter, events: Events) -> None:
    status, _, text = ask(server, "DELETE", "/models?model=tiny-a")
    assert (status, message(text)) == (500, "model name=tiny-a is not removable (not from cache)")
    server.remove("tiny-a")
    assert events.take() == ("tiny-a", "model_remove", None)
    assert message(ask(server, "GET", "/slots?model=tiny-a")[2]) == "model 'tiny-a' not found"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/models/load", {"model": "nope"}, 404, "File Not Found"),
        ("/models/unload", {"model": "nope"}, 400, "model is not found"),
        ("/models/unload", {"model": "tiny-a"}, 400, "model is not running"),
        ("/v1/chat/completions", {"messages": []}, 400, "model name is missing from the request"),
        ("/v1/chat/completions?autoload=false", {"model": "tiny-a"}, 400, "model is not loaded"),
        ("/v1/chat/completions", [], 500, "unexpected type"),
    ],
)
def test_a_wrong_request_is_refused(
    server: LlamaCppRouter, path: str, body: object, status: int, said: str
) -> None:
    answered, headers, text = ask(server, "POST", path, body)
    assert (answered, message(text), headers["connection"]) == (status, said, "close")
    assert server.loads == []


def test_a_key_is_needed_everywhere_but_at_health(server: LlamaCppRouter) -> None:
    server.require_key("k")
    assert ask(server, "GET", "/health")[0] == ask(server, "GET", "/v1/health")[0] == 200
    for path in ("/props", "/v1/models", "/models/sse", "/nope"):
        status, _, text = ask(server, "GET", path)
        assert (status, text) == (
            401,
            '{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}',
        )
    assert ask(server, "GET", "/v1/models", Authorization="Bearer k")[0] == 200
    assert ask(server, "GET", "/v1/models", **{"X-Api-Key": "k"})[0] == 200
    assert ask(server, "GET", "/v1/models", Authorization="Bearer wrong")[0] == 401


def test_any_origin_is_echoed(server: LlamaCppRouter) -> None:
    headers = ask(server, "GET", "/health", Origin="http://evil.example")[1]
    assert headers["access-control-allow-origin"] == "http://evil.example"


def test_clients_of_the_events_are_counted_and_can_be_cut_off(server: LlamaCppRouter, events: Events) -> None:
    assert server.sse_clients == 1
    server.close_sse()
    assert events.response.read() == b""
    server.wait_sse_clients(0)
    again = Events(server)
    again.close()
    server.wait_sse_clients(0)


def test_a_second_server_takes_the_port_of_the_first() -> None:
    with LlamaCppRouter() as first:
        ask(first, "GET", "/health")
        port = first.port
    with LlamaCppRouter(("other",), port=port) as second:
        assert second.port == port
        assert [each["id"] for each in json.loads(ask(second, "GET", "/models")[2])["data"]] == ["other"]


def test_the_openai_library_lists_and_chats(server: LlamaCppRouter) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0) as client:
        assert [model.id for model in client.models.list()] == ["tiny-a", "tiny-b"]
        whole = client.chat.completions.create(
            model="tiny-a", messages=[{"role": "user", "content": "hello"}], max_tokens=3
        )
        assert whole.choices[0].message.content == "Hello hi"
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 3
        stream = client.chat.completions.create(
            model="tiny-a",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "Hello hi"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 16
        with pytest.raises(openai.BadRequestError, match="model 'nope' not found"):
            client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hello"}])
    assert server.loads == [Load("tiny-a", "POST /v1/chat/completions")]
