"""Anything that lists its models at ``/v1/models`` as OpenAI does, given by somebody who knows of it.

That is all that these have in common, so it is all that is asked: no health, no version (LiteLLM's
``/health`` calls every model behind it). Where such a server sends a call is not known, so its locality
is unknown and private questions pass it by, unless it says itself that it is a server that runs models.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome, Stranger
from hived.providers.fields import count, inner, is_object, items
from hived.providers.fingerprint import header_of, is_llamacpp, openai_models, phrase
from hived.providers.http import LARGE, SMALL, Answer, Http, Unusable
from hived.providers.reach import key_for, timeout_for
from hived_client.vocabulary.world import Endpoint, Model

RUNS_ITSELF = frozenset({"llamacpp", "vllm", "sglang"})
"""Owners of models, as servers write them that run what they list."""
_LENGTHS = ("context_length", "max_context_length", "context_window")
"""Fields in which one or another server tells how much a model can hold."""
_LOADING = re.compile(rb"\b(?:load|start|warm|initiali)", re.IGNORECASE)
"""How the various servers say that a 503 will pass; a gateway's own would be asked about every second."""


class OpenAiCompatible:
    """The probe of what is only known to speak OpenAI's dialect."""

    provider = "openai_compatible"

    def __init__(self, http: Http, environment: Mapping[str, str] = os.environ) -> None:
        self._http = http
        self._environment = environment

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask for the models; with the key only where a server of this kind has asked for one."""
        try:
            answer = await self._models(endpoint, None)
            if _wants_key(answer):
                key = key_for(endpoint, self._environment)
                if key is None:
                    return Locked()
                answer = await self._models(endpoint, key)
                if _wants_key(answer):
                    return Locked()
            return _judged(answer)
        except Unusable as error:
            return error.outcome

    def has_push(self, endpoint: Endpoint) -> bool:
        """The dialect has no way to tell."""
        return False

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Return: there is nothing to listen to."""

    async def _models(self, endpoint: Endpoint, key: str | None) -> Answer:
        url = f"{endpoint.url}/v1/models"
        return await self._http.get(url, limit=LARGE, timeout=timeout_for(endpoint), key=key)


def _judged(answer: Answer) -> Outcome:
    document = answer.json()
    models = openai_models(answer)
    if models is not None:
        facts = {
            item["id"]: item for item in items(inner(document, "data")) if isinstance(item.get("id"), str)
        }
        detailed = tuple(_detailed(model, facts[model.name]) for model in models)
        return Heard(state="ready", models=detailed, forwards=not _runs_itself(answer, facts.values()))
    if answer.status == 503 and is_object(document) and _LOADING.search(answer.body[:SMALL]):
        return Heard(state="loading", forwards=not _runs_itself(answer, ()))
    if answer.status >= 500:
        return NoAnswer(kind="failed", why=f"/v1/models has status {answer.status}")
    return Stranger(seems=phrase(header_of(answer)))


def _wants_key(answer: Answer) -> bool:
    """Tell whether a server of this dialect refuses: in JSON, so not a login page or some other program."""
    document = answer.json()
    told = is_object(document) and not {"error", "detail", "message"}.isdisjoint(document)
    return answer.status in (401, 403) and told


def _detailed(model: Model, item: Mapping[str, object]) -> Model:
    """Add what some servers tell of a model beyond its name."""
    loaded = count(item.get("max_model_len")) or count(inner(item, "meta", "n_ctx"))
    native = count(inner(item, "meta", "n_ctx_train"))
    lengths = (count(item.get(field)) for field in _LENGTHS)
    return msgspec.structs.replace(
        model,
        context=native or count(item.get("max_model_len")) or next(filter(None, lengths), None),
        loaded_context=loaded,
    )


def _runs_itself(answer: Answer, entries: Iterable[Mapping[str, object]]) -> bool:
    owners = [item.get("owned_by") for item in entries]
    return is_llamacpp(answer) or (
        bool(owners) and all(isinstance(owner, str) and owner in RUNS_ITSELF for owner in owners)
    )
