"""What the configuration says of a model, found by the name that was written there. Pure.

Names in Hive's configuration may carry the provider's prefix, twice even (``ollama/ollama/qwen``), and a
model may really be called like a provider (``openai/gpt-oss-20b``): the written name is tried first.
"""

from __future__ import annotations

from collections.abc import Iterator

from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.names import find
from hived_client.vocabulary.world import ConfiguredModel, Endpoint, Model


def spellings(written: str, kind: ProviderKind) -> Iterator[str]:
    """Yield a model's name as it was written, then with each prefix of its provider taken off."""
    prefixes = {*(prefix.casefold() for prefix in kind.prefixes), kind.litellm, "openai"}
    while written:
        yield written
        head, slash, rest = written.partition("/")
        if not slash or head.casefold() not in prefixes:
            return
        written = rest


def meant(configured: ConfiguredModel, endpoint: Endpoint, kind: ProviderKind) -> Model | None:
    """Return the endpoint's model that the configuration means; ``None`` where it has none of that name."""
    if configured.model is None:
        return None
    found = (find(endpoint.models, name, endpoint.provider) for name in spellings(configured.model, kind))
    return next((model for model in found if model is not None), None)


def configured_for(endpoint: Endpoint, model: Model, kind: ProviderKind) -> ConfiguredModel | None:
    """Return what all sections together say of a model; the greatest of each number.

    Several sections may name one model, and the same call serves them all.
    """
    if not endpoint.configured:
        return None
    mine = [each for each in endpoint.configured if _concerns(each, endpoint, model, kind)]
    if not mine:
        return None
    return ConfiguredModel(
        model=model.name,
        num_ctx=_greatest(each.num_ctx for each in mine),
        max_context_tokens=_greatest(each.max_context_tokens for each in mine),
        max_tokens=_greatest(each.max_tokens for each in mine),
        origin=", ".join(dict.fromkeys(each.origin for each in mine if each.max_context_tokens)) or "?",
    )


def _concerns(configured: ConfiguredModel, endpoint: Endpoint, model: Model, kind: ProviderKind) -> bool:
    if configured.model is None:
        return True
    found = meant(configured, endpoint, kind)
    if found is not None:
        return found is model
    # A model that nobody has seen is known by its name alone.
    return model.name.casefold() in (name.casefold() for name in spellings(configured.model, kind))


def _greatest(numbers: Iterator[int | None]) -> int | None:
    return max((number for number in numbers if number is not None), default=None)
