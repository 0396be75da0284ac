"""What llama.cpp puts on the wire: its headers, its errors, its completions. Pure.

Both kinds of its errors are kept apart as the real one does: those from before the routes have the
code last, those of the routes have it first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tests.servers.loopback import Headers, Reply, Request, json_bytes
from tests.servers.recordings import recorded

JSON = "application/json; charset=utf-8"
EVENTS = "text/event-stream"
KEEP_ALIVE = ("Keep-Alive", "timeout=5, max=100")
CLOSE = ("Connection", "close")
PIECES = ("Hel", "lo", " hi", "ve")
"""The tokens of every reply, over and over."""
DEFAULT_TOKENS = 4
PUBLIC = ("/health", "/v1/health")
"""The paths that need no key."""

Json = dict[str, object]


def identity(request: Request) -> Headers:
    """What stands first in every reply; the real one echoes any origin."""
    return (("Server", "llama.cpp"), ("Access-Control-Allow-Origin", request.headers.get("origin", "")))


def json_reply(request: Request, value: object, status: int = 200) -> Reply:
    """A value, or an error, that the server itself made."""
    body = value if isinstance(value, bytes) else json_bytes(value)
    ending = CLOSE if status >= 400 else KEEP_ALIVE
    kind = (("Content-Type", JSON), ("Content-Length", str(len(body))), ending)
    return Reply(status=status, headers=identity(request) + kind, body=body)


def proxied_reply(
    request: Request, body: bytes | Iterator[bytes], *, status: int = 200, content_type: str = JSON
) -> Reply:
    """What a router hands on from the child that runs a model: chunked, and closed at the end."""
    headers = (CLOSE, ("X-Accel-Buffering", "no"), ("Content-Type", content_type))
    chunked = (("Transfer-Encoding", "chunked"), KEEP_ALIVE)
    return Reply(status=status, headers=identity(request) + headers + chunked, body=body)


def stream_reply(request: Request, events: Iterator[bytes]) -> Reply:
    """A stream of server-sent events."""
    headers = (("X-Accel-Buffering", "no"), ("Content-Type", EVENTS), ("Transfer-Encoding", "chunked"))
    return Reply(headers=identity(request) + headers + (KEEP_ALIVE,), body=events)


def event(value: object) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


def early_error(request: Request, code: int, message: str, kind: str) -> Reply:
    """An error from before the routes: loading, no key, no such path."""
    return json_reply(request, {"error": {"message": message, "type": kind, "code": code}}, code)


def error(request: Request, code: int, message: str, kind: str = "invalid_request_error") -> Reply:
    return json_reply(request, {"error": {"code": code, "message": message, "type": kind}}, code)


def loading(request: Request) -> Reply:
    return early_error(request, 503, "Loading model", "unavailable_error")


def not_found(request: Request) -> Reply:
    return early_error(request, 404, "File Not Found", "not_found_error")


def refusal(request: Request, key: str | None) -> Reply | None:
    """The 401 for a request that needed a key and did not bring it."""
    brought = (request.headers.get("authorization"), request.headers.get("x-api-key"))
    if key is None or request.path in PUBLIC or f"Bearer {key}" == brought[0] or key == brought[1]:
        return None
    return early_error(request, 401, "Invalid API Key", "authentication_error")


def read_body(request: Request) -> Json | Reply:
    """The JSON object of a question, or the 500 that the real one gives to what is none."""
    try:
        body = json.loads(request.body)
    except ValueError:
        return error(request, 500, "[json.exception.parse_error.101] parse error", "server_error")
    return body if isinstance(body, dict) else error(request, 500, "unexpected type", "server_error")


def completion(model: str, asked: Json) -> Json:
    """A whole answer, in the shape and the order of the recorded one."""
    shape: Json = json.loads(recorded("llamacpp", "POST", "/v1/chat/completions").text)
    text, ended = _generate(asked)
    message = {"role": "assistant", "content": "".join(text)}
    return shape | {
        "choices": [{"finish_reason": ended, "index": 0, "message": message}],
        "created": int(time.time()),
        "model": model,
        "usage": _usage(len(text)),
        "timings": _timings(len(text)),
    }


def completion_events(model: str, asked: Json) -> Iterator[bytes]:
    """The same as a stream, with the chunk of usage if it was asked for."""
    text, ended = _generate(asked)
    rest = {
        "created": int(time.time()),
        "id": "chatcmpl-fake",
        "model": model,
        "system_fingerprint": "b0-unknown",
        "object": "chat.completion.chunk",
    }
    deltas: list[tuple[str | None, Json]] = [(None, {"role": "assistant", "content": None})]
    deltas += [(None, {"content": piece}) for piece in text]
    deltas += [(ended, {})]
    for reason, delta in deltas:
        yield event({"choices": [{"finish_reason": reason, "index": 0, "delta": delta}]} | rest)
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        yield event({"choices": []} | rest | {"usage": _usage(len(text)), "timings": _timings(len(text))})
    yield b"data: [DONE]\n\n"


def _generate(asked: Json) -> tuple[list[str], str]:
    """Pieces of text, and why they end."""
    wanted = asked.get("max_tokens")
    count = wanted if isinstance(wanted, int) else DEFAULT_TOKENS
    return [PIECES[n % len(PIECES)] for n in range(count)], "length" if wanted else "stop"


def _usage(tokens: int) -> Json:
    return {
        "completion_tokens": tokens,
        "prompt_tokens": 13,
        "total_tokens": 13 + tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _timings(tokens: int) -> Json:
    """Speeds of 10 ms a token; like the real one, the first token is not counted in them."""
    steps = tokens - 1
    return {
        "cache_n": 0,
        "prompt_n": 13,
        "prompt_ms": 13.0,
        "prompt_per_token_ms": 1.0,
        "prompt_per_second": 1000.0,
        "predicted_n": tokens,
        "predicted_ms": 10.0 * steps,
        "predicted_per_token_ms": 10.0 if steps > 0 else 0.0,
        "predicted_per_second": 100.0 if steps > 0 else 0.0,
    }
