"""What a look at a server can come to, before anybody judges what it means."""

from __future__ import annotations

from typing import Literal

import msgspec

from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import Installation, Model

Silence = Literal["refused", "closed", "unreachable", "dns", "silent", "broken", "redirect", "failed"]
"""``closed``: refused, while the program that would serve there is open and could be told to."""


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
    cut: bool = False
    """Whether the connection ended in the middle: whoever was there may have gone."""


Outcome = Heard | Locked | Stranger | NoAnswer

Inside = Literal["wsl", "docker", "podman"]
"""What this system runs in, where its loopback is not that of the machine around it."""


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
    stage: str = ""
    """How far a start is, by the log of a server that hived started: ``loading weights``."""
    launching_since: float | None = None
    """When a process began (seconds since the epoch) that will listen there and does not yet."""
    forwarder: str | None = ""
    """The program that listens there, where that hands connections on to who knows where.

    ``None``: which program listens could not be told in time.
    """
    key_unset: bool = False
    """Whether the variable that names the server's key is not set where hived runs."""
    other: str = ""
    """The same port at the other family's loopback (``127.0.0.1:11434``), where that accepts."""
    installation: Installation | None = None
    """The server's program on this device; ``None``: not known."""
    inside: Inside | None = None
    verdict: Fault | None = None
    """What hived has to say of a server that is down: that it could not start it, or starts it again."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one look showed, ready to become part of the World."""

    endpoint: str
    at: float
    outcome: Outcome
    circumstances: Circumstances
