"""Endpoints by name, as a question sees them: one may be decoded only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Model, World


class Head(Protocol):
    """What is known of an endpoint before it is decoded."""

    @property
    def name(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...


class Catalogue(Protocol):
    """Endpoints by name; an implementation may decode one only when it is asked for."""

    @property
    def heads(self) -> Sequence[Head]: ...
    @property
    def kinds(self) -> tuple[ProviderKind, ...]: ...
    def endpoint(self, name: str) -> Endpoint: ...


class WorldCatalogue:
    """A World, seen as a catalogue."""

    def __init__(self, world: World) -> None:
        self.heads: Sequence[Head] = world.endpoints
        self.kinds = world.kinds
        self._by_name = {endpoint.name: endpoint for endpoint in world.endpoints}

    def endpoint(self, name: str) -> Endpoint:
        return self._by_name[name]


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that a question may mean, and the model that it has of that name."""

    endpoint: Endpoint
    model: Model | None

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Smaller is better: given before guessed, ready before not, loaded before unloaded."""
        return (
            self.endpoint.source in GUESSED,
            self.endpoint.state not in CALLABLE,
            self.model is None or self.model.state not in (None, "loaded"),
        )


def prefixes(catalogue: Catalogue) -> Iterator[str]:
    """Yield every name that an endpoint goes by."""
    for head in catalogue.heads:
        yield head.name
        yield from head.aliases
