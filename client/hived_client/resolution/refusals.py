"""Why a model cannot be called, in a sentence, and what could be called instead. Pure."""

from __future__ import annotations

from hived_client.resolution.catalogue import Candidate, Catalogue, prefixes
from hived_client.resolution.question import Question, Refusal
from hived_client.resolution.targets import kind_at
from hived_client.vocabulary.faults import Fault, Value, configuration_file, fault, quoted
from hived_client.vocabulary.kinds import KINDS, ProviderKind, address, command
from hived_client.vocabulary.names import Name, find, is_name, near, short_name
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Model


def refusal_of_state(endpoint: Endpoint, kind: ProviderKind, model: Model | None = None) -> Fault:
    """Say why an endpoint in this state cannot be called; of a model that it would serve, say that too."""
    if model is not None and _is_just_down(endpoint, kind):
        return fault("model.server_down", **_starting_with(endpoint, kind, model))
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
    process = endpoint.process
    return {
        "title": kind.title,
        "url": endpoint.url,
        "endpoint": endpoint.name,
        "key_ref": endpoint.key_ref or "the configuration",
        "variable": endpoint.key_ref,
        "start": process.start() if process is not None else kind.start,
        "restart": process.restart() if process is not None else "",
        "setting": _setting(endpoint),
        "seems": "",
        "stage": "",
        "why": "",
    }


def distance(endpoint: Endpoint, model: Model, question: Question) -> Fault | None:
    """Privacy fails closed: what is not known to be near enough is refused."""
    if question.private is False:
        return None
    allowed = ("device", "lan") if question.private == "lan" else ("device",)
    where = [endpoint.locality, model.locality or endpoint.locality]
    if all(place in allowed for place in where):
        return model.unplaced
    place = next(place for place in where if place not in allowed)
    return fault("model.remote", model=model.name, locality=place or "place unknown")


def _setting(endpoint: Endpoint) -> str:
    """Say where the address of an endpoint was given, as what is to be set there; empty for a guess."""
    if endpoint.source == "environment":
        return f"export {endpoint.origin.partition(' ')[0]}=…"
    if endpoint.source == "configuration":
        return f"set {endpoint.origin} in {configuration_file()}"
    return ""


def alternatives(
    catalogue: Catalogue, question: Question, wanted: str | None = None, most: int = 5
) -> tuple[str, ...]:
    """Return models that the question could be asked of now, those that look most like the wanted one first.

    ``wanted``: its name without a prefix, where that is known.
    """
    wanted = question.model if wanted is None else wanted
    callable_now = [
        f"{endpoint.name}/{model.name}"
        for endpoint in map(catalogue.endpoint, [head.name for head in catalogue.heads])
        for model in endpoint.models or ()
        if _would_do(endpoint, model, question)
    ]
    # An exact name on another endpoint says more than any likeness.
    folded = wanted.casefold()
    same = [name for name in callable_now if name.casefold().endswith("/" + folded)]
    tails: dict[str, list[str]] = {}
    for name in callable_now:
        tails.setdefault(name.partition("/")[2], []).append(name)
    like = [name for tail in near(wanted, list(tails), most) for name in tails[tail]]
    return tuple(dict.fromkeys([*same, *like, *callable_now]))[:most]


def unnamed(catalogue: Catalogue, question: Question) -> Refusal:
    """Answer a name without a prefix."""
    problem = fault("model.unnamed", model=question.model)
    return Refusal(fault=problem, alternatives=alternatives(catalogue, question))


def nowhere(catalogue: Catalogue, question: Question, name: Name) -> Refusal:
    """Answer a prefix by which no endpoint goes."""
    if name.kind is not None:
        problem = fault("provider.nowhere", title=name.kind.title, start=name.kind.start)
        return Refusal(fault=problem, alternatives=alternatives(catalogue, question, name.model))

    known = sorted({*(kind.name for kind in (*KINDS, *catalogue.kinds)), *prefixes(catalogue)})
    return Refusal(
        fault=fault("provider.unknown", prefix=name.prefix, known=", ".join(known)),
        alternatives=alternatives(catalogue, question),
    )


def missing(catalogue: Catalogue, candidates: list[Candidate], name: Name, question: Question) -> Refusal:
    """Nobody is known to have the model: blame the endpoint that most likely should."""
    first = min(candidates, key=lambda c: (c.endpoint.state not in CALLABLE, c.endpoint.source in GUESSED))
    endpoint, kind = first.endpoint, kind_at(first.endpoint, catalogue.kinds)
    if endpoint.state not in CALLABLE:
        problem = refusal_of_state(endpoint, kind)
    elif endpoint.models is None:
        problem = fault("model.unverified", endpoint=endpoint.name, model=name.model)
    else:
        fetchable = kind.registry is None or is_name(name.model, kind.registry)
        pull = command(kind.pull, name.model) if fetchable else ""
        other = _elsewhere(catalogue, {c.endpoint.name for c in candidates}, name, question)
        if other is None:
            problem = fault("model.unknown", endpoint=endpoint.name, model=name.model, pull=pull)
        else:
            problem = fault(
                "model.elsewhere",
                endpoint=endpoint.name,
                model=name.model,
                other=other.partition("/")[0],
                first=other,
                pull=pull,
            )
    wanted = name.model if kind.registry is None else short_name(name.model, kind.registry)
    others = alternatives(catalogue, question, wanted)
    return Refusal(fault=problem, alternatives=others, endpoint=endpoint.name)


def ambiguous(tied: list[Candidate], name: Name) -> Refusal:
    """Answer a name that several endpoints have alike."""
    names = tuple(f"{c.endpoint.name}/{c.model.name}" for c in tied if c.model is not None)
    problem = fault(
        "model.ambiguous",
        model=name.model,
        endpoints=", ".join(c.endpoint.name for c in tied),
        first=names[0],
    )
    return Refusal(fault=problem, alternatives=names)


def _elsewhere(catalogue: Catalogue, besides: set[str], name: Name, question: Question) -> str | None:
    """Return an endpoint's model of the very same name, that this question may call now."""
    for head in catalogue.heads:
        if head.name in besides:
            continue
        endpoint = catalogue.endpoint(head.name)
        model = find(endpoint.models, name.written, endpoint.provider) or find(
            endpoint.models, name.model, endpoint.provider
        )
        if model is not None and _would_do(endpoint, model, question):
            return f"{endpoint.name}/{model.name}"
    return None


def _would_do(endpoint: Endpoint, model: Model, question: Question) -> bool:
    """Tell whether another model could be called now for the same question, as far as is known of it."""
    if endpoint.state not in CALLABLE or model.state in ("failed", "downloading"):
        return False
    if distance(endpoint, model, question) is not None:
        return False
    if question.context is not None and model.context is not None and question.context > model.context:
        return False
    return model.capabilities is None or set(question.needs) <= set(model.capabilities)


def _is_just_down(endpoint: Endpoint, kind: ProviderKind) -> bool:
    """Tell whether nothing more is known than that nobody listens: what is more special says more."""
    if endpoint.state != "down":
        return False
    reason = endpoint.reason
    general = ("hived status", kind.start, _setting(endpoint))
    return reason is None or (reason.code == "server.down" and reason.hint in general)


def _starting_with(endpoint: Endpoint, kind: ProviderKind, model: Model) -> dict[str, Value]:
    """Return the fields of the sentence, with the command that starts the server with this very model."""
    fields = fault_fields(endpoint, kind) | {"model": model.name}
    if endpoint.process is not None or not kind.start_model:
        return fields
    if "{file}" in kind.start_model and model.file is None:
        return fields
    port = address(endpoint.url)[1]
    start = command(kind.start_model, model.name, file=quoted(model.file or ""), port=port)
    return fields | {"start": start} if start else fields
