"""Notices that a server read only a part of what Hive sent it, which some do without a word.

Each conversation is measured by itself: how many bytes its tokens have is learnt from its own answers. What
was found is said once for a model, with the command that mends it, in the log.
"""

from __future__ import annotations

import logging
import zlib
from typing import Any

import msgspec

from hived_client.agent.call_faults import truncated
from hived_client.agent.context import Meter
from hived_client.agent.words import Request
from hived_client.errors import HivedError
from hived_client.resolution import Target

MOST = 256
"""Conversations that are remembered, the last ones."""

_BEGINNING = 2
"""Messages that tell one conversation from another: the instructions, and what was asked first."""

log = logging.getLogger("hived")


class Cuts:
    """What is known of the prompts of all calls. Threads may share one: something may be learnt twice."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str, int], Meter] = {}
        self._told: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<Cuts, {len(self._meters)} conversations>"

    def heard(self, target: Target, request: Request, counted: object) -> None:
        """Take in how many tokens of a prompt a server ``counted``; ``target`` has the context of the call.

        What cannot be measured is passed over: messages may be objects of some library's, which raise what
        they will, and the answer is there already.
        """
        if not isinstance(counted, int):
            return
        try:
            meter = self._meter(target, request)
            sent = meter.prompt(request)
            is_cut = meter.learn(request, counted, target.context)
        except Exception:  # noqa: BLE001 - whatever such a message raises
            return
        which = target.endpoint, target.name
        if is_cut and which not in self._told:
            self._told.add(which)
            log.warning("%s", HivedError(truncated(target, sent=sent, counted=counted)))

    def _meter(self, target: Target, request: Request) -> Meter:
        beginning = msgspec.json.encode(list(request.messages[:_BEGINNING]))
        which = target.endpoint, target.name, zlib.crc32(beginning)
        meter = self._meters.pop(which, None) or Meter()
        while len(self._meters) >= MOST:
            self._meters.pop(next(iter(self._meters)), None)
        self._meters[which] = meter
        return meter


def request_of(kwargs: dict[str, Any]) -> Request:
    """Return what a call of LiteLLM's asks."""
    return Request(
        messages=kwargs.get("messages") or (),
        tools=kwargs.get("tools") or (),
        max_tokens=kwargs.get("max_tokens"),
    )
