"""How many tokens a turn needs, before anybody has counted them. Pure but for what one run has learnt.

Nobody has the server's tokenizer here, so bytes are divided by a number: three, until the first answer has
told how many tokens its prompt really had (English prose has some 4.5 bytes a token, code and other scripts
fewer). The reserve for the answer is what was asked for, and not more than a quarter of what is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hived_client.agent.words import Request

BYTES_A_TOKEN = 3.0
LEAST_BYTES_A_TOKEN, MOST_BYTES_A_TOKEN = 1.0, 8.0
RESERVE = 1024
"""Tokens kept for an answer where nobody said how long it may be."""
SURELY = 0.75
"""Share of the tokens that one expects of a prompt below which it was cut."""


class Meter:
    """Learns, over one run, how many bytes a token has with this model."""

    def __init__(self) -> None:
        self.bytes_a_token = BYTES_A_TOKEN
        self._learnt = False
        self._before = (0, 0)

    def __repr__(self) -> str:
        return f"<Meter {self.bytes_a_token:.1f} bytes a token>"

    def prompt(self, request: Request) -> int:
        """Return the tokens that a prompt has, about."""
        return int(written(request.messages, request.tools) / self.bytes_a_token) + 1

    def needs(self, request: Request) -> int:
        """Return the context that a turn needs: its prompt and its answer."""
        return self.prompt(request) + min(request.max_tokens or RESERVE, RESERVE)

    def learn(self, request: Request, counted: int | None, context: int | None) -> bool:
        """Take in how many tokens the server counted; tell whether it read only a part of the prompt.

        Some servers cut a prompt that is too long and say nothing of it (Ollama, from the front): then the
        count is about the context, and far below what such a prompt has.
        """
        if not counted:
            return False
        size = written(request.messages, request.tools)
        expected = size / (self.bytes_a_token if self._learnt else MOST_BYTES_A_TOKEN)
        (size_before, counted_before), self._before = self._before, (size, counted)
        if context is not None:
            over = counted <= context < expected and counted < SURELY * expected
            # A conversation only grows: fewer tokens than before, near the end of the room, were cut.
            shrunk = (
                size >= size_before and counted < SURELY * counted_before and 2 * counted_before > context
            )
            if over or shrunk:
                return True
        ratio = size / counted
        if LEAST_BYTES_A_TOKEN <= ratio <= MOST_BYTES_A_TOKEN:
            self.bytes_a_token, self._learnt = ratio, True
        return False


def written(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
    """Return the bytes of what a model is to read, its pictures apart."""
    bare = [
        {k: v for k, v in message.items() if k != "images"} if "images" in message else message
        for message in messages
    ]
    return len(msgspec.json.encode([bare, list(tools)]))
