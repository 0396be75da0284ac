"""The question and its answer: can this model be called now, and exactly how? Pure.

``answer(catalogue, question)`` reads nothing but its arguments, so the daemon and its clients give the
same answer from the same World. What depends on the caller (keys in its environment, the age of the
facts) is added by the caller afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from hived_client.errors import Refused
from hived_client.vocabulary.faults import Fault, Value, fault, quoted
from hived_client.vocabulary.kinds import ProviderKind, api_base, kind_named, root_url
from hived_client.vocabulary.names import Name, find, near, parse
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Locality, Model, State, World

LONGEST_NAME = 4096
"""Characters of a model's name; some servers call a model by its path."""
MOST_CONTEXT = 2**40
"""Tokens that a question may ask for."""
DEFAULT_CONTEXT = 16_384
"""Tokens asked of a server that takes the context a call at a time, where nobody asked for more."""


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller wants to know."""

    model: str
    context: int | None = None
    """Tokens that prompt and output need together."""
    needs: tuple[str, ...] = ()
    """Capabilities that must be there: ``tools``, ``vision``, ``embedding``, ``thinking``."""
    private: bool | str = False
    """``True``: this device only. ``"lan"``: this device or this network."""

    @classmethod
    def of(cls, model: str, *, context: int | None, needs: Iterable[str], private: bool | str) -> Question:
        """Make a question of what a caller gave; one capability may be given as plain text.

        Raises ``Refused`` (``question.invalid``) for what no question can be.
        """
        why = _no_question(model, context)
        if why:
            raise Refused(fault("question.invalid", why=why))
        wanted = (needs,) if isinstance(needs, str) else tuple(sorted(needs))
        return cls(model=model, context=context, needs=wanted, private=private)


def _no_question(model: object, context: object) -> str:
    if not isinstance(model, str):
        return "the name of a model is text"
    if len(model) > LONGEST_NAME:
        return f"a model's name has at most {LONGEST_NAME} characters"
    if not model.isprintable():
        return "a model's name has no control characters and no halves of characters"
    if context is not None and (not isinstance(context, int) or not 0 < context <= MOST_CONTEXT):
        return f"a context is a whole number of tokens from 1 to {MOST_CONTEXT}"
    return ""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer, ready to call."""

    model: str
    """The model as LiteLLM wants it."""
    api_base: str
    endpoint: str
    provider: str
    name: str
    """The model as its server calls it."""
    api_key: str | None = None
    key_ref: str | None = None
    """The environment variable that ``api_key`` was read from; ``None`` for a placeholder."""
    extra: dict[str, int] = {}
    context: int | None = None
    locality: Locality | None = None
    state: State = "unknown"
    warnings: tuple[Fault, ...] = ()
    age: float | None = None
    """Seconds since the endpoint was last seen; ``None`` where it never was."""
    facts: dict[str, str | int | float | bool] = {}
    """The model's facts in the shape of ``litellm.model_cost``."""

    def completion_kwargs(self) -> dict[str, str | int]:
        """Return the arguments of ``litellm.completion`` that belong to the model."""
        kwargs: dict[str, str | int] = {"model": self.model, "api_base": self.api_base, **self.extra}
        if self.api_key is not None:
            kwargs["api_key"] = self.api_key
        return kwargs

    def shown(self) -> Target:
        """Return the same without the user's key, for anything that is printed, sent or logged."""
        return msgspec.structs.replace(self, api_key="***") if self.key_ref and self.api_key else self

    def __repr__(self) -> str:
        return f"<Target {self.model} at {self.api_base} ({self.endpoint}, {self.state})>"


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that is no."""

    fault: Fault
    alternatives: tuple[str, ...] = ()
    endpoint: str | None = None
    """The endpoint whose next look could change the answer."""


Answer = Target | Refusal


class Head(Protocol):
    """What is known of an endpoint before it is decoded."""

    @property
    def name(self) -> str: ...
    @property
    def provider(self) -> str: ...


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


class _Candidate(msgspec.Struct, frozen=True):
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


def answer(catalogue: Catalogue, question: Question) -> Answer:
    """Decide whether and how the model can be called. Never raises for any World or question."""
    name = parse(question.model, (head.name for head in catalogue.heads), catalogue.kinds)
    if name is None:
        return _unnamed(catalogue, question)
    endpoints = _concerned(catalogue, name)
    if not endpoints:
        return _nowhere(catalogue, question, name)
    candidates = [_Candidate(endpoint, _find(endpoint, name)) for endpoint in endpoints]
    holders = sorted((c for c in candidates if c.model is not None), key=lambda c: c.rank)
    if not holders:
        return _missing(catalogue, candidates, name)
    # A server that a private question may not use is no choice while there is one that it may.
    holders = [c for c in holders if c.model and not _private(c.endpoint, c.model, question)] or holders
    best = holders[0]
    tied = [c for c in holders if c.rank == best.rank]
    # `ollama/x` means the endpoint called `ollama` before another one like it, or nothing would name it.
    tied = [c for c in tied if c.endpoint.name == name.prefix] or tied
    best = tied[0]
    if len(tied) > 1:
        return _ambiguous(tied, name)
    assert best.model is not None
    return _judge(catalogue, best.endpoint, best.model, question)


def refusal_of_state(endpoint: Endpoint, kind: ProviderKind) -> Fault:
    """Say why an endpoint in this state cannot be called."""
    if endpoint.reason is not None:
        return endpoint.reason
    fields = fault_fields(endpoint, kind)
    code = {
        "down": "server.down",
        "unreachable": "server.unreachable",
        "starting": "server.starting",
        "loading": "server.loading",
        "failed": "server.failed",
        "unauthorised": "server.unauthorised",
        "wrong_server": "server.wrong",
    }.get(endpoint.state, "server.not_seen_yet")
    return fault(code, **fields)


def fault_fields(endpoint: Endpoint, kind: ProviderKind) -> dict[str, Value]:
    """Return the fields that every sentence about an endpoint may use."""
    restart = endpoint.process.restart if endpoint.process else ""
    return {
        "title": kind.title,
        "url": endpoint.url,
        "endpoint": endpoint.name,
        "key_ref": endpoint.key_ref or "no variable",
        "variable": endpoint.key_ref,
        "start": restart or kind.start,
        "restart": restart,
        "seems": "",
        "why": "",
    }


def alternatives(catalogue: Catalogue, wanted: str, most: int = 5) -> tuple[str, ...]:
    """Return models that can be called now, those that look most like the wanted one first."""
    callable_now = [
        f"{endpoint.name}/{model.name}"
        for endpoint in map(catalogue.endpoint, [head.name for head in catalogue.heads])
        if endpoint.state in CALLABLE
        for model in endpoint.models or ()
        if model.state not in ("failed", "downloading")
    ]
    # An exact name on another endpoint says more than any likeness.
    folded = wanted.casefold()
    same = [name for name in callable_now if name.casefold().endswith("/" + folded)]
    tails: dict[str, list[str]] = {}
    for name in callable_now:
        tails.setdefault(name.partition("/")[2], []).append(name)
    like = [name for tail in near(wanted, list(tails), most) for name in tails[tail]]
    return tuple(dict.fromkeys([*same, *like, *callable_now]))[:most]


def bind(target: Target, environment: Mapping[str, str]) -> Target:
    """Add the caller's key, read in the caller's own environment. Placeholders stay as they are."""
    if target.key_ref is None:
        return target
    key = environment.get(target.key_ref)
    return msgspec.structs.replace(target, api_key=key) if key else target


def kind_or_common(provider: str, more: tuple[ProviderKind, ...]) -> ProviderKind:
    """Return the kind with this name, or the common one.

    A World from another version may name a kind that this client does not know: it speaks the common
    dialect or it would not be in the World as ready.
    """
    return kind_named(provider, more) or ProviderKind(
        name=provider,
        title=provider,
        prefixes=(provider,),
        litellm="openai",
        api_path="/v1",
        placeholder_key="sk-no-key-required",
    )


def concerned(catalogue: Catalogue, question: Question) -> tuple[str, ...]:
    """Return the names of the endpoints that a question is about."""
    name = parse(question.model, (head.name for head in catalogue.heads), catalogue.kinds)
    return () if name is None else tuple(endpoint.name for endpoint in _concerned(catalogue, name))


def _find(endpoint: Endpoint, name: Name) -> Model | None:
    """Find the model as it was written, then with a doubled prefix undone: `qwen/qwen3` may be its name."""
    return find(endpoint.models, name.written) or find(endpoint.models, name.model)


def _concerned(catalogue: Catalogue, name: Name) -> list[Endpoint]:
    prefix = name.prefix.casefold()
    named = [head.name for head in catalogue.heads if head.name == name.prefix]
    named = named or [head.name for head in catalogue.heads if head.name.casefold() == prefix]
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
        _private(endpoint, model, question)
        or _state(endpoint, kind)
        or _address(endpoint)
        or _model_state(endpoint, model)
        or _context(endpoint, model, question, kind)
        or _needs(model, question)
    )
    if obstacle is not None:
        others = tuple(a for a in alternatives(catalogue, model.name) if a != f"{endpoint.name}/{model.name}")
        return Refusal(fault=obstacle, alternatives=others, endpoint=endpoint.name)
    return target_for(endpoint, model, question, kind)


def target_for(endpoint: Endpoint, model: Model, question: Question, kind: ProviderKind) -> Target:
    """Build the call for a model on an endpoint that can serve it."""
    context, extra = _call_context(model, question, kind)
    return Target(
        model=f"{kind.litellm}/{model.name}",
        api_base=api_base(kind, endpoint.url),
        endpoint=endpoint.name,
        provider=endpoint.provider,
        name=model.name,
        api_key=kind.placeholder_key,
        key_ref=endpoint.key_ref,
        extra=extra,
        context=context,
        locality=model.locality or endpoint.locality,
        state=endpoint.state,
        warnings=(*endpoint.warnings, *_warnings(endpoint, model, question)),
        facts=_facts(model, context, kind),
    )


def _kind(catalogue: Catalogue, endpoint: Endpoint) -> ProviderKind:
    return kind_or_common(endpoint.provider, catalogue.kinds)


def _private(endpoint: Endpoint, model: Model, question: Question) -> Fault | None:
    """Privacy fails closed: what is not known to be near enough is refused."""
    if question.private is False:
        return None
    allowed = ("device", "lan") if question.private == "lan" else ("device",)
    where = [endpoint.locality, model.locality or endpoint.locality]
    if all(place in allowed for place in where):
        return None
    place = next(place for place in where if place not in allowed)
    return fault("model.remote", model=model.name, locality=place or "place unknown")


def _state(endpoint: Endpoint, kind: ProviderKind) -> Fault | None:
    if endpoint.state in CALLABLE:
        return None
    return refusal_of_state(endpoint, kind)


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
    return fault(code, endpoint=endpoint.name, model=model.name, progress=model.progress)


def _context(endpoint: Endpoint, model: Model, question: Question, kind: ProviderKind) -> Fault | None:
    asked = question.context
    if asked is None:
        return None
    if kind.context_option is None and model.loaded_context is not None and asked > model.loaded_context:
        restart = endpoint.process.restart if endpoint.process else ""
        return fault(
            "context.exceeds_loaded",
            asked=asked,
            model=model.name,
            loaded=model.loaded_context,
            restart=f"{restart} --ctx-size {asked}" if restart else "",
            load=kind.load.format(model=quoted(model.name), asked=asked),
        )
    if model.context is not None and asked > model.context:
        return fault("context.exceeds_native", asked=asked, model=model.name, native=model.context)
    return None


def _needs(model: Model, question: Question) -> Fault | None:
    if model.capabilities is None:
        return None
    missing = [need for need in question.needs if need not in model.capabilities]
    return fault("model.lacks", model=model.name, missing=", ".join(missing)) if missing else None


def _warnings(endpoint: Endpoint, model: Model, question: Question) -> list[Fault]:
    found: list[Fault] = []
    if endpoint.state == "sleeping" or model.state == "sleeping":
        found.append(fault("model.sleeping", model=model.name))
    elif model.state == "unloaded":
        found.append(fault("model.unloaded", model=model.name))
    if question.needs and model.capabilities is None:
        found.append(fault("model.unsure", model=model.name, missing=", ".join(question.needs)))
    return found


def _call_context(model: Model, question: Question, kind: ProviderKind) -> tuple[int | None, dict[str, int]]:
    """Return the context of a call and the arguments that set it.

    Where the server takes the context with each call, it is what is loaded if that is enough (another
    number would make the server load the model again), else the greatest of what was asked for and
    the default, capped by what the model can hold.
    """
    if kind.context_option is None:
        return model.loaded_context if model.loaded_context is not None else question.context, {}
    asked = question.context or 0
    if model.loaded_context is not None and model.loaded_context >= asked:
        context = model.loaded_context
    else:
        context = max(asked, DEFAULT_CONTEXT)
        if model.context is not None:
            context = min(context, model.context)
    return context, {kind.context_option: context}


def _facts(model: Model, context: int | None, kind: ProviderKind) -> dict[str, str | int | float | bool]:
    facts: dict[str, str | int | float | bool] = {
        "litellm_provider": kind.litellm,
        "mode": "embedding" if model.capabilities == ("embedding",) else "chat",
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
    }
    if context is not None:
        facts |= {"max_tokens": context, "max_input_tokens": context, "max_output_tokens": context}
    if model.capabilities is not None:
        facts["supports_function_calling"] = "tools" in model.capabilities
        facts["supports_vision"] = "vision" in model.capabilities
    return facts


def _unnamed(catalogue: Catalogue, question: Question) -> Refusal:
    likely = alternatives(catalogue, question.model)
    return Refusal(fault=fault("model.unnamed", model=question.model), alternatives=likely)


def _nowhere(catalogue: Catalogue, question: Question, name: Name) -> Refusal:
    if name.kind is not None:
        nowhere = fault("provider.nowhere", title=name.kind.title, start=name.kind.start)
        return Refusal(fault=nowhere, alternatives=alternatives(catalogue, name.model))
    from hived_client.vocabulary.kinds import KINDS

    known = sorted({*(kind.name for kind in (*KINDS, *catalogue.kinds)), *(h.name for h in catalogue.heads)})
    return Refusal(
        fault=fault("provider.unknown", prefix=name.prefix, known=", ".join(known)),
        alternatives=alternatives(catalogue, question.model),
    )


def _missing(catalogue: Catalogue, candidates: list[_Candidate], name: Name) -> Refusal:
    """Nobody is known to have the model: blame the endpoint that most likely should."""
    first = min(candidates, key=lambda c: (c.endpoint.state not in CALLABLE, c.endpoint.source in GUESSED))
    endpoint, kind = first.endpoint, _kind(catalogue, first.endpoint)
    if endpoint.state not in CALLABLE:
        problem = refusal_of_state(endpoint, kind)
    elif endpoint.models is None:
        problem = fault("model.unverified", endpoint=endpoint.name, model=name.model)
    else:
        pull = kind.pull.format(model=quoted(name.model))
        problem = fault("model.unknown", endpoint=endpoint.name, model=name.model, pull=pull)
    return Refusal(fault=problem, alternatives=alternatives(catalogue, name.model), endpoint=endpoint.name)


def _ambiguous(tied: list[_Candidate], name: Name) -> Refusal:
    names = tuple(f"{c.endpoint.name}/{c.model.name}" for c in tied if c.model is not None)
    problem = fault(
        "model.ambiguous",
        model=name.model,
        endpoints=", ".join(c.endpoint.name for c in tied),
        first=names[0],
    )
    return Refusal(fault=problem, alternatives=names)
