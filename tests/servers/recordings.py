"""What real servers answered, recorded once: the measure of every fake in this folder.

Each line of ``transcripts/*.jsonl`` is one call to a real server of that name (llama.cpp of 2026-10,
a generated model, made-up paths), in the order in which it was made. ``check_same`` says what must be
equal in a fake's answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TRANSCRIPTS = Path(__file__).with_name("transcripts")

# Set aside when two bodies are compared: a clock, a dice or a port decides them, not the server.
DYNAMIC = frozenset(
    {
        "cached_tokens",
        "completion_tokens",
        "content",  # the text that was generated
        "created",
        "id",  # of a chat completion; ids of models are compared by name, see ``settled``
        "media_marker",
        "n_prompt_tokens",
        "prompt_tokens",
        "total_tokens",
    }
)


@dataclass(frozen=True)
class Call:
    """One question to a real server and its answer."""

    method: str
    path: str
    body: object
    status: int
    headers: dict[str, str]
    """Names in lower case, in the order in which they came."""
    text: str

    @property
    def length_varies(self) -> bool:
        """Whether another length is no difference.

        The paths in the recordings were shortened, the lengths in their headers were not; and the text of
        a chat is its model's.
        """
        told = self.headers.get("content-length")
        return "chat" in self.path or (told is not None and int(told) != len(self.text.encode()))

    @property
    def content(self) -> bytes | None:
        """The body of the question as it goes over the wire."""
        return None if self.body is None else json.dumps(self.body).encode()


@cache
def read_transcript(server: str) -> tuple[Call, ...]:
    """Read every call that was recorded with a server."""
    lines = (TRANSCRIPTS / f"{server}.jsonl").read_text(encoding="utf-8").splitlines()
    fields = ("method", "path", "body", "status", "headers", "text")
    return tuple(Call(*(json.loads(line)[field] for field in fields)) for line in lines)


@cache
def recorded(server: str, method: str, path: str, nth: int = 0) -> Call:
    """Find the n-th recording of one question; ``LookupError`` if it was never asked."""
    calls = [call for call in read_transcript(server) if (call.method, call.path) == (method, path)]
    if nth >= len(calls):
        raise LookupError(f"{method} {path} was recorded {len(calls)} times with {server}")
    return calls[nth]


def check_same(call: Call, status: int, headers: dict[str, str], text: str) -> None:
    """Assert that an answer is the recorded one but for what is ``DYNAMIC``; header names are lower case."""
    where = f"{call.method} {call.path}"
    assert status == call.status, where
    assert list(headers) == list(call.headers), where
    for name, value in headers.items():
        if name != "content-length" or not call.length_varies:
            assert value == call.headers[name], f"{where}: {name}"
    if "content-length" in headers:
        assert int(headers["content-length"]) == len(text.encode()), where
    assert [repr(settled(each)) for each in _values(text)] == [
        repr(settled(each)) for each in _values(call.text)
    ], where


def _values(text: str) -> list[object]:
    """Read one JSON value, the events of a stream, or the lines of plain text."""
    if text.startswith(("{", "[")):
        return [json.loads(text)]
    return [json.loads(line[6:]) if line.startswith("data: {") else line for line in text.splitlines()]


def settled(value: object, key: str = "") -> object:
    """Copy a JSON value with every dynamic field replaced by the name of its type.

    Dynamic are the fields of ``DYNAMIC``, every number in ``timings``, and the word after ``--port``.
    Keys stay in their order: compare the ``repr`` of two copies.
    """
    if isinstance(value, dict):
        return {name: settled(each, "timings" if key == "timings" else name) for name, each in value.items()}
    if isinstance(value, list):
        before = ["", *value]
        return [
            "<port>" if before[n] == "--port" and each != "0" else settled(each, key)
            for n, each in enumerate(value)
        ]
    if key == "timings" or (key in DYNAMIC and not (key == "id" and not str(value).startswith("chatcmpl-"))):
        return f"<{type(value).__name__}>"
    return value
