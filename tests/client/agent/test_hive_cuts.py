"""Prompts of Hive's that a server cut, by what it counted."""

from __future__ import annotations

from typing import Any

import pytest

from hived_client.agent.hive_cuts import MOST, Cuts, request_of
from hived_client.agent.words import Request
from hived_client.resolution import Target

TARGET = Target(
    model="ollama_chat/m", api_base="http://h:1", endpoint="lab", provider="ollama", name="m", context=4096
)


def asked(first: str, letters: int) -> Request:
    messages = [{"role": "system", "content": first}, {"role": "user", "content": "go"}]
    return request_of({"messages": [*messages, {"role": "tool", "content": "x" * letters}]})


def test_conversations_with_other_tokens_do_not_make_each_other_look_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuts = Cuts()
    for letters in range(1000, 9000, 1000):
        cuts.heard(TARGET, asked("code", letters), letters // 2)  # two bytes a token
        cuts.heard(TARGET, asked("prose", 2 * letters), 2 * letters // 5)
    assert caplog.messages == []
    cuts.heard(TARGET, asked("code", 16_000), 4000)
    assert len(caplog.messages) == 1
    cuts.heard(TARGET, asked("code", 17_000), 4000)
    assert len(caplog.messages) == 1


class Listed:
    """A message of some library's, with members and without being a dict."""

    def __contains__(self, name: object) -> bool:
        return True


@pytest.mark.parametrize("messages", [[object()], "text", None, [{"content": object()}], [{}, {}, Listed()]])
@pytest.mark.parametrize("counted", [None, "7", 7, -1])
def test_what_cannot_be_measured_is_passed_over(messages: Any, counted: object) -> None:
    Cuts().heard(TARGET, request_of({"messages": messages}), counted)


def test_only_the_last_conversations_are_remembered() -> None:
    cuts = Cuts()
    for number in range(MOST + 9):
        cuts.heard(TARGET, asked(str(number), 10), 10)
    assert repr(cuts) == f"<Cuts, {MOST} conversations>"
