"""Two dialects of chat over HTTP: OpenAI's, and Ollama's own. Pure: bytes in, words out.

Ollama has its own because only there the context of a call (``num_ctx``) can be set. Streams are trusted in
nothing: a line may be anything, an error may stand in the middle of a stream with status 200, and a stream
that ends without its last word was cut off.

Sources: OpenAI's API reference (chat completions, server-sent events); Ollama's ``docs/api.md`` (newline
delimited JSON, the last line has ``done``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from hived_client.agent.words import Message, Piece, Reply, Request, ToolCall, Usage, read_arguments

MOST_CALLS = 128
"""Tool calls in one answer that are read."""


class Broken(Exception):
    """The server said something that is no answer, or an error within one; the text says what."""


class Reader(Protocol):
    """Reads one answer, line by line."""

    @property
    def done(self) -> bool:
        """Whether the server has said its last word."""
        ...

    def read(self, line: bytes) -> Piece | None:
        """Take in one line. Raises ``Broken``."""
        ...

    def reply(self) -> Reply:
        """Return all that was read."""
        ...


class Dialect(Protocol):
    """How a request is written and its answer read."""

    path: str
    """What follows ``api_base``."""

    glance: str
    """The same of a small question, which a server with a thread left answers at once, even at work."""

    def body(self, model: str, request: Request, extra: Mapping[str, int]) -> dict[str, Any]:
        """Return the JSON to send; the answer will be a stream."""
        ...

    def reader(self) -> Reader:
        """Return what reads the answer."""
        ...


class _Heard:
    """What both readers gather."""

    def __init__(self) -> None:
        self.done = False
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.usage = Usage()
        self.model: str | None = None

    def piece(self, text: object, reasoning: object) -> Piece | None:
        found = Piece(text if isinstance(text, str) else "", reasoning if isinstance(reasoning, str) else "")
        if not found.text and not found.reasoning:
            return None
        self.text.append(found.text)
        self.reasoning.append(found.reasoning)
        return found

    def whole(self, calls: Sequence[ToolCall]) -> Reply:
        return Reply(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(calls),
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
        )


# OpenAI's.


class OpenAi:
    """``POST /chat/completions``, a stream of server-sent events that ends with ``[DONE]``."""

    path = "/chat/completions"
    glance = "/models"

    def body(self, model: str, request: Request, extra: Mapping[str, int]) -> dict[str, Any]:
        """Return the JSON to send; usage is asked for, which a stream leaves out otherwise."""
        body: dict[str, Any] = {
            "model": model,
            "messages": list(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **extra,
        }
        if request.tools:
            body["tools"] = list(request.tools)
        for name in ("max_tokens", "temperature", "seed"):
            if getattr(request, name) is not None:
                body[name] = getattr(request, name)
        return body

    def reader(self) -> Reader:
        """Return what reads the answer."""
        return _OpenAiReader()


class _OpenAiReader:
    def __init__(self) -> None:
        self._heard = _Heard()
        self._calls: dict[int, dict[str, str]] = {}

    @property
    def done(self) -> bool:
        return self._heard.done

    def read(self, line: bytes) -> Piece | None:
        name, colon, data = line.partition(b":")
        if not colon or name != b"data":
            return None  # a comment, a name or an empty line: the data says it all
        data = data.strip()
        if data == b"[DONE]":
            self._heard.done = True
            return None
        chunk = _object(data)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._heard.usage = Usage(
                prompt_tokens=_count(usage.get("prompt_tokens")),
                completion_tokens=_count(usage.get("completion_tokens")),
            )
        self._heard.model = _text(chunk.get("model")) or self._heard.model
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return None
        self._heard.finish_reason = _text(choice.get("finish_reason")) or self._heard.finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return None
        self._take_calls(delta.get("tool_calls"))
        # vLLM calls it `reasoning`, the others `reasoning_content`.
        return self._heard.piece(
            delta.get("content"), delta.get("reasoning_content") or delta.get("reasoning")
        )

    def reply(self) -> Reply:
        calls = [
            ToolCall(id=call["id"] or f"call_{index}", name=call["name"], arguments=call["arguments"] or "{}")
            for index, call in sorted(self._calls.items())
            if call["name"]
        ]
        return self._heard.whole(calls)

    def _take_calls(self, deltas: object) -> None:
        for position, delta in enumerate(deltas if isinstance(deltas, list) else ()):
            if not isinstance(delta, dict):
                continue
            index = delta.get("index")
            index = index if isinstance(index, int) and not isinstance(index, bool) else position
            if index not in self._calls and len(self._calls) >= MOST_CALLS:
                continue
            call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or _text(delta.get("id")) or ""
            function = delta.get("function")
            if isinstance(function, dict):
                call["name"] = call["name"] or _text(function.get("name")) or ""
                call["arguments"] += _text(function.get("arguments")) or ""


# Ollama's own.


class Ollama:
    """``POST /api/chat``, a stream of JSON lines of which the last has ``done``."""

    path = "/api/chat"
    glance = "/api/version"

    def body(self, model: str, request: Request, extra: Mapping[str, int]) -> dict[str, Any]:
        """Return the JSON to send; everything about how to generate is an option."""
        options: dict[str, Any] = dict(extra)
        if request.max_tokens is not None:
            options["num_predict"] = request.max_tokens
        for name in ("temperature", "seed"):
            if getattr(request, name) is not None:
                options[name] = getattr(request, name)
        body: dict[str, Any] = {
            "model": model,
            "messages": [_for_ollama(message) for message in request.messages],
            "stream": True,
        }
        if request.tools:
            body["tools"] = list(request.tools)
        if options:
            body["options"] = options
        return body

    def reader(self) -> Reader:
        """Return what reads the answer."""
        return _OllamaReader()


class _OllamaReader:
    def __init__(self) -> None:
        self._heard = _Heard()
        self._calls: list[ToolCall] = []

    @property
    def done(self) -> bool:
        return self._heard.done

    def read(self, line: bytes) -> Piece | None:
        if not line.strip():
            return None
        chunk = _object(line)
        heard = self._heard
        heard.model = _text(chunk.get("model")) or heard.model
        if chunk.get("done") is True:
            heard.done = True
            heard.finish_reason = _text(chunk.get("done_reason"))
            heard.usage = Usage(
                prompt_tokens=_count(chunk.get("prompt_eval_count")),
                completion_tokens=_count(chunk.get("eval_count")),
            )
        message = chunk.get("message")
        if not isinstance(message, dict):
            return None
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            name = _text(function.get("name")) if isinstance(function, dict) else None
            if isinstance(function, dict) and name and len(self._calls) < MOST_CALLS:
                arguments = function.get("arguments")
                written = arguments if isinstance(arguments, str) else _json(arguments or {})
                identity = _text(call.get("id")) or f"call_{len(self._calls)}"
                self._calls.append(ToolCall(id=identity, name=name, arguments=written))
        return heard.piece(message.get("content"), message.get("thinking"))

    def reply(self) -> Reply:
        if self._calls and self._heard.finish_reason == "stop":
            self._heard.finish_reason = "tool_calls"  # as OpenAI's dialect says it
        return self._heard.whole(self._calls)


def _for_ollama(message: Message) -> dict[str, Any]:
    """Write a message as Ollama has it: arguments are objects, pictures stand beside the text."""
    content = message.get("content")
    said: dict[str, Any] = {"role": message.get("role", "user"), "content": content or ""}
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        said["content"] = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        urls = [str((part.get("image_url") or {}).get("url", "")) for part in parts if part.get("image_url")]
        # Only what is in the message itself: nothing is fetched for it.
        images = [url.partition(",")[2] for url in urls if url.startswith("data:")]
        if images:
            said["images"] = images
    calls = []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = read_arguments(arguments)
        given = arguments if isinstance(arguments, Mapping) else {}
        calls.append({"function": {"name": function.get("name", ""), "arguments": given}})
    if calls:
        said["tool_calls"] = calls
    if said["role"] == "tool" and message.get("name"):
        said["tool_name"] = message["name"]
    return said


def dialect_of(litellm: str) -> Dialect:
    """Return the dialect for LiteLLM's prefix: what ends in ``/v1`` speaks OpenAI's."""
    return Ollama() if litellm == "ollama_chat" else OpenAi()


def said_error(document: object) -> str | None:
    """Return the text of an error in any of the servers' shapes, or ``None`` where there is none.

    ``{"error": "text"}`` (Ollama, vLLM's 401), ``{"error": {"message": …}}`` (OpenAI's), ``{"detail": …}``
    (FastAPI).
    """
    if not isinstance(document, dict):
        return None
    error = document.get("error", document.get("detail"))
    if isinstance(error, dict):
        error = error.get("message") or error.get("code") or "an error without words"
    if error is None:
        return None
    return plain(error if isinstance(error, str) else _json(error))


def plain(text: str, most: int = 500) -> str:
    """Return a server's words as one short line without control characters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Broken("it sent a line that is not JSON") from error
    if not isinstance(document, dict):
        raise Broken("it sent a line that is not an object")
    if document.get("error") is not None:
        raise Broken(said_error(document) or "an error without words")
    return document


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    return None
