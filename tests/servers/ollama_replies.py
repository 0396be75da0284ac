"""What Ollama puts on the wire: Go's JSON, its headers, its errors, its generated text. Pure.

Both of its faces are kept apart as the real one does: ``/api`` is written by gin (a charset, no newline at
the end, an error that is a text), ``/v1`` by an encoder of its own (no charset, a newline, an object).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from fnmatch import fnmatch
from ipaddress import ip_address
from urllib.parse import urlsplit

from tests.servers.llamacpp_replies import DEFAULT_TOKENS, PIECES
from tests.servers.loopback import Headers, Reply

JSON = "application/json; charset=utf-8"
OPENAI_JSON = "application/json"
LINES = "application/x-ndjson"
EVENTS = "text/event-stream"
TEXT = "text/plain"
ONE_BUFFER = 2048
"""Bytes up to which Go knows the length of an answer before it sends it."""
FOREVER = 292 * 365.25 * 86400
"""Seconds of a ``keep_alive`` below zero."""

Json = dict[str, object]
MOST_TOKENS = 256
"""A greater limit is never reached: a model has said all by then."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NAMES = ("localhost", "*.localhost", "*.local", "*.internal")


def go_json(value: object) -> bytes:
    """Write JSON as Go does: no spaces, and nothing in it that HTML would take for its own."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("1e-05", "0.00001")
    for each in "<>&\u2028\u2029":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text.encode()


def stamp(seconds: float) -> str:
    """Write a time as Go does, without the zeros at its end."""
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


def reply(now: float, body: bytes, *, status: int = 200, content_type: str | None = JSON) -> Reply:
    """A whole answer; a long one is sent in chunks because Go has sent its head by then."""
    kind: Headers = () if content_type is None else (("Content-Type", content_type),)
    dated = (*kind, ("Date", _date(now)))
    if len(body) > ONE_BUFFER:
        return Reply(status=status, headers=(*dated, ("Transfer-Encoding", "chunked")), body=body)
    return Reply(status=status, headers=(*dated, ("Content-Length", str(len(body)))), body=body)


def json_reply(now: float, value: object, status: int = 200) -> Reply:
    return reply(now, go_json(value), status=status)


def openai_reply(now: float, value: object, status: int = 200) -> Reply:
    return reply(now, go_json(value) + b"\n", status=status, content_type=OPENAI_JSON)


def stream_reply(now: float, pieces: Iterator[bytes], content_type: str = LINES) -> Reply:
    headers = (("Content-Type", content_type), ("Date", _date(now)), ("Transfer-Encoding", "chunked"))
    return Reply(headers=headers, body=pieces)


def empty_reply(now: float, status: int = 200) -> Reply:
    return reply(now, b"", status=status, content_type=None)


def error(now: float, status: int, text: str) -> Reply:
    return json_reply(now, {"error": text}, status)


def openai_error(now: float, status: int, text: str) -> Reply:
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return openai_reply(now, {"error": {"message": text, "type": kind, "param": None, "code": None}}, status)


def line(value: object) -> bytes:
    return go_json(value) + b"\n"


def event(value: object) -> bytes:
    return b"data: " + go_json(value) + b"\n\n"


def may_ask(headers: dict[str, str]) -> bool:
    """Tell whether a server that is bound to loopback answers: not to a foreign host or origin."""
    origin = headers.get("origin")
    if origin is not None and not _is_own_host(urlsplit(origin).hostname or ""):
        return False
    return _is_own_host(urlsplit(f"//{headers.get('host', '')}").hostname or "")


def keep_alive_seconds(value: object, default: float) -> float:
    """Read a ``keep_alive``: seconds, or a Go duration. Raises ValueError."""
    if value is None:
        return default
    if isinstance(value, int | float):
        return FOREVER if value < 0 else float(value)
    if not isinstance(value, str) or not re.fullmatch(r"-?(\d+(\.\d+)?(ms|h|m|s))+", value):
        raise ValueError(f"time: missing unit in duration {json.dumps(value)}")
    if value.startswith("-"):
        return FOREVER
    return sum(float(n) * _UNITS[unit] for n, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|h|m|s)", value))


def generate(limit: object) -> tuple[list[str], str]:
    """Pieces of text, and why they end: by a small limit, else when all is said."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit > MOST_TOKENS:
        limit = None
    count = DEFAULT_TOKENS if limit is None else limit
    return [PIECES[n % len(PIECES)] for n in range(count)], "length" if limit is not None else "stop"


def timings(tokens: int, prompt: int) -> Json:
    """Nanoseconds, 10 ms a token."""
    return {
        "total_duration": 7_000_000 + 10_000_000 * tokens,
        "load_duration": 1_000_000,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 500_000,
        "eval_count": tokens,
        "eval_duration": 10_000_000 * tokens,
    }


def tool_call(tools: object) -> tuple[str, Json] | None:
    """Call the first tool that was offered, with a word for everything that it requires."""
    first = tools[0] if isinstance(tools, list) and tools else None
    if not isinstance(first, dict):
        return None
    function = first.get("function") or {}
    required = (function.get("parameters") or {}).get("required") or []
    return str(function.get("name")), dict.fromkeys(required, "hive")


def _date(now: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(now), UTC), usegmt=True)


def _is_own_host(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return not host or any(fnmatch(host.lower(), each) for each in _NAMES)
    return address.is_private or address.is_loopback or address.is_unspecified
