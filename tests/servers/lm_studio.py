"""LM Studio's HTTP server, from its documentation and its clients' source: no recording of one exists.

Where the documentation is silent this follows reports: an unknown path is 200 with a top-level ``error``,
a context that is too small is an ``error`` inside 200, and a name that is not loaded is answered by the
only model that is. ``level`` is how much of its API it has: ``v1`` since 0.4, ``v0`` since 0.3.6,
``openai`` before that.

The traps that this fake exists for: a completion loads a model (``loads`` tells which did), and a model of
a linked device is listed as if it were here.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.servers.loopback import Headers, HttpLoopback, Reply, Request, json_bytes

Json = dict[str, object]
Level = Literal["v1", "v0", "openai"]

JSON = "application/json; charset=utf-8"
PIECES = ("Hel", "lo", " hi", "ve")
DEFAULT_CONTEXT = 4096
NOT_LOADED = "No models loaded. Please load a model in the developer page or use the 'lms load' command."
NO_TOKEN = "An LM Studio API token is required to make requests to this server."


@dataclass
class Stored:
    """A model that is downloaded, and what is loaded of it: contexts by the instance's name."""

    key: str
    type: Literal["llm", "embedding"] = "llm"
    quantization: str | None = "Q4_K_M"
    size: int = 4_920_000_000
    parameters: str | None = "8B"
    context: int = 131072
    vision: bool = False
    tools: bool = True
    reasoning: bool = False
    device: str | None = None
    """The linked device that runs it; ``None``: this one."""
    instances: dict[str, int] = field(default_factory=dict)


GEMMA = "google/gemma-4-26b-a4b"
QWEN = "qwen/qwen3-8b"
EMBEDDER = "text-embedding-nomic-embed-text-v1.5"


def usual_models() -> tuple[Stored, ...]:
    """A chat model that sees, one that thinks, and one for embeddings."""
    gemma = Stored(GEMMA, size=17_990_911_801, parameters="26B-A4B", context=262144, vision=True)
    qwen = Stored(QWEN, context=40960, reasoning=True)
    embedder = Stored(
        EMBEDDER, "embedding", quantization="F16", size=84_106_624, parameters=None, context=2048, tools=False
    )
    return gemma, qwen, embedder


class LmStudio(HttpLoopback):
    """A server with some models, none of them loaded."""

    def __init__(
        self,
        models: tuple[Stored, ...] | None = None,
        *,
        level: Level = "v1",
        jit: bool = True,
        marks_devices: bool = False,
        tells_status: bool = True,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.level = level
        self.jit = jit
        self.marks_devices = marks_devices
        """Whether a linked device's models carry its name; nothing documented says that they do."""
        self.tells_status = tells_status
        self.loads: list[tuple[str, str]] = []
        """Every load with what caused it."""
        self.stored = {model.key: model for model in (usual_models() if models is None else models)}
        self._token: str | None = None
        self._refuses_quietly = False
        self._lock = threading.Lock()

    # What a test does to it.

    def load(self, key: str, *, context: int = DEFAULT_CONTEXT, name: str | None = None) -> str:
        """Load an instance; return its name, which is the key or has a number behind it."""
        with self._lock:
            return self._load(key, "test", context, name)

    def unload(self, instance: str) -> None:
        with self._lock:
            for model in self.stored.values():
                model.instances.pop(instance, None)

    def require_token(self, token: str | None, *, quietly: bool = False) -> None:
        """Ask for a token: with a 401, or ``quietly`` by knowing no path for whoever has none."""
        self._token, self._refuses_quietly = token, quietly

    # What it answers.

    def answer(self, request: Request) -> Reply:
        if (request.method, request.path) == ("GET", "/lmstudio-greeting"):
            return _json({"lmstudio": True})
        if (request.method, request.path) == ("GET", "/lms-status") and self.tells_status:
            return _json({"package": "lmstudio", "version": "0.4.25"})
        if self._token is not None and request.headers.get("authorization") != f"Bearer {self._token}":
            return _unknown(request) if self._refuses_quietly else _no_token()
        with self._lock:
            return self._route(request)

    def _route(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET", "/api/v1/models" if self.level == "v1":
                return _json({"models": [self._entry_v1(model) for model in self.stored.values()]})
            case "GET", "/api/v0/models" if self.level != "openai":
                return _json({"object": "list", "data": [self._entry_v0(model) for model in self._shown()]})
            case "GET", "/v1/models":
                own = {"object": "model", "owned_by": "organization_owner"}
                return _json({"object": "list", "data": [{"id": model.key} | own for model in self._shown()]})
            case "POST", "/v1/chat/completions":
                return self._chat(request)
        return _unknown(request)

    def _shown(self) -> list[Stored]:
        """Without just-in-time loading the two older lists have only what is loaded."""
        return [model for model in self.stored.values() if self.jit or model.instances]

    def _entry_v1(self, model: Stored) -> Json:
        entry: Json = {"type": model.type, "publisher": model.key.partition("/")[0], "key": model.key}
        entry |= {"display_name": model.key.rpartition("/")[2]}
        if model.type == "llm":
            entry |= {"architecture": "llama"}
        quantization = {"name": model.quantization, "bits_per_weight": 4} if model.quantization else None
        instances = [_instance(model, name, context) for name, context in model.instances.items()]
        entry |= {
            "quantization": quantization,
            "size_bytes": model.size,
            "params_string": model.parameters,
            "loaded_instances": instances,
            "max_context_length": model.context,
            "format": "gguf",
        }
        if model.type == "llm":
            capabilities: Json = {"vision": model.vision, "trained_for_tool_use": model.tools}
            if model.reasoning:
                capabilities |= {"reasoning": {"allowed_options": ["off", "on"], "default": "on"}}
            entry |= {"capabilities": capabilities, "description": None}
        if model.device is not None and self.marks_devices:
            entry |= {"device_identifier": model.device}
        return entry

    def _entry_v0(self, model: Stored) -> Json:
        kind = "embeddings" if model.type == "embedding" else "vlm" if model.vision else "llm"
        entry: Json = {"id": model.key, "object": "model", "type": kind, "publisher": "x", "arch": "llama"}
        entry |= {"compatibility_type": "gguf", "quantization": model.quantization}
        entry |= {"state": "loaded" if model.instances else "not-loaded"}
        entry |= {"max_context_length": model.context}
        if model.instances:
            entry |= {"loaded_context_length": next(iter(model.instances.values()))}
        if model.type == "llm":
            entry |= {"capabilities": ["tool_use"] if model.tools else []}
        return entry

    def _load(self, key: str, cause: str, context: int = DEFAULT_CONTEXT, name: str | None = None) -> str:
        model = self.stored[key]
        number = len(model.instances) + 1
        wanted = name or (key if number == 1 else f"{key}:{number}")
        model.instances[wanted] = context
        self.loads.append((key, cause))
        return wanted

    def _chat(self, request: Request) -> Reply:
        asked = json.loads(request.body)
        context = self._serving(str(asked.get("model", "")), request.line)
        if context is None:
            problem: Json = {"message": NOT_LOADED, "type": "invalid_request_error"}
            return _json({"error": problem | {"param": "model", "code": None}}, 404)
        tokens = sum(len(str(message.get("content", "")).split()) for message in asked.get("messages", []))
        if tokens > context:
            text = (
                f"Trying to keep the first {tokens} tokens when context the overflows. However, the model "
                f"is loaded with context length of only {context} tokens, which is not enough."
            )
            return (
                _stream([_named_event("error", {"error": {"message": text}})])
                if asked.get("stream")
                else (_json({"error": text}))
            )
        return _stream(_chunks(asked)) if asked.get("stream") else _json(_completion(asked))

    def _serving(self, wanted: str, cause: str) -> int | None:
        """Return the context of what will answer, loading it if need be; ``None`` where nothing will."""
        loaded = {
            name: context for model in self.stored.values() for name, context in model.instances.items()
        }
        if wanted in loaded:
            return loaded[wanted]
        model = self.stored.get(wanted)
        if model is not None and model.instances:
            return next(iter(model.instances.values()))
        if model is not None and self.jit:
            return model.instances[self._load(wanted, cause)]
        return next(iter(loaded.values())) if len(loaded) == 1 else None


class Listener(HttpLoopback):
    """The port on which an open LM Studio listens for its own clients, whether or not it serves HTTP.

    Beyond the greeting it speaks WebSocket.
    """

    def answer(self, request: Request) -> Reply:
        match request.path:
            case "/lmstudio-greeting":
                return _json({"lmstudio": True})
            case "/lms-status":
                return _json({"package": "lmstudio", "version": "0.4.25"})
        return _unknown(request)


def _instance(model: Stored, name: str, context: int) -> Json:
    config: Json = {"context_length": context}
    if model.type == "llm":
        config |= {"eval_batch_size": 512, "parallel": 4, "flash_attention": True}
        config |= {"offload_kv_cache_to_gpu": True}
    return {"id": name, "config": config}


def _headers(kind: str) -> Headers:
    return (("X-Powered-By", "Express"), ("Content-Type", kind))


def _json(value: Json, status: int = 200) -> Reply:
    body = json_bytes(value)
    ending = (("Content-Length", str(len(body))), ("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"))
    return Reply(status=status, headers=(*_headers(JSON), *ending), body=body)


def _unknown(request: Request) -> Reply:
    return _json({"error": f"Unexpected endpoint or method. ({request.line})"})


def _no_token() -> Reply:
    return _json(
        {"error": {"type": "invalid_request", "code": "invalid_api_key", "message": NO_TOKEN}}, status=401
    )


def _stream(events: list[bytes]) -> Reply:
    def pieces() -> Iterator[bytes]:
        yield from events

    headers = (*_headers("text/event-stream"), ("Transfer-Encoding", "chunked"))
    return Reply(headers=headers, body=pieces())


def _named_event(name: str, value: Json) -> bytes:
    return f"event: {name}\n".encode() + _event(value)


def _event(value: Json) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


def _pieces(asked: Json) -> list[str]:
    wanted = asked.get("max_tokens")
    count = wanted if isinstance(wanted, int) else len(PIECES)
    return [PIECES[n % len(PIECES)] for n in range(count)]


def _usage(asked: Json) -> Json:
    count = len(_pieces(asked))
    return {"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count}


def _completion(asked: Json) -> Json:
    message = {"role": "assistant", "content": "".join(_pieces(asked)), "tool_calls": []}
    choice = {"index": 0, "logprobs": None, "finish_reason": "stop", "message": message}
    head: Json = {"id": "chatcmpl-fake", "object": "chat.completion", "created": 1795352798}
    return head | {"model": asked.get("model"), "choices": [choice], "usage": _usage(asked)}


def _chunks(asked: Json) -> list[bytes]:
    head: Json = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1795352798}
    head |= {"model": asked.get("model")}
    deltas: list[tuple[Json, str | None]] = [
        ({"role": "assistant", "content": piece}, None) for piece in _pieces(asked)
    ]
    deltas.append(({}, "stop"))
    events = [
        _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        for delta, reason in deltas
    ]
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append(_event(head | {"choices": [], "usage": _usage(asked)}))
    return [*events, b"data: [DONE]\n\n"]
