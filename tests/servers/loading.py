"""A llama.cpp ``llama-server`` with one model: it loads, serves, and falls asleep.

While it loads, every path answers 503. Ready, it answers what ``transcripts/llamacpp.jsonl`` recorded.
Asleep, it answers the four paths that do not wake it; any other question wakes it and stands in
``woken_by``.
"""

from __future__ import annotations

import json
import time

from tests.servers.llamacpp_replies import (
    Json,
    completion,
    completion_events,
    json_reply,
    loading,
    not_found,
    read_body,
    refusal,
    stream_reply,
)
from tests.servers.loopback import HttpLoopback, Reply, Request
from tests.servers.recordings import recorded

QUIET = ("/health", "/v1/health", "/props", "/models", "/v1/models", "/metrics")
"""What may be asked of a sleeping server without waking it."""


class LlamaCppLoading(HttpLoopback):
    """A server whose model is being loaded until ``finish`` is called."""

    def __init__(self, model: str = "tiny-random", *, port: int = 0) -> None:
        super().__init__(port=port)
        self.model = model
        self.woken_by: list[str] = []
        self._loading = True
        self._sleeping = False
        self._key: str | None = None

    def finish(self) -> None:
        """End the loading."""
        self._loading = False

    def sleep(self) -> None:
        self._sleeping = True

    def wake(self) -> None:
        self._sleeping = False

    def require_key(self, key: str | None) -> None:
        self._key = key

    def answer(self, request: Request) -> Reply:
        if (refused := refusal(request, self._key)) is not None:
            return refused
        if self._loading:
            return loading(request)
        if self._sleeping and (request.method not in ("GET", "HEAD") or request.path not in QUIET):
            self._sleeping = False
            self.woken_by.append(request.line)
        return self._serve_ready(request)

    def _serve_ready(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET" | "HEAD", "/health" | "/v1/health":
                return json_reply(request, {"status": "ok"})
            case "GET", "/props":
                return json_reply(request, self._props())
            case "GET", "/models" | "/v1/models":
                return json_reply(request, self._models())
            case "GET", "/metrics":
                return _as_recorded(request, "text/plain; version=0.0.4")
            case ("GET", "/slots" | "/lora-adapters") | ("POST", "/tokenize"):
                return _as_recorded(request)
            case "POST", "/v1/chat/completions":
                return self._chat(request)
        return not_found(request)

    def _props(self) -> Json:
        props: Json = json.loads(recorded("llamacpp", "GET", "/props").text)
        return props | {"model_alias": self.model, "is_sleeping": self._sleeping}

    def _models(self) -> Json:
        listed: Json = json.loads(recorded("llamacpp", "GET", "/v1/models").text)
        models, data = listed["models"], listed["data"]
        assert isinstance(models, list)
        assert isinstance(data, list)
        own = {"id": self.model, "aliases": [self.model], "created": int(time.time())}
        return listed | {
            "models": [models[0] | {"name": self.model, "model": self.model}],
            "data": [data[0] | own],
        }

    def _chat(self, request: Request) -> Reply:
        """The model's own name comes back whatever name was asked for."""
        body = read_body(request)
        if isinstance(body, Reply):
            return body
        if body.get("stream"):
            return stream_reply(request, completion_events(self.model, body))
        return json_reply(request, completion(self.model, body))


def _as_recorded(request: Request, content_type: str | None = None) -> Reply:
    call = recorded("llamacpp", request.method, request.path)
    reply = json_reply(request, call.text.encode())
    if content_type is None:
        return reply
    started = ("Process-Start-Time-Unix", call.headers["process-start-time-unix"])
    headers = [(name, content_type if name == "Content-Type" else value) for name, value in reply.headers]
    return Reply(headers=(*headers[:2], started, *headers[2:]), body=reply.body)
