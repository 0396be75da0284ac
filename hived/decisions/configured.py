"""What the configuration says of models: which endpoint it is about, and what of it is not there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hived.decisions.addresses import place
from hived_client.resolution import meant
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind, command
from hived_client.vocabulary.names import undouble
from hived_client.vocabulary.world import CALLABLE, ConfiguredModel, Endpoint

IN_USE = frozenset({"llm", "worker_llm", "vision_fallback"})
"""Hive's sections that its next run uses; what lies in its library is only kept there."""


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """What one section says, before it is known which endpoint it is about."""

    provider: str
    url: str | None
    """``None``: the section names no address, and means the provider's own."""
    model: ConfiguredModel


def attach(endpoints: Iterable[Endpoint], configured: Iterable[Configured]) -> tuple[Endpoint, ...]:
    """Give each endpoint what is configured for it.

    A section with an address is about the endpoint at that place, whatever its provider is called there; one
    without is about the provider's first endpoint: given before guessed, as they come.
    """
    found = list(endpoints)
    mine: dict[int, list[ConfiguredModel]] = {}
    for each in configured:
        position = _position(found, each)
        if position is not None:
            mine.setdefault(position, []).append(each.model)
    return tuple(
        msgspec.structs.replace(endpoint, configured=tuple(mine[position])) if position in mine else endpoint
        for position, endpoint in enumerate(found)
    )


def is_in_use(endpoint: Endpoint) -> bool:
    """Tell whether Hive's next run needs this endpoint: then it is no guess, wherever its URL came from."""
    return any(each.origin in IN_USE for each in endpoint.configured)


def missing_models(endpoint: Endpoint, kind: ProviderKind) -> Iterator[Fault]:
    """Yield a fault for each model that Hive's next run wants of an endpoint, and that it has not."""
    if endpoint.models is None or endpoint.state not in CALLABLE:
        return
    told: set[str] = set()
    for each in endpoint.configured:
        if each.model is None or each.origin not in IN_USE or meant(each, endpoint, kind) is not None:
            continue
        name = undouble(each.model, kind.prefixes)
        if name not in told:
            told.add(name)
            pull = command(kind.pull, name)
            yield fault("model.unknown", endpoint=endpoint.name, model=name, pull=pull)


def _position(endpoints: list[Endpoint], configured: Configured) -> int | None:
    if configured.url is not None:
        where = place(configured.url)
        return next((n for n, endpoint in enumerate(endpoints) if place(endpoint.url) == where), None)
    return next((n for n, endpoint in enumerate(endpoints) if endpoint.provider == configured.provider), None)
