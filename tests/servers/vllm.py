"""A vLLM server (0.32), as ``transcripts/vllm.jsonl`` recorded one; what no recording shows is marked.

What makes it treacherous is here too: it binds its port without listening while it starts, so clients
are refused; ``/health`` stays 200 while a stopped engine answers nothing; a killed engine is a 503 at
``/health`` only, until the process goes; and the key guards ``/v1`` and nothing else.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Literal

from tests.servers.loopback import Headers, HttpLoopback, Reply, Request, json_bytes
from tests.servers.recordings import recorded

Json = dict[str, object]
Engine = Literal["running", "stopped", "dead"]

ALIAS = "tiny-random"
"""The name of the recorded model."""
PIECES = ("Hel", "lo", " hi", "ve")
"""The tokens of every reply, over and over."""
PROMPT_TOKENS = 12
GUARDED = ("/v1", "/v2", "/inference", "/cohere")
LOOK = 0.02
"""Seconds between two looks whether the client of a hanging request has left."""
DATE = ("date", "Sun, 22 Nov 2026 13:06:37 GMT")
JSON = "application/json"
TEXT = "text/plain; version=1.0.0; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"
_GAUGE = re.compile(
    r"^(vllm:(?:num_requests_running|num_requests_waiting|kv_cache_usage_perc)\{.*\}) .*$", re.M
)
_SLEEP = re.compile(r'^(vllm:engine_sleep_state\{.*sleep_state="(\w+)"\}) .*$', re.MULTILINE)
_SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")


class Vllm(HttpLoopback):
    """One base model, under one or more names, and its adapters."""

    def __init__(
        self,
        served: tuple[str, ...] = (ALIAS,),
        *,
        root: str = "tiny-hf",
        max_model_len: int = 512,
        starting: bool = False,
        log_stats: bool = True,
        auto_tool_choice: bool = False,
        runtime_lora: bool = True,
        dev_mode: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.binds_only = starting
        self.served = served
        self.root = root
        self.max_model_len = max_model_len
        self.log_stats = log_stats
        self.auto_tool_choice = auto_tool_choice
        self.runtime_lora = runtime_lora
        self.dev_mode = dev_mode
        self.adapters: dict[str, str] = {}
        """Paths by name, in the order of their loading."""
        self.engine: Engine = "running"
        self.running = 0
        self.waiting = 0
        self.kv_cache_usage = 0.0
        self.sleep_level = 0
        self.woken_by: list[str] = []
        """Requests that reached a sleeping engine. A monitor must never be among them."""
        self._key: str | None = None
        self._completions = 0
        self._gone = False
        self._lock = threading.Lock()

    # What a test does to it.

    def finish_start(self) -> None:
        """Listen at last, as it does once the model is loaded."""
        self.listen()

    def stop_engine(self) -> None:
        """SIGSTOP to the engine's process: everything but the completions goes on answering."""
        self.engine = "stopped"

    def continue_engine(self) -> None:
        self.engine = "running"

    def kill_engine(self) -> None:
        """SIGKILL to the engine's process: ``/health`` knows, ``/v1/models`` does not."""
        self.engine = "dead"

    def exit_process(self) -> None:
        """Go, as the API server does by itself some five seconds after its engine's death."""
        if not self._gone:
            self._gone = True
            super().__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._gone:
            super().__exit__(kind, error, trace)

    def sleep(self, level: int = 1) -> None:
        self.sleep_level = level

    def wake(self) -> None:
        self.sleep_level = 0

    def add_adapter(self, name: str, path: str) -> None:
        self.adapters[name] = path

    def remove_adapter(self, name: str) -> None:
        del self.adapters[name]

    def require_key(self, key: str | None) -> None:
        self._key = key

    # What it answers.

    def answer(self, request: Request) -> Reply:
        guarded = request.path.startswith(GUARDED)
        if (
            guarded
            and self._key is not None
            and request.headers.get("authorization") != f"Bearer {self._key}"
        ):
            return _json({"error": "Unauthorized"}, 401)
        with self._lock:
            reply = self._route(request)
        return reply if isinstance(reply, Reply) else self._complete(request, reply)

    def _route(self, request: Request) -> Reply | Json:
        match request.method, request.path:
            case "GET", "/health":
                return _empty(503 if self.engine == "dead" else 200)
            case "GET" | "POST", "/ping":
                return _empty(503 if self.engine == "dead" else 200)
            case "GET", "/version":
                return _json({"version": "0.32.0"})
            case "GET", "/load":
                return _json({"server_load": 0})
            case "GET", "/metrics":
                return _reply(self._metrics().encode(), TEXT)
            case "GET", "/v1/models":
                return _json({"object": "list", "data": self._models()})
            case "POST", "/tokenize":
                return self._tokenize(request)
            case "POST", "/v1/chat/completions" | "/v1/completions":
                return self._completion(request)
            case "POST", "/v1/load_lora_adapter" if self.runtime_lora:
                return self._load_adapter(request)
            case "POST", "/v1/unload_lora_adapter" if self.runtime_lora:
                return self._unload_adapter(request)
            case "GET", "/is_sleeping" if self.dev_mode:
                return _json({"is_sleeping": self.sleep_level > 0})
            case "POST", "/sleep" if self.dev_mode:
                self.sleep_level = int(request.query.get("level", "1"))
                return _empty(200)
            case "POST", "/wake_up" if self.dev_mode:
                self.sleep_level = 0
                return _empty(200)
        return self._no_route(request)

    def _no_route(self, request: Request) -> Reply:
        methods = {"/health": "GET", "/version": "GET", "/metrics": "GET", "/v1/models": "GET"}
        posts = ("/v1/chat/completions", "/v1/completions", "/tokenize")
        methods |= dict.fromkeys(posts, "POST")
        allowed = methods.get(request.path)
        if allowed is None:
            return _json({"detail": "Not Found"}, 404)
        return _json({"detail": "Method Not Allowed"}, 405, before=(("allow", allowed),))

    def _models(self) -> list[Json]:
        base = [_card(name, self.root, None, self.max_model_len) for name in self.served]
        return base + [_card(name, path, self.served[0], None) for name, path in self.adapters.items()]

    def _metrics(self) -> str:
        text = recorded("vllm", "GET", "/metrics", 1 if self._completions else 0).text
        text = text.replace(f'model_name="{ALIAS}"', f'model_name="{self.served[0]}"')
        if not self.log_stats:
            lines = text.splitlines(keepends=True)
            return "".join(line for line in lines if "vllm:" not in line)
        values = {
            "vllm:num_requests_running": float(self.running),
            "vllm:num_requests_waiting": float(self.waiting),
            "vllm:kv_cache_usage_perc": self.kv_cache_usage,
        }
        text = _GAUGE.sub(lambda m: f"{m[1]} {values[m[1].partition('{')[0]]}", text)
        return _SLEEP.sub(lambda m: f"{m[1]} {float(m[2] == _SLEEP_STATES[self.sleep_level])}", text)

    def _tokenize(self, request: Request) -> Reply:
        asked = _body(request)
        words = str(asked.get("prompt", "")).split()
        tokens = list(range(1, len(words) + 1))
        return _json(
            {
                "count": len(tokens),
                "max_model_len": self.max_model_len,
                "tokens": tokens,
                "token_strs": None,
            }
        )

    def _completion(self, request: Request) -> Reply | Json:
        """Refuse what is wrong with a completion; else return what was asked."""
        asked = _body(request)
        model = asked.get("model") or self.served[0]
        if model not in self.served and model not in self.adapters:
            aliases = ", ".join((*self.served, *self.adapters))
            message = f"The model `{model}` does not exist. Valid aliases: {aliases}."
            return _error(404, message, "NotFoundError", "model")
        limit = asked.get("max_tokens")
        if isinstance(limit, int) and limit > self.max_model_len:
            message = (
                f"max_tokens={limit} cannot be greater than max_model_len={self.max_model_len}. Please "
                f"request fewer output tokens. (parameter=max_tokens, value={limit})"
            )
            return _error(400, message, "BadRequestError", "max_tokens")
        tokens = sum(len(str(message).split()) for message in _list(asked.get("messages")))
        if tokens > self.max_model_len:
            message = (
                f"This model's maximum context length is {self.max_model_len} tokens. However, your prompt "
                f"contains {tokens} input tokens, which exceeds this limit even without any output tokens. "
                f"Please reduce the length of the input prompt. (parameter=input_tokens, value={tokens})"
            )
            return _error(400, message, "BadRequestError", "input_tokens")
        if asked.get("tools") and asked.get("tool_choice", "auto") == "auto" and not self.auto_tool_choice:
            message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            return _error(400, message, "BadRequestError", None)
        if self.engine == "dead":
            message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            return _error(500, message, "InternalServerError", None)
        if self.sleep_level:
            self.woken_by.append(request.line)
        self._completions += 1
        # Whichever of its names was asked for, it answers in the first one; an adapter answers in its own.
        return asked | {"model": model if model in self.adapters else self.served[0]}

    def _complete(self, request: Request, asked: Json) -> Reply:
        while self.engine == "stopped" and not request.gone() and not self.closing.wait(LOOK):
            pass
        if request.path == "/v1/completions":
            return _json(_completed(asked))
        if asked.get("stream"):
            headers = (DATE, ("server", "uvicorn"), ("content-type", EVENTS), ("vary", "Origin"))
            return Reply(headers=(*headers, ("transfer-encoding", "chunked")), body=_chat_events(asked))
        return _json(_chatted(asked))

    def _load_adapter(self, request: Request) -> Reply:
        asked = _body(request)
        name, path = str(asked.get("lora_name")), str(asked.get("lora_path"))
        if name in self.adapters:
            message = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in "
                "place, set 'load_inplace' to True."
            )
            return _error(400, message, "InvalidUserInput", None)
        if "nope" in path:
            message = f"Loading lora {name} failed: No adapter found for <path>"
            return _error(404, message, "NotFoundError", None)
        self.adapters[name] = path
        return _reply(f"Success: LoRA adapter '{name}' added successfully.".encode(), None)

    def _unload_adapter(self, request: Request) -> Reply:
        name = str(_body(request).get("lora_name"))
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError", None)
        return _reply(f"Success: LoRA adapter '{name}' removed successfully.".encode(), None)


def _reply(body: bytes, kind: str | None, status: int = 200, before: Headers = ()) -> Reply:
    headers: Headers = (DATE, ("server", "uvicorn"), *before, ("content-length", str(len(body))))
    if kind is not None:
        headers += (("content-type", kind),)
    return Reply(status=status, headers=(*headers, ("vary", "Origin")), body=body)


def _json(value: Json, status: int = 200, before: Headers = ()) -> Reply:
    return _reply(json_bytes(value), JSON, status, before)


def _empty(status: int) -> Reply:
    return _reply(b"", None, status)


def _error(code: int, message: str, kind: str, param: str | None) -> Reply:
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}}, code)


def _body(request: Request) -> Json:
    body: Json = json.loads(request.body or b"{}")
    return body


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _card(name: str, root: str, parent: str | None, max_model_len: int | None) -> Json:
    card: Json = json.loads(recorded("vllm", "GET", "/v1/models").text)["data"][0]
    own = {"id": name, "root": root, "parent": parent, "max_model_len": max_model_len}
    return card | {"created": int(time.time())} | own


def _tokens(asked: Json) -> tuple[list[str], str]:
    wanted = asked.get("max_tokens")
    count = wanted if isinstance(wanted, int) else len(PIECES)
    return [PIECES[n % len(PIECES)] for n in range(count)], "length" if wanted else "stop"


def _usage(asked: Json) -> Json:
    count = len(_tokens(asked)[0])
    return {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS + count, "completion_tokens": count}


def _chatted(asked: Json) -> Json:
    shape: Json = json.loads(recorded("vllm", "POST", "/v1/chat/completions").text)
    (choice,) = _list(shape["choices"])
    assert isinstance(choice, dict)
    pieces, ended = _tokens(asked)
    message = choice["message"] | {"content": "".join(pieces)}
    usage = _usage(asked) | {"prompt_tokens_details": None, "completion_tokens_details": None}
    return shape | {
        "created": int(time.time()),
        "model": asked["model"],
        "choices": [choice | {"message": message, "finish_reason": ended}],
        "usage": usage,
    }


def _completed(asked: Json) -> Json:
    shape: Json = json.loads(recorded("vllm", "POST", "/v1/completions").text)
    (choice,) = _list(shape["choices"])
    assert isinstance(choice, dict)
    pieces, ended = _tokens(asked)
    usage = _usage(asked) | {"prompt_tokens_details": None, "completion_tokens_details": None}
    return shape | {
        "created": int(time.time()),
        "model": asked["model"],
        "choices": [choice | {"text": "".join(pieces), "finish_reason": ended}],
        "usage": usage,
    }


def _chat_events(asked: Json) -> Iterator[bytes]:
    head: Json = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": asked["model"],
    }
    role = {"role": "assistant", "content": ""}
    first: Json = {"index": 0, "delta": role, "logprobs": None, "finish_reason": None}
    yield _event(head | {"choices": [first], "prompt_token_ids": None, "prompt_text": None})
    pieces, ended = _tokens(asked)
    for n, piece in enumerate(pieces, 1):
        last = n == len(pieces)
        choice: Json = {"index": 0, "delta": {"content": piece}, "logprobs": None}
        choice |= {"finish_reason": ended, "stop_reason": None} if last else {"finish_reason": None}
        yield _event(head | {"choices": [choice | {"token_ids": None}]})
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        fingerprint = {"system_fingerprint": "vllm-0.32.0-f1868543"}
        yield _event(head | {"choices": [], "usage": _usage(asked)} | fingerprint)
    yield b"data: [DONE]\n\n"


def _event(value: Json) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"
