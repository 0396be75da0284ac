"""What changed between two Worlds, in the words that people and subscribers are told. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hived.decisions.hardware import at_rest
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.world import Change, Endpoint, Model, World


def changes(before: World, after: World, at: float) -> tuple[Change, ...]:
    """Return the differences in a stable order: the configuration, then endpoint by endpoint."""
    return tuple(_changes(before, after, at))


def _changes(before: World, after: World, at: float) -> Iterator[Change]:
    if before.configuration != after.configuration and after.configuration is not None:
        yield Change(
            event="configuration.changed",
            at=at,
            before=before.configuration.state if before.configuration else None,
            after=after.configuration.state,
            reason=after.configuration.error,
        )
    yield from _of_hardware(before.hardware, after.hardware, at)
    old = {endpoint.name: endpoint for endpoint in before.endpoints}
    new = {endpoint.name: endpoint for endpoint in after.endpoints}
    for name in (name for name in old if name not in new):
        yield Change(event="endpoint.removed", at=at, endpoint=name, before=old[name].state)
    for name, endpoint in new.items():
        known = old.get(name)
        if known is endpoint:
            continue
        if known is None:
            yield Change(event="endpoint.added", at=at, endpoint=name, after=endpoint.state)
        told = False
        for change in _of_endpoint(known, endpoint, at):
            told = True
            yield change
        if known is not None and not told and _content(known) != _content(endpoint):
            yield Change(event="endpoint.changed", at=at, endpoint=name, reason=endpoint.reason)


def _of_hardware(before: Hardware | None, after: Hardware | None, at: float) -> Iterator[Change]:
    """Tell of another machine, not of memory that moves."""
    if after is None or before is after or (before is not None and at_rest(before) == at_rest(after)):
        return
    reason = after.problems[0] if after.problems else None
    was = before.runs_on if before is not None else None
    yield Change(event="hardware.changed", at=at, before=was, after=after.runs_on, reason=reason)


def _content(endpoint: Endpoint) -> Endpoint:
    """Leave out what is bookkeeping: dates and the row of the beat file."""
    return msgspec.structs.replace(endpoint, since=None, models_at=None, slot=-1)


def _of_endpoint(before: Endpoint | None, after: Endpoint, at: float) -> Iterator[Change]:
    name = after.name
    if before is not None and before.url != after.url:
        yield Change(event="endpoint.moved", at=at, endpoint=name, before=before.url, after=after.url)
    if before is not None and before.state != after.state:
        yield Change(
            event="endpoint.state",
            at=at,
            endpoint=name,
            before=before.state,
            after=after.state,
            reason=after.reason,
        )
    if before is not None and before.version and before.version != after.version:
        yield Change(
            event="endpoint.version", at=at, endpoint=name, before=before.version, after=after.version
        )
    if before is not None and before.models is after.models:
        return
    old = {model.name: model for model in (before.models if before else None) or ()}
    new = {model.name: model for model in after.models or ()}
    for model in (model for model in old if model not in new):
        yield Change(event="model.removed", at=at, endpoint=name, model=model)
    for model, found in new.items():
        known = old.get(model)
        if known is None:
            yield Change(event="model.added", at=at, endpoint=name, model=model, after=found.state)
        elif known != found:
            yield _of_model(name, known, found, at)


def _of_model(endpoint: str, before: Model, after: Model, at: float) -> Change:
    if before.state != after.state:
        return Change(
            event="model.state",
            at=at,
            endpoint=endpoint,
            model=after.name,
            before=before.state,
            after=after.state,
            reason=after.fault,
        )
    if before.progress != after.progress and after.progress is not None:
        return Change(
            event="model.progress",
            at=at,
            endpoint=endpoint,
            model=after.name,
            before=_share(before.progress),
            after=_share(after.progress),
        )
    return Change(event="model.changed", at=at, endpoint=endpoint, model=after.name)


def _share(progress: float | None) -> str | None:
    return None if progress is None else f"{progress:.0%}"
