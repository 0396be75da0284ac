"""vLLM's ``vllm serve``. Facts recorded and tried with 0.32, and read in 0.33.

It binds its port without listening until the model is loaded: while it starts it refuses, and is never
503. One process serves one base model, under one or more names, and its LoRA adapters. Other products
answer ``/version`` too, so it counts only together with ``owned_by``, the text of its 401, or a
``vllm:`` metric. The key guards ``/v1``; ``/version``, ``/health`` and ``/metrics`` need none.

Its health lies: with the engine stopped everything but a completion is answered as ever, and no GET can
tell. A killed engine is a 503 at ``/health``, and only there; the process then ends by itself within some
five seconds (unless ``VLLM_KEEP_ALIVE_ON_ENGINE_DEATH`` is set), which the watch over the process sees
first.

Adapters come and go while it runs, and its list tells at once. Its metrics never count a load, whose path
begins with one that they leave out.

What its GETs never say: whether it can call tools (``--enable-auto-tool-choice``), how large or how
quantised the model is.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome, Stranger
from hived.providers.counting import requests_of
from hived.providers.fields import count, inner, is_object, items, text
from hived.providers.fingerprint import header_of, openai_models, owner_of, phrase
from hived.providers.glancing import glance_first
from hived.providers.http import LARGE, SMALL, Answer, Http
from hived.providers.ladder import identify_stranger
from hived.providers.reach import key_for, timeout_for
from hived_client.vocabulary.requests import Requests
from hived_client.vocabulary.world import Endpoint, Model

METRICS = 8 * 1024 * 1024
"""Bytes that ``/metrics`` may have; 57 kB were seen."""

COUNTED = "metrics"
QUIET = "no metrics"
"""The modes: whether ``/metrics`` has the engine's series, which ``--disable-log-stats`` leaves out."""

Doing = Literal["ready", "busy", "sleeping"]

_SAMPLE = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|engine_sleep_state)"
    rb"\{([^\n]{0,2000})\} ([0-9.eE+]{1,32})\r?$",
    re.MULTILINE,
)


class Vllm:
    """The probe of vLLM."""

    provider = "vllm"

    def __init__(self, http: Http, environment: Mapping[str, str] = os.environ) -> None:
        self._http = http
        self._environment = environment

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask the server how it is; two requests suffice to confirm that nothing changed."""
        return await glance_first(endpoint, thorough=thorough, glance=self._glance, whole=self._whole)

    def has_push(self, endpoint: Endpoint) -> bool:
        """It tells nothing by itself."""
        return False

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Return: there is nothing to listen to."""

    async def count_requests(self, endpoint: Endpoint) -> Requests | None:
        """Read the engines' gauges, which need no key and wake nothing."""
        if endpoint.mode != COUNTED:
            return None
        page = await self._get(endpoint, "/metrics", METRICS)
        if page.status != 200:
            return None
        return requests_of(page.body, "vllm:num_requests_running", "vllm:num_requests_waiting")

    async def _whole(self, endpoint: Endpoint) -> Outcome:
        told = await self._get(endpoint, "/version", SMALL)
        version = _version(told)
        if version is None:
            return await identify_stranger(self._http, endpoint, timeout=timeout_for(endpoint))
        listing = await self._get(endpoint, "/v1/models", LARGE)
        metrics: Answer | None = None
        if not (_is_owner(listing) or _is_refusal(listing)):
            models = openai_models(listing)
            if models is None:
                # Something between us and it may have its own words for a refusal.
                metrics = await self._get(endpoint, "/metrics", METRICS)
            if metrics is None or _doing(metrics) is None:
                return Stranger(seems=phrase(owner_of(listing) or header_of(listing)), models=models)
        # It has shown what it is: from here on it may have the key.
        if listing.status == 401:
            key = key_for(endpoint, self._environment)
            if key is None:
                return Locked(version=version)
            listing = await self._get(endpoint, "/v1/models", LARGE, key=key)
            if listing.status == 401:
                return Locked(version=version)
        dead = await self._dead(endpoint)
        if dead is not None:
            return dead
        cards = inner(listing.json(), "data")
        if listing.status != 200 or not isinstance(cards, list):
            return NoAnswer(kind="broken", why=f"/v1/models has status {listing.status} and no usable list")
        doing = _doing(metrics or await self._get(endpoint, "/metrics", METRICS))
        served = _models(items(cards), sleeping=doing == "sleeping")
        if not served:
            return NoAnswer(kind="broken", why="/v1/models has no usable name")
        return Heard(
            state=doing or "ready",
            version=version,
            mode=QUIET if doing is None else COUNTED,
            models=served,
        )

    async def _glance(self, endpoint: Endpoint) -> Outcome | None:
        """Confirm what is known, with two requests where nothing goes on; ``None`` where something changed.

        The metrics say, to whoever asks, that it is vLLM and whether it sleeps or works. Of adapters that
        came or went they say nothing, and a call of one that is gone fails: so the list is asked too.
        """
        doing: Doing | None = "ready"
        if endpoint.mode == COUNTED:
            doing = _doing(await self._get(endpoint, "/metrics", METRICS))
        elif endpoint.mode != QUIET:
            return None
        elif endpoint.key_ref is not None:
            # Who gets the key has shown what it is.
            told = _version(await self._get(endpoint, "/version", SMALL))
            doing = "ready" if told is not None and told == endpoint.version else None
        if doing is None or (doing == "sleeping") is not (endpoint.state == "sleeping"):
            return None
        listing = await self._get(endpoint, "/v1/models", LARGE, key=key_for(endpoint, self._environment))
        served = _models(items(inner(listing.json(), "data")), sleeping=doing == "sleeping")
        if not _is_owner(listing) or served != endpoint.models:
            return None
        # The counters of a dead engine stand still, and a busy one may be dead.
        return (await self._dead(endpoint) if doing == "busy" else None) or Heard(state=doing)

    async def _dead(self, endpoint: Endpoint) -> NoAnswer | None:
        health = await self._get(endpoint, "/health", SMALL)
        if health.status == 200:
            return None
        why = "its engine is dead" if health.status == 503 else "its health is not 200"
        return NoAnswer(kind="failed", why=f"{why} (/health has status {health.status})")

    async def _get(self, endpoint: Endpoint, path: str, limit: int, *, key: str | None = None) -> Answer:
        url = endpoint.url + path
        return await self._http.get(url, limit=limit, timeout=timeout_for(endpoint), key=key)


def _version(answer: Answer) -> str | None:
    """Return what ``/version`` says, if it says it as vLLM does. GPUStack adds a ``git_commit``."""
    document = answer.json()
    if answer.status != 200 or not is_object(document) or "git_commit" in document:
        return None
    return text(document.get("version"), 100)


def _is_owner(listing: Answer) -> bool:
    first = next(items(inner(listing.json(), "data")), {})
    return listing.status == 200 and first.get("owned_by") == "vllm"


def _is_refusal(listing: Answer) -> bool:
    """Tell whether this is vLLM's own 401: its error is a text, and everybody else's an object."""
    return listing.status == 401 and listing.json() == {"error": "Unauthorized"}


def _models(cards: Iterable[Mapping[str, object]], *, sleeping: bool = False) -> tuple[Model, ...]:
    """Read the base model's names and its adapters, which can do what their base can."""
    models: dict[str, Model] = {}
    parents: dict[str, str | None] = {}
    for card in cards:
        name = text(card.get("id"))
        if name is None or name in models:
            continue
        length = count(card.get("max_model_len"))
        root = text(card.get("root"), 4096)
        models[name] = Model(
            name=name,
            # A path, or the repository that the model came from: whoever asks for that means this one.
            file=root if root is not None and root.startswith("/") else None,
            aliases=(root,) if root not in (None, name) and not root.startswith("/") else (),
            state="sleeping" if sleeping else "loaded",
            context=length,
            loaded_context=length,
        )
        parents[name] = text(card.get("parent"))
    for name, parent in parents.items():
        base = models.get(parent) if parent is not None else None
        if base is None or parent is None or parent == name:
            continue
        models[parent] = msgspec.structs.replace(base, adapters=(*base.adapters, name))
        models[name] = msgspec.structs.replace(
            models[name],
            context=models[name].context or base.context,
            loaded_context=models[name].loaded_context or base.loaded_context,
        )
    return tuple(models.values())


def _doing(metrics: Answer) -> Doing | None:
    """Return what the engines do, by the metrics; ``None`` where they do not say."""
    if metrics.status != 200:
        return None
    seen, work, asleep = False, 0.0, False
    for name, labels, written in _SAMPLE.findall(metrics.body):
        try:
            value = float(written)
        except ValueError:
            continue
        if not math.isfinite(value):
            continue
        seen = True
        if name != b"engine_sleep_state":
            work += value
        elif b'sleep_state="awake"' not in labels:
            asleep = asleep or value > 0
    if not seen:
        return None
    return "sleeping" if asleep else "busy" if work > 0 else "ready"
