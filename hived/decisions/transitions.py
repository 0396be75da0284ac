"""From one World to the next. The only place where a World is made from another.

Each function returns the same World when nothing meaningful changed, and otherwise one with the next
generation. What moves at every look (when, how long) is kept out of the World on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from hived.decisions.absence import why_down
from hived.decisions.addresses import host_and_port
from hived.decisions.configured import is_in_use, missing_models
from hived.decisions.hardware import is_news
from hived.decisions.locks import locked
from hived.decisions.outcomes import Circumstances, Heard, Locked, NoAnswer, Observation, Stranger
from hived.decisions.servers_word import known_hardware, on_cpu
from hived_client.resolution import fault_fields, kind_at
from hived_client.vocabulary.advisories import vulnerable
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import (
    CALLABLE,
    GUESSED,
    SLOTS,
    Configuration,
    Daemon,
    Endpoint,
    Model,
    State,
    World,
)

replace = msgspec.structs.replace


def observe(world: World, observation: Observation) -> World:
    """Take in what one look at an endpoint showed. An endpoint that is gone changes nothing."""
    for position, endpoint in enumerate(world.endpoints):
        if endpoint.name == observation.endpoint:
            after = judge(endpoint, observation, _kind(world, endpoint), world.daemon)
            return world if after == endpoint else _with_endpoint(world, position, after)
    return world


def expect(world: World, expected: Sequence[Endpoint]) -> World:
    """Make these the endpoints of the World. One that stays where it was keeps what is known of it."""
    known = {endpoint.name: endpoint for endpoint in world.endpoints}
    kept = {e.name: known[e.name] for e in expected if e.name in known and same_place(known[e.name], e)}
    taken = {endpoint.slot for endpoint in kept.values()}
    free = (slot for slot in range(SLOTS) if slot not in taken)
    endpoints = []
    for endpoint in expected:
        old = kept.get(endpoint.name, endpoint)
        endpoints.append(
            replace(
                old,
                source=endpoint.source,
                origin=endpoint.origin,
                aliases=endpoint.aliases,
                configured=endpoint.configured,
                key_ref=endpoint.key_ref,
                process=endpoint.process,
                reason=endpoint.reason if endpoint.reason is not None else old.reason,
                slot=old.slot if old.slot >= 0 else next(free, -1),
            )
        )
    return _next(world, endpoints=tuple(endpoints))


def shelve(world: World, name: str, models: tuple[Model, ...], at: float) -> World:
    """Take in what the disk says that a server which is down would have; of one that runs it knows better."""
    for position, endpoint in enumerate(world.endpoints):
        if endpoint.name != name or endpoint.state != "down":
            continue
        before = {model.name: model for model in endpoint.models or ()}
        found = tuple(_completed(model, before.get(model.name)) for model in models)
        if endpoint.models != found:
            return _with_endpoint(world, position, replace(endpoint, models=found, models_at=at))
    return world


def _completed(shelved: Model, before: Model | None) -> Model:
    """Keep what its server said of a model and its files do not say, where it is the same model."""
    if before is None or before.digest != shelved.digest:
        return shelved
    return replace(
        shelved,
        aliases=shelved.aliases or before.aliases,
        quantization=shelved.quantization or before.quantization,
        parameters=shelved.parameters or before.parameters,
        context=shelved.context or before.context,
        capabilities=before.capabilities if shelved.capabilities is None else shelved.capabilities,
    )


def configure(world: World, configuration: Configuration) -> World:
    """Take in what was read of the configuration."""
    before = world.configuration
    if before is not None and replace(before, loaded_at=None) == replace(configuration, loaded_at=None):
        return world
    return _next(world, configuration=configuration)


def introduce(world: World, daemon: Daemon, kinds: tuple[ProviderKind, ...] = ()) -> World:
    """Put the running daemon into the World."""
    return _next(world, daemon=daemon, kinds=kinds)


def equip(world: World, hardware: Hardware) -> World:
    """Take in what is known of this machine, where that is news."""
    return _next(world, hardware=hardware) if is_news(world.hardware, hardware) else world


def complain(world: World, troubles: tuple[Fault, ...]) -> World:
    """Take in what the daemon itself cannot do just now; nothing, once it can again."""
    if world.daemon is None or world.daemon.problems == troubles:
        return world
    return _next(world, daemon=replace(world.daemon, problems=troubles))


def remember(world: World) -> World:
    """Turn a World read from disk into what can be said before the first look: models, but no states.

    Endpoints are kept with their models, since yesterday's inventory with its age is worth more than
    silence; whether they run is not known.
    """
    endpoints = tuple(
        replace(endpoint, state="unknown", reason=None, since=None, warnings=(), installation=None, slot=-1)
        for endpoint in world.endpoints
    )
    # What this machine is will hold; what was wrong with it may have been mended.
    hardware = replace(world.hardware, problems=()) if world.hardware is not None else None
    return replace(world, endpoints=endpoints, daemon=None, hardware=hardware, problems=())


def judge(
    endpoint: Endpoint, observation: Observation, kind: ProviderKind, daemon: Daemon | None = None
) -> Endpoint:
    """Return the endpoint as it is after a look. ``daemon``: who looked."""
    outcome, now = observation.outcome, observation.circumstances
    if isinstance(outcome, Stranger) and outcome.seems == f" (it seems to be {kind.title})":
        # No stranger, then: it may come to itself, and "is not X, it seems to be X" would help nobody.
        outcome = NoAnswer(kind="broken", why=f"it is {kind.title}, and does not answer as that does")
    match outcome:
        case Heard():
            after = replace(
                endpoint,
                state=outcome.state,
                reason=_loading(endpoint, kind) if outcome.state == "loading" else None,
                version=outcome.version or endpoint.version,
                mode=outcome.mode or endpoint.mode,
                models=outcome.models
                if outcome.models is not None or _was_gateway(endpoint)
                else endpoint.models,
                locality=None if outcome.forwards or now.forwarder != "" else locality_of(endpoint.url),
                warnings=_forwarded(endpoint, now, kind),
            )
        case Locked():
            problem = locked(endpoint, now, daemon, fault_fields(endpoint, kind))
            after = replace(
                endpoint,
                state="unauthorised",
                reason=problem,
                version=outcome.version or endpoint.version,
                models=None if _was_gateway(endpoint) else endpoint.models,
                locality=None if now.forwarder != "" else locality_of(endpoint.url),
                warnings=_forwarded(endpoint, now, kind),
            )
        case Stranger():
            after = _stranger(endpoint, outcome, kind)
        case NoAnswer():
            state, problem = _silence(endpoint, outcome, now, kind)
            models = _unloaded(endpoint.models) if state == "down" else endpoint.models
            after = replace(endpoint, state=state, reason=problem, models=models, warnings=())
    found = (now.installation or endpoint.installation) if after.state == "down" else None
    return _dated(endpoint, replace(after, installation=found), now)


def problems(world: World) -> tuple[Fault, ...]:
    """Return what a person should know: faults of endpoints that somebody asked for, never of guesses."""
    found: list[Fault] = list(world.daemon.problems) if world.daemon is not None else []
    found += (*world.daemon.notes, *world.daemon.broken_plugins) if world.daemon is not None else ()
    if world.configuration is not None and world.configuration.error is not None:
        found.append(world.configuration.error)
    if world.configuration is not None:
        found += world.configuration.problems
    hardware = known_hardware(world)
    found += hardware.problems if hardware is not None else ()
    for endpoint in world.endpoints:
        wanted = endpoint.source not in GUESSED or is_in_use(endpoint)
        if wanted and endpoint.reason is not None and not endpoint.reason.retryable:
            found.append(endpoint.reason)
        found += endpoint.warnings
        found += filter(None, [vulnerable(endpoint, _kind(world, endpoint))])
        found += missing_models(endpoint, _kind(world, endpoint))
        found += on_cpu(endpoint, _kind(world, endpoint), hardware)
        found += (m.fault for m in endpoint.models or () if m.fault is not None and m.state == "failed")
    return tuple(found)


def _unloaded(models: tuple[Model, ...] | None) -> tuple[Model, ...] | None:
    """A server that is not there has loaded nothing, whatever it last said."""
    if models is None or all(model.state in (None, "unloaded") for model in models):
        return models
    return tuple(
        replace(
            model,
            state="unloaded" if model.state is not None else None,
            loaded_context=None,
            device=None,
            offload=None,
            memory=None,
            progress=None,
            since=None,
            fault=None,
        )
        for model in models
    )


def _stranger(endpoint: Endpoint, outcome: Stranger, kind: ProviderKind) -> Endpoint:
    fields = fault_fields(endpoint, kind) | {"seems": outcome.seems}
    if endpoint.source not in GUESSED and outcome.models is not None:
        warning = fault("server.other_dialect", **fields)
        return replace(
            endpoint,
            state="ready",
            reason=None,
            models=outcome.models,
            version=None,
            mode=None,
            warnings=(warning,),
            locality=None,  # a gateway may send the call anywhere
        )
    return replace(
        endpoint,
        state="wrong_server",
        reason=fault("server.wrong", **fields),
        models=None,
        version=None,
        mode=None,
        warnings=(),
    )


_NOBODY = ("refused", "closed")
"""Outcomes that say that no server is there."""


def _silence(
    endpoint: Endpoint, outcome: NoAnswer, now: Circumstances, kind: ProviderKind
) -> tuple[State, Fault]:
    stage = f": {now.stage}" if now.stage else ""
    fields = fault_fields(endpoint, kind) | {"why": outcome.why, "stage": stage}
    if now.verdict is not None and (now.process_alive is False or outcome.kind in _NOBODY):
        return "down", now.verdict
    if now.process_alive is False:
        why = f": {now.last_words}" if now.last_words else ""
        return "down", fault("server.ended", **(fields | {"why": why}))
    if outcome.kind == "closed":
        return "down", fault("server.closed", **(fields | {"port": host_and_port(endpoint.url)[1]}))
    if outcome.kind == "refused":
        if now.launching_since is not None or (now.process_alive and now.at < now.starting_until):
            return "starting", fault("server.starting", **fields)
        return "down", why_down(endpoint, now, kind, fields)
    if outcome.kind == "silent" and _may_be_starting(endpoint, now, kind):
        return "starting", fault("server.starting", **fields)
    if outcome.kind == "silent":
        return "unreachable", fault("server.silent", **fields)
    if outcome.kind == "dns":
        host = urlsplit(endpoint.url).hostname
        return "unreachable", fault("server.dns", **(fields | {"host": host}))
    if outcome.kind == "redirect":
        return "wrong_server", fault("server.redirects", **fields)
    if outcome.kind == "broken":
        return "failed", fault("server.malformed", **fields)
    if outcome.kind == "failed":
        return "failed", fault("server.failed", **fields)
    return "unreachable", fault("server.unreachable", **fields)


def _may_be_starting(endpoint: Endpoint, now: Circumstances, kind: ProviderKind) -> bool:
    """Tell whether a server that accepts connections and does not answer has come up just now."""
    if endpoint.state == "starting":
        return endpoint.since is None or 0.0 <= now.at - endpoint.since < kind.silent_start
    return endpoint.state in ("down", "unknown") and kind.silent_start > 0.0


def _loading(endpoint: Endpoint, kind: ProviderKind) -> Fault:
    return fault("server.loading", **fault_fields(endpoint, kind))


def _was_gateway(endpoint: Endpoint) -> bool:
    """Tell whether what is known of an endpoint's models was said by something else than its provider."""
    return any(warning.code == "server.other_dialect" for warning in endpoint.warnings)


def _forwarded(endpoint: Endpoint, now: Circumstances, kind: ProviderKind) -> tuple[Fault, ...]:
    if not now.forwarder:
        return ()
    fields = fault_fields(endpoint, kind) | {
        "program": now.forwarder,
        "port": host_and_port(endpoint.url)[1],
    }
    return (fault("server.forwarded", **fields),)


def _dated(before: Endpoint, after: Endpoint, now: Circumstances) -> Endpoint:
    """Date what changed: the state since when, and models that are no longer looked at until when."""
    at = now.at
    if before.state == after.state and before.since is not None:
        since = before.since
    elif after.state == "starting" and now.launching_since is not None:
        since = min(at, now.launching_since)
    else:
        since = at
    if after.models is None or after.state in CALLABLE:
        models_at = None
    else:
        models_at = before.models_at or at
    reason = after.reason
    if reason is not None and after.state in ("starting", "loading"):
        # Only the date, which stays: what is said of it is computed by whoever says it (`lasting`).
        reason = replace(reason, fields=reason.fields | {"since": since})
    return replace(
        after, since=since, models_at=models_at, reason=reason, models=_models_dated(before, after, at)
    )


def _models_dated(before: Endpoint, after: Endpoint, at: float) -> tuple[Model, ...] | None:
    """Date each model that is being loaded or downloaded by the look that saw it begin."""
    moving = ("loading", "downloading")
    if after.models is None or not any(model.state in moving for model in after.models):
        return after.models
    known = {model.name: model for model in before.models or () if model.state in moving}
    return tuple(
        replace(model, since=old.since if (old := known.get(model.name)) and old.state == model.state else at)
        if model.state in moving
        else model
        for model in after.models
    )


def same_place(old: Endpoint, new: Endpoint) -> bool:
    """Tell whether what is known of an endpoint still is about the same server."""
    same_process = old.process is None or new.process is None or old.process.pid == new.process.pid
    return (old.provider, old.url) == (new.provider, new.url) and same_process


def _with_endpoint(world: World, position: int, endpoint: Endpoint) -> World:
    endpoints = (*world.endpoints[:position], endpoint, *world.endpoints[position + 1 :])
    return _next(world, endpoints=endpoints)


def _next(world: World, **changed: object) -> World:
    after = replace(world, **changed)
    after = replace(after, problems=problems(after))
    if after == world:
        return world
    return replace(after, generation=world.generation + 1)


def _kind(world: World, endpoint: Endpoint) -> ProviderKind:
    return kind_at(endpoint, world.kinds)
