"""The decision: which endpoint a question means, and whether its model can be called. Pure."""

from __future__ import annotations

from hived_client.resolution.catalogue import Candidate, Catalogue, prefixes
from hived_client.resolution.question import Answer, Question, Refusal
from hived_client.resolution.refusals import (
    alternatives,
    ambiguous,
    distance,
    missing,
    nowhere,
    refusal_of_state,
    unnamed,
)
from hived_client.resolution.targets import kind_at, restart_with, target_for
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind, command, kind_named, root_url
from hived_client.vocabulary.names import Name, find, parse
from hived_client.vocabulary.world import CALLABLE, Endpoint, Model


def answer(catalogue: Catalogue, question: Question) -> Answer:
    """Decide whether and how the model can be called. Never raises for any World or question."""
    name = parse(question.model, prefixes(catalogue), catalogue.kinds)
    if name is None:
        return unnamed(catalogue, question)
    endpoints = _concerned(catalogue, name)
    if not endpoints:
        return nowhere(catalogue, question, name)
    candidates = [Candidate(endpoint, _find(endpoint, name)) for endpoint in endpoints]
    holders = sorted((c for c in candidates if c.model is not None), key=lambda c: c.rank)
    if not holders:
        return missing(catalogue, candidates, name, question)
    # A server that a private question may not use is no choice while there is one that it may.
    holders = [c for c in holders if c.model and not distance(c.endpoint, c.model, question)] or holders
    best = holders[0]
    tied = [c for c in holders if c.rank == best.rank]
    # `ollama/x` means the endpoint called `ollama` before another one like it, or nothing would name it.
    tied = [c for c in tied if c.endpoint.name == name.prefix] or tied
    best = tied[0]
    if len(tied) > 1:
        return ambiguous(tied, name)
    assert best.model is not None
    return _judge(catalogue, best.endpoint, best.model, question)


def concerned(catalogue: Catalogue, question: Question) -> tuple[str, ...]:
    """Return the names of the endpoints that a question is about."""
    name = parse(question.model, prefixes(catalogue), catalogue.kinds)
    return () if name is None else tuple(endpoint.name for endpoint in _concerned(catalogue, name))


def _find(endpoint: Endpoint, name: Name) -> Model | None:
    """Find the model as it was written, then with a doubled prefix undone: `qwen/qwen3` may be its name."""
    return find(endpoint.models, name.written, endpoint.provider) or find(
        endpoint.models, name.model, endpoint.provider
    )


def _concerned(catalogue: Catalogue, name: Name) -> list[Endpoint]:
    prefix = name.prefix.casefold()
    named = [head.name for head in catalogue.heads if head.name == name.prefix]
    named = named or [head.name for head in catalogue.heads if head.name.casefold() == prefix]
    named = named or [h.name for h in catalogue.heads if prefix in (alias.casefold() for alias in h.aliases)]
    if name.kind is None or named:
        wanted = named
        kind = name.kind
        if kind is None and len(named) == 1:
            # `ollama` is both an endpoint's name and a provider's prefix: the prefix then means all of
            # the provider's endpoints, the one with that name among them.
            provider = next(head.provider for head in catalogue.heads if head.name == named[0])
            own = kind_named(provider, catalogue.kinds)
            if own is not None and prefix in own.prefixes:
                wanted = [head.name for head in catalogue.heads if head.provider == provider]
    else:
        wanted = [head.name for head in catalogue.heads if head.provider == name.kind.name]
    return [catalogue.endpoint(each) for each in wanted]


def _judge(catalogue: Catalogue, endpoint: Endpoint, model: Model, question: Question) -> Answer:
    kind = _kind(catalogue, endpoint)
    obstacle = (
        distance(endpoint, model, question)
        or _state(endpoint, model, kind)
        or _address(endpoint)
        or _model_state(endpoint, model)
        or _context(endpoint, model, question, kind)
        or _needs(model, question, kind)
    )
    if obstacle is not None:
        found = alternatives(catalogue, question, model.name)
        others = tuple(each for each in found if each != f"{endpoint.name}/{model.name}")
        return Refusal(fault=obstacle, alternatives=others, endpoint=endpoint.name)
    return target_for(endpoint, model, question, kind)


def _kind(catalogue: Catalogue, endpoint: Endpoint) -> ProviderKind:
    return kind_at(endpoint, catalogue.kinds)


def _state(endpoint: Endpoint, model: Model, kind: ProviderKind) -> Fault | None:
    if endpoint.state in CALLABLE:
        return None
    return refusal_of_state(endpoint, kind, model)


def _address(endpoint: Endpoint) -> Fault | None:
    """Refuse an endpoint without an address: without one LiteLLM would call a cloud host."""
    if root_url(endpoint.url):
        return None
    return fault("server.unreachable", url=endpoint.name, endpoint=endpoint.name, why="it has no address")


def _model_state(endpoint: Endpoint, model: Model) -> Fault | None:
    code = {
        "loading": "model.loading",
        "downloading": "model.downloading",
        "failed": "model.failed",
    }.get(model.state or "")
    if code is None:
        return None
    if model.fault is not None:
        return model.fault
    return fault(code, endpoint=endpoint.name, model=model.name, progress=model.progress, since=model.since)


def _context(endpoint: Endpoint, model: Model, question: Question, kind: ProviderKind) -> Fault | None:
    asked = question.context
    if asked is None:
        return None
    if kind.context_option is None and model.loaded_context is not None and asked > model.loaded_context:
        return fault(
            "context.exceeds_loaded",
            asked=asked,
            model=model.name,
            loaded=model.loaded_context,
            restart=restart_with(endpoint, asked),
            load=command(kind.load, model.name, asked=asked),
        )
    if model.context is not None and asked > model.context:
        return fault(
            "context.exceeds_native",
            asked=asked,
            endpoint=endpoint.name,
            model=model.name,
            native=model.context,
        )
    return None


def _needs(model: Model, question: Question, kind: ProviderKind) -> Fault | None:
    if model.capabilities is None:
        return None
    lacking = [need for need in question.needs if need not in model.capabilities]
    if not lacking:
        return None
    tools = command(kind.tools, model.name) if "tools" in lacking else ""
    return fault("model.lacks", model=model.name, missing=", ".join(lacking), tools=tools or None)
