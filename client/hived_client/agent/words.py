"""What is said to a model and what comes back, in the shapes of OpenAI's chat API.

Messages and tools are plain dictionaries of that API, since every agent has them already in that shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Message = Mapping[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": …, "tool_calls"?, "tool_call_id"?}``."""
Tool = Mapping[str, Any]
"""``{"type": "function", "function": {"name", "description"?, "parameters"}}``."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One turn that is asked of a model."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    max_tokens: int | None = None
    """Tokens that the answer may have; ``None``: as many as the server allows."""
    temperature: float | None = None
    seed: int | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One function that the model wants called."""

    id: str
    name: str
    arguments: str
    """A JSON object as text, as the model wrote it; it may be broken."""

    @property
    def sound(self) -> str:
        """The arguments as text that is surely an object: what is none is left out."""
        kept = self.arguments or "{}"
        return kept if isinstance(read_arguments(kept), dict) else "{}"


def read_arguments(written: str) -> dict[str, Any] | str:
    """Return what a model gave with a call; text says why it is nothing, for the model to read."""
    try:
        given = msgspec.json.decode(written or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        return f"the arguments are not JSON: {error}"
    return given if isinstance(given, dict) else "the arguments are not an object"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, as the server counted them. ``None``: it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Piece(msgspec.Struct, frozen=True):
    """What came just now."""

    text: str = ""
    reasoning: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer: the last thing that a stream gives."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """``stop``, ``length``, ``tool_calls``, …; ``None`` where the server did not say."""
    usage: Usage = Usage()
    model: str | None = None
    """The model that answered, by the server's own words."""

    def message(self) -> dict[str, Any]:
        """Return the answer as the next message of the conversation.

        Servers read the arguments of the calls in it again, and one that is broken would have them refuse the
        whole conversation (llama.cpp does, and vLLM): the model is told what was wrong by the call's result.
        """
        said: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            said["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.sound},
                }
                for call in self.tool_calls
            ]
        return said


def legible(text: str) -> str:
    """Write halves of characters as their numbers: no message can hold them, and no server reads them."""
    return text.encode("utf-8", "backslashreplace").decode()


def tool_result(call: ToolCall, content: str) -> dict[str, Any]:
    """Return the message that tells a model what came of a call."""
    return {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content}
