"""From an endpoint and its model to the call: arguments, context, facts, and what to mind. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hived_client.resolution.configured import configured_for
from hived_client.resolution.question import Question, Target
from hived_client.vocabulary.advisories import vulnerable
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind, api_base, command, commands_at, kind_named, root_url
from hived_client.vocabulary.world import ConfiguredModel, Endpoint, Model

DEFAULT_CONTEXT = 16_384
"""Tokens asked of a server that takes the context a call at a time, where nobody asked for more."""


def target_for(endpoint: Endpoint, model: Model, question: Question, kind: ProviderKind) -> Target:
    """Build the call for a model on an endpoint that can serve it."""
    configured = configured_for(endpoint, model, kind)
    context, extra = _call_context(model, question, kind, configured)
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
        locality=None if model.unplaced is not None else model.locality or endpoint.locality,
        state=endpoint.state,
        warnings=(*endpoint.warnings, *_warnings(endpoint, model, question, kind, configured, context)),
        facts=_facts(model, context, kind, configured),
    )


def bind(target: Target, environment: Mapping[str, str]) -> Target:
    """Add the caller's key, read in the caller's own environment.

    Placeholders stay as they are, also where the variable is not set, or its key may not be sent there, which
    the caller is told.
    """
    if target.key_ref is None:
        return target
    key = environment.get(target.key_ref)
    if not key:
        missing = fault("key.missing", endpoint=target.endpoint, variable=target.key_ref)
        return msgspec.structs.replace(target, warnings=(*target.warnings, missing))
    from hived_client.vocabulary.localities import may_have_key  # only whoever has a key pays for it

    if may_have_key(target.api_base):
        return msgspec.structs.replace(target, api_key=key)
    withheld = fault(
        "server.key_withheld",
        title=target.endpoint,
        url=root_url(target.api_base),
        variable=target.key_ref,
        endpoint=target.endpoint,
    )
    return msgspec.structs.replace(target, key_ref=None, warnings=(*target.warnings, withheld))


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


def kind_at(endpoint: Endpoint, more: tuple[ProviderKind, ...]) -> ProviderKind:
    """Return an endpoint's kind with the commands that act on its server where it is."""
    return commands_at(kind_or_common(endpoint.provider, more), endpoint.url, endpoint.locality)


def _warnings(
    endpoint: Endpoint,
    model: Model,
    question: Question,
    kind: ProviderKind,
    configured: ConfiguredModel | None,
    context: int | None,
) -> list[Fault]:
    found: list[Fault] = []
    if endpoint.state == "sleeping" or model.state == "sleeping":
        found.append(fault("model.sleeping", model=model.name))
    elif model.state == "unloaded":
        found.append(fault("model.unloaded", model=model.name))
    if question.context is not None and context is None:
        found.append(_context_unsure(model, question, kind))
    if question.needs and model.capabilities is None:
        found.append(_unsure(model, question, kind))
    if model.offload is not None and 0.0 < model.offload < 1.0:
        share = f"{1.0 - model.offload:.0%}".replace("%", " %")
        found.append(
            fault("model.partly_on_cpu", model=model.name, share=share, placement=kind.placement or None)
        )
    filled = configured.max_context_tokens if configured is not None else None
    if configured is not None and filled is not None and context is not None and filled > context:
        found.append(_too_little(endpoint, model, kind, configured, context))
    hole = vulnerable(endpoint, kind)
    if hole is not None:
        found.append(hole)
    return found


def _unsure(model: Model, question: Question, kind: ProviderKind) -> Fault:
    if question.needs == ("tools",) and kind.tools:
        tools = command(kind.tools, model.name)
        return fault("model.tools_unsure", model=model.name, title=kind.title, tools=tools)
    return fault("model.unsure", model=model.name, missing=", ".join(question.needs))


def _context_unsure(model: Model, question: Question, kind: ProviderKind) -> Fault:
    asked = question.context
    load = command(kind.load, model.name, asked=asked)
    return fault("context.unsure", model=model.name, asked=asked, load=load)


def _too_little(
    endpoint: Endpoint, model: Model, kind: ProviderKind, configured: ConfiguredModel, context: int
) -> Fault:
    """Say that Hive would fill a window that is not there, and how to open it as far as the model allows."""
    wanted = configured.max_context_tokens or 0
    asked = wanted if model.context is None else min(wanted, model.context)
    larger = asked > context
    return fault(
        "context.configured_exceeds",
        origin=configured.origin,
        configured=wanted,
        model=model.name,
        loaded=context,
        asked=asked,
        restart=restart_with(endpoint, asked) if larger else None,
        load=command(kind.load, model.name, asked=asked) if larger else None,
        name=f"{endpoint.name}/{model.name}" if kind.context_option and larger else None,
    )


def restart_with(endpoint: Endpoint, context: int) -> str:
    """Return the command that starts a server of ours with more context (tokens); empty where none does."""
    process = endpoint.process
    return process.restart(context=context) if process is not None and process.model else ""


def _call_context(
    model: Model, question: Question, kind: ProviderKind, configured: ConfiguredModel | None
) -> tuple[int | None, dict[str, int]]:
    """Return the context of a call, as far as it is known, and the arguments that set it.

    Where the server takes the context with each call, another number than the loaded one makes it load the
    model again. So it is what is loaded, if that is enough; else the greatest of what was asked for,
    configured, and the default, capped by what the model can hold. What is loaded is enough where it holds
    what was asked for *and* what is configured, as far as the model can: Hive itself calls with the
    configured number, and a smaller one in between would have the model loaded twice for each pair of
    calls. The default does not count here: what somebody loaded on purpose is left alone.
    """
    if kind.context_option is None:
        return model.loaded_context, {}
    wanted = max(question.context or 0, (configured and configured.num_ctx) or 0)
    if model.context is not None:
        wanted = min(wanted, model.context)
    if model.loaded_context is not None and model.loaded_context >= wanted:
        context = model.loaded_context
    else:
        context = max(wanted, DEFAULT_CONTEXT)
        if model.context is not None:
            context = min(context, model.context)
    return context, {kind.context_option: context}


def _facts(
    model: Model, context: int | None, kind: ProviderKind, configured: ConfiguredModel | None
) -> dict[str, str | int | float | bool]:
    facts: dict[str, str | int | float | bool] = {
        "litellm_provider": kind.litellm,
        "mode": "embedding" if model.capabilities == ("embedding",) else "chat",
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
    }
    if context is not None:
        facts |= {"max_tokens": context, "max_input_tokens": context, "max_output_tokens": context}
    if configured is not None and configured.max_tokens is not None:
        most = configured.max_tokens
        facts["max_output_tokens"] = most if context is None else min(most, context)
    if model.capabilities is not None:
        facts["supports_function_calling"] = "tools" in model.capabilities
        facts["supports_vision"] = "vision" in model.capabilities
    return facts
