"""How Hive's provider must be made for a local model: which model, address and key. Decides, does no I/O.

What a caller gives wins; but not all that Hive's constructor is given was given for this model. Hive passes
``llm.api_base``, and at its newer commits the ``llm`` section's key, with whatever model is asked for: what
belongs to another provider there must reach neither this call's address nor its server.

An address is never left out, also where nothing is known: LiteLLM would send the prompt to a cloud host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from hived_client.errors import HivedError, NotReady
from hived_client.resolution import Question, Target, kind_or_common, prefixes, target_for
from hived_client.resolution.catalogue import WorldCatalogue
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import (
    ProviderKind,
    address,
    commands_at,
    kind_of_prefix,
    root_url,
    shown_url,
)
from hived_client.vocabulary.names import parse
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Model, World

VARIABLES = {"ollama": "OLLAMA_API_BASE", "vllm": "HOSTED_VLLM_API_BASE", "lm_studio": "LM_STUDIO_API_BASE"}
"""What LiteLLM itself reads where no address is given, by provider."""

_SECTIONS = ("llm", "worker_llm")
_SAME_HOST = frozenset({"localhost", "127.0.0.1", "::1"})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How one model of Hive's is called."""

    question: str | None
    """What hived is asked before each call; ``None`` for a server that only the caller knows."""
    target: Target
    """How it is called as far as is known now."""
    keys: tuple[str, ...] = ()
    """The caller's own keys for it."""
    problem: Fault | None = None
    """Why it cannot be called now."""


class Foreign(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and keys that Hive's configuration has for another provider than the model's."""

    bases: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


Resolve = Callable[[str], Target]
"""Asks hived. Raises ``HivedError``."""


def plan_for(
    model: str,
    *,
    api_base: str | None,
    keys: Sequence[str],
    foreign: Foreign,
    resolve: Resolve,
    world: Callable[[], World],
    environment: Mapping[str, str],
) -> Plan:
    """Return how to call a local model. Raises ``NotReady`` only where there is no address at all."""
    kind = kind_of_prefix(model.partition("/")[0])
    own = tuple(key for key in keys if key and key not in foreign.keys)
    if api_base is not None and (not root_url(api_base) or _among(api_base, foreign.bases)):
        api_base = None
    if api_base is None and kind is not None:
        api_base = environment.get(VARIABLES.get(kind.name, "")) or None
    api_base = _as_url(api_base)
    plan = _at(model, kind, api_base, resolve, world) if api_base else _anywhere(model, resolve, world)
    return msgspec.structs.replace(plan, keys=own, target=with_key(plan.target, own[0] if own else None))


def with_key(target: Target, key: str | None) -> Target:
    """Return a target that is called with the caller's own key, where there is one."""
    return msgspec.structs.replace(target, api_key=key, key_ref=None) if key else target


def is_ours(model: str, names: Iterable[str], known_to_litellm: Iterable[str]) -> bool:
    """Tell whether hived answers for a model: its prefix is a local provider's, or an endpoint's name.

    ``names`` are those of the endpoints. A name that LiteLLM knows as a provider's stays LiteLLM's.
    """
    prefix, slash, name = model.partition("/")
    if not slash or not name:
        return False
    if kind_of_prefix(prefix) is not None:
        return True
    folded = prefix.casefold()
    return folded in {name.casefold() for name in names} and folded not in set(known_to_litellm)


def foreign_to(
    kind: ProviderKind | None, configuration: Mapping[str, Any], environment: Mapping[str, str]
) -> Foreign:
    """Return what Hive's configuration holds for other providers than this one. Believes no shape."""
    bases: list[str] = []
    keys: list[str] = []
    kept: list[str] = []
    for name in _SECTIONS:
        section = configuration.get(name)
        if not isinstance(section, Mapping):
            continue
        base = section.get("api_base")
        provider = section.get("provider")
        if kind is not None and isinstance(provider, str) and kind_of_prefix(provider) is kind:
            kept += [base] if isinstance(base, str) else []
            continue
        bases += [base] if isinstance(base, str) else []
        several = section.get("api_keys")
        variable = section.get("api_key_env_var")
        found = [section.get("api_key"), *(several if isinstance(several, list) else ())]
        found += [environment.get(variable)] if isinstance(variable, str) else []
        keys += [key for key in found if isinstance(key, str) and key]
    return Foreign(bases=tuple(base for base in bases if not _among(base, kept)), keys=tuple(keys))


def stays_near(target: Target) -> bool:
    """Tell whether a call is to reach its server directly, over a client that reaches nothing else.

    A server that is known to be on the internet, or is named like one, may need the user's proxy.
    """
    if target.locality is not None:
        return target.locality != "internet"
    host = address(target.api_base)[0]
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or not target.api_base.startswith("https:")


def _anywhere(model: str, resolve: Resolve, world: Callable[[], World]) -> Plan:
    """Let hived say where the model is; where it cannot be called now, where it would be."""
    try:
        return Plan(question=model, target=resolve(model))
    except HivedError as error:
        return Plan(question=model, target=_would_be(model, world(), error), problem=error.fault)


def _would_be(model: str, world: World, error: HivedError) -> Target:
    catalogue = WorldCatalogue(world)
    name = parse(model, prefixes(catalogue), world.kinds)
    if name is None:
        raise NotReady(error.fault, error.alternatives)
    prefix = name.prefix.casefold()
    kind = name.kind or kind_of_prefix(prefix, world.kinds)
    mine = [
        endpoint
        for endpoint in world.endpoints
        if root_url(endpoint.url)
        and (
            prefix in (each.casefold() for each in (endpoint.name, *endpoint.aliases))
            or (kind is not None and endpoint.provider == kind.name)
        )
    ]
    mine.sort(key=lambda e: (e.name.casefold() != prefix, e.source in GUESSED, e.state not in CALLABLE))
    if mine:
        return _target(mine[0], name.model, kind_or_common(mine[0].provider, world.kinds))
    if kind is None or not kind.ports:
        raise NotReady(error.fault, error.alternatives)
    url = f"http://127.0.0.1:{kind.ports[0]}"
    endpoint = Endpoint(name=kind.name, provider=kind.name, url=url, source="default", locality="device")
    return _target(endpoint, name.model, kind)


def _at(
    model: str, kind: ProviderKind | None, api_base: str, resolve: Resolve, world: Callable[[], World]
) -> Plan:
    """Call the model where the caller says; hived is asked where it watches that very server."""
    known = world()
    name = parse(model, prefixes(WorldCatalogue(known)), known.kinds)
    short = name.model if name is not None else model
    endpoint = next((each for each in known.endpoints if _same_place(each.url, api_base)), None)
    if endpoint is not None:
        question = f"{endpoint.name}/{short}"
        try:
            return Plan(question=question, target=resolve(question))
        except HivedError as error:
            called = _target(endpoint, short, kind_or_common(endpoint.provider, known.kinds))
            return Plan(question=question, target=called, problem=error.fault)
    prefix = model.partition("/")[0]
    kind = kind or kind_or_common(prefix, known.kinds)
    unwatched = Endpoint(name=prefix, provider=kind.name, url=root_url(api_base), source="configuration")
    return Plan(question=None, target=_target(unwatched, short, kind))


def _target(endpoint: Endpoint, model: str, kind: ProviderKind) -> Target:
    question = Question(model=f"{endpoint.name}/{model}")
    return target_for(endpoint, Model(name=model), question, kind)


def _as_url(written: str | None) -> str | None:
    """Return an address as it is called: ``localhost:11434`` means HTTP; one without a host is none."""
    if not written:
        return None
    url = written if "://" in written else f"http://{written}"
    return url if address(url)[0] else None


def _among(base: str, others: Iterable[str]) -> bool:
    return any(root_url(base) == root_url(other) for other in others)


def _same_place(one: str, other: str) -> bool:
    (host, port), (other_host, other_port) = address(one.lower()), address(other.lower())
    return port == other_port and (host == other_host or {host, other_host} <= _SAME_HOST)


def down(target: Target) -> Fault:
    """Return the fault of a server that only the caller knows, and that refuses."""
    url = shown_url(root_url(target.api_base))
    kind = commands_at(kind_or_common(target.provider, ()), url, target.locality)
    return fault("server.down", title=kind.title, url=url, endpoint=target.endpoint, start=kind.start)
