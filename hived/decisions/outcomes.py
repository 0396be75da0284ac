"""What a look at a server can come to, before anybody judges what it means."""

from __future__ import annotations

from typing import Literal

import msgspec

from hived_client.vocabulary.world import Model

Silence = Literal["refused", "unreachable", "dns", "silent", "broken", "redirect", "failed"]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """The server is what it should be, and said this of itself."""

    state: Literal["ready", "loading", "sleeping", "busy"]
    version: str | None = None
    mode: str | None = None
    models: tuple[Model, ...] | None = None
    """``None``: it did not say this time."""
    forwards: bool = False
    """Whether it may hand calls on to another machine, as far as is known: a gateway."""


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """The server is what it should be, and wants a key that we do not have."""

    version: str | None = None


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """Something else answers."""

    seems: str = ""
    """What it seems to be, as `` (it seems to be …)``, or nothing."""
    models: tuple[Model, ...] | None = None
    """Its models, where it speaks a dialect that can be used all the same."""


class NoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """There was no answer that can be used, or one that says that the server is broken: ``failed``."""

    kind: Silence
    why: str = ""


Outcome = Heard | Locked | Stranger | NoAnswer


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known at that moment."""

    at: float
    """Seconds since the epoch."""
    latency: float | None = None
    process_alive: bool | None = None
    """Whether the process that hived started is there; ``None`` where it started none."""
    last_words: str = ""
    """What the log of an ended process says, where that tells why."""
    starting_until: float = 0.0
    """Until when a refused connection to a living process still means that it is starting."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one look showed, ready to become part of the World."""

    endpoint: str
    at: float
    outcome: Outcome
    circumstances: Circumstances
