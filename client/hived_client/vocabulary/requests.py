"""What servers are doing this very second, which is not part of the World: it moves all the time."""

from __future__ import annotations

import msgspec


class Requests(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many requests a server works on; ``None`` where it does not tell."""

    running: int | None = None
    """Requests that are being answered."""
    waiting: int | None = None
    """Requests that wait for their turn."""


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of every endpoint that tells of them, by the endpoint's name."""

    requests: dict[str, Requests]
