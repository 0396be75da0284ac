"""What a provider's probe is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hived.decisions.outcomes import Outcome
from hived_client.vocabulary.world import Endpoint


class Probe(Protocol):
    """How one kind of server is looked at. What it needs to know of one server is in the endpoint."""

    @property
    def provider(self) -> str: ...

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask the server how it is. Never raises; safe to cancel.

        ``thorough``: believe nothing that was seen before. Otherwise one cheap request is enough to
        confirm that nothing changed.
        """
        ...

    def has_push(self, endpoint: Endpoint) -> bool:
        """Tell whether this server says by itself that something changed."""
        ...

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Call ``told`` whenever the server says that something changed, until it stops saying so.

        Never raises; safe to cancel.
        """
        ...
