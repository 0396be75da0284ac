"""From what a server says to a call, to the fault that it is. Pure.

The texts are those of Ollama 0.33 (2026-08), llama.cpp (2026-10), vLLM 0.33 and LM Studio 0.4, as they were
recorded or stand in their sources; what nobody knows is passed on in the server's own words.
"""

from __future__ import annotations

import json
import re
import socket

import msgspec

from hived_client.agent.dialects import plain, said_error
from hived_client.errors import causes_of
from hived_client.resolution import Target, kind_or_common
from hived_client.vocabulary.faults import Fault, Value, fault
from hived_client.vocabulary.kinds import address, command, commands_at, shown_url

_TEXTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(pattern, re.IGNORECASE))
    for code, pattern in (
        ("call.no_tool_parser", r"enable-auto-tool-choice|tool-call-parser"),
        ("call.no_jinja", r"requires? --jinja|--jinja flag"),
        ("model.lacks", r"does not support tools"),
        ("call.queue_full", r"server busy|maximum pending requests|engine is currently busy"),
        (
            "call.no_memory",
            r"more system memory|out of memory|not enough memory|insufficient memory|failed to allocate"
            r"|unable to load full model on gpu|due to resource limitations|no available memory",
        ),
        (
            "call.context_exceeded",
            r"exceeds? the available context|maximum context length|longer than the context length"
            r"|context size has been exceeded|when context the overflows|exceeds the context length"
            r"|greater than max_model_len",
        ),
        ("server.loading", r"^loading model|model is currently scaling|model is loading"),
    )
)
"""Code, and what a server's text says then; the first that fits counts."""

_NO_MODEL = re.compile(r"(?<!page )not found|does not exist")
"""What a 404 says of a model; ``404 page not found`` is a Go server that does not know the path."""
SHORTEST_KEY = 4
"""Letters of a key; fewer are a word that may stand anywhere."""
_ENDED = ("peer closed connection", "Server disconnected")
"""How httpcore and h11 say that a connection ended too soon, with the error of an answer that is no HTTP."""

_QUEUE = {"ollama": "OLLAMA_MAX_QUEUE=1024 ollama serve"}
_MEMORY = {
    "ollama": "ollama ps",
    "lm_studio": "lms unload --all",
    "vllm": "vllm serve {model} --max-model-len 4096",
    "llamacpp": "llama-server --model FILE.gguf --ctx-size 4096",
}


def said_no(target: Target, status: int, body: bytes, *, cut_off: bool = False) -> Fault:
    """Return the fault for an answer that is none: a status, or an error within a 200.

    ``cut_off``: the stream ended without its last word, and what it said may tell why.
    """
    text = _words(without_key(body.decode("utf-8", "replace"), target.api_key))
    fields = _fields(target) | {"why": text.rstrip(".") or f"status {status} without a word"}
    if 300 <= status < 400:
        return fault("server.redirects", **fields)
    if status in (401, 403) or text in ("Unauthorized", "Invalid API Key"):
        return fault("server.unauthorised", **fields)
    code = next((code for code, pattern in _TEXTS if pattern.search(text)), None)
    if code is None and status == 404:
        code = "model.unknown" if _NO_MODEL.search(text) else None
    if code is not None:
        return fault(code, **fields)
    if cut_off and not text:
        return fault("call.broken_off", **(fields | {"why": "it ended without its last word"}))
    return fault("call.rejected" if 400 <= status < 500 else "call.failed", **fields)


def broken_off(target: Target, error: Exception | None = None) -> Fault:
    """Return the fault for a connection that ended before the answer did; ``error`` is httpx's.

    Its words are not passed on: they may quote a header, and with it the key.
    """
    name = type(error).__name__
    is_end = str(error).startswith(_ENDED)
    why = "its answer is not HTTP" if name == "RemoteProtocolError" and not is_end else "the connection ended"
    why = "it was silent for too long" if name.endswith("Timeout") else why
    why = "the request cannot be written as HTTP" if name == "LocalProtocolError" else why
    return fault("call.broken_off", **(_fields(target) | {"why": why}))


def no_connection(target: Target, error: Exception) -> Fault:
    """Return the fault for a server that could not be reached; ``error`` is httpx's."""
    fields = _fields(target)
    causes = causes_of(error)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return fault("server.down", **fields)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return fault("server.dns", **(fields | {"host": address(target.api_base)[0]}))
    words = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return fault("server.unreachable", **(fields | {"why": words[-1] if words else "no connection in time"}))


def silent(target: Target) -> Fault:
    """Return the fault for a server that takes connections and does not answer."""
    return fault("server.silent", **_fields(target))


def truncated(target: Target, *, sent: int, counted: int) -> Fault:
    """Return the fault for a prompt of which the server read only a part, without a word about it."""
    loaded = target.context
    return fault(
        "call.truncated",
        **(_fields(target) | {"sent": sent, "counted": counted, "loaded": loaded, "wanted": sent}),
    )


def cut_short(target: Target, allowed: int | None) -> Fault:
    """Return the fault for an answer that ended for want of room; ``allowed``: tokens that the agent gave."""
    fields = _fields(target)
    if allowed is not None:
        return fault("call.cut_short", **(fields | {"why": f"the agent allows {allowed:,} tokens"}))
    if target.context is None:
        return fault("call.cut_short", **(fields | {"why": "it was as long as the server lets it be"}))
    why = f"the context is {target.context:,} tokens"
    return fault("call.cut_short", **(fields | {"why": why, "wanted": 2 * target.context}))


def without_key(text: str, key: str | None) -> str:
    """Return all that a server said without the key that it was sent: there are gateways that repeat it.

    Before anything is shortened: the beginning of a key is a secret too. In JSON it may stand escaped.
    """
    if not key or len(key) < SHORTEST_KEY:
        return text
    escaped = json.dumps(key)[1:-1]
    return text.replace(key, "***").replace(escaped, "***").replace(escaped.replace("/", "\\/"), "***")


def _words(text: str) -> str:
    """Return a server's error as one short line, out of JSON, a server-sent event or plain text."""
    text = text.strip()
    for line in [text, *text.splitlines()]:
        written = line.removeprefix("data:").strip()
        try:
            said = said_error(msgspec.json.decode(written.encode()))
        except (msgspec.DecodeError, RecursionError):
            continue
        if said is not None:
            return said
    if not text or text[0] in "<{[" or "data:" in text[:200]:
        return ""  # a page for a browser, or the beginning of an answer
    return plain(text, 200)


def _fields(target: Target) -> dict[str, Value]:
    kind = commands_at(kind_or_common(target.provider, ()), target.api_base, target.locality)
    is_here = bool(kind.start)
    return {
        "title": kind.title,
        "url": shown_url(target.api_base.removesuffix("/v1")),
        "endpoint": target.endpoint,
        "model": target.name,
        "missing": "tools",
        "start": kind.start,
        "restart": "",
        "load": command(kind.load, target.name, asked=2 * (target.context or 4096)),
        "pull": command(kind.pull, target.name),
        "queue": _QUEUE.get(target.provider, "") if is_here else "",
        "memory": command(_MEMORY.get(target.provider, ""), target.name) if is_here else "",
        "key_ref": target.key_ref or "the configuration",
        "variable": target.key_ref,
        "seems": "",
    }
