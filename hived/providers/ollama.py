"""Ollama, on this device or another.

Facts (the server of 2026-08, recorded and read): ``/`` is public and always the same 17 bytes, but four
other products answer ``/api/version`` too, and one of them ``/``; ``/api/status`` is its own since 0.16.2.
It accepts connections seconds before it answers any. ``/api/tags`` and ``/api/ps`` load nothing, nor does
``/api/show``; what generates does, so it is never asked. The runner behind a loaded model may be dead:
``/api/ps`` lists it on, and the next call loads it again. A model that is loading is not listed. What
``/api/tags`` says of a model's tools is too little, and ``/api/show`` is asked once for each such model.

That runner is a ``llama-server`` on a port that the system chooses. It is never taken for a server of its
own: hived looks at addresses that were given and at default ports, not at whoever listens.

A model can be one of the cloud's, and then the server on this device sends the prompts to the internet.
``/api/show`` of such a model asks the cloud, so it is not asked either.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from hived.decisions.outcomes import Heard, NoAnswer, Outcome, Stranger
from hived.providers.disk_ollama import manifest_folders
from hived.providers.fields import count, inner, is_object, items, text
from hived.providers.fingerprint import phrase
from hived.providers.glancing import glance_first
from hived.providers.http import LARGE, SMALL, Answer, Http, Unusable
from hived.providers.ladder import identify_stranger, name_product, seemed
from hived.providers.ollama_words import (
    aliases_of,
    capabilities_of,
    is_cloud,
    listed_capabilities_of,
    parameters_of,
    quantization_of,
)
from hived.providers.reach import timeout_for
from hived.providers.watching import watch_folders
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import Endpoint, Model

GREETING = b"Ollama is running"
HYDRATION = 10.0
"""Seconds for the list of models: the first time, the server reads all of them."""
MOST_SHOWN = 8
"""Models that are asked about one by one in a whole look, where the list says too little of them."""
MOST_REMEMBERED = 2000
"""Models of which it is remembered what they said."""
TURNS = 4
"""Every so many glances, the list of models is glanced at in place of what is loaded."""

_DOUBLES = frozenset(map(phrase, ("LocalAI", "Lemonade", "KoboldCpp")))
"""Who answers all that an Ollama from before its status does."""
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said of itself, when it was asked."""

    context: int | None = None
    parameters: int | None = None
    quantization: str | None = None
    capabilities: tuple[str, ...] | None = None


class Ollama:
    """The probe of Ollama. All that it remembers is what models said, by the digest that they have."""

    provider = "ollama"

    def __init__(self, http: Http, environment: Mapping[str, str] = os.environ) -> None:
        self._http = http
        self._environment = environment
        self._shown: dict[str, _Shown] = {}
        self._turns: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Ollama {len(self._shown)} models remembered>"

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask the server how it is; one request suffices to confirm that nothing changed."""
        return await glance_first(endpoint, thorough=thorough, glance=self._glance, whole=self._whole)

    def has_push(self, endpoint: Endpoint) -> bool:
        """On this device the folders of its models tell of those that come and go, where they may be read."""
        return locality_of(endpoint.url) == "device"

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Watch the folders of manifests, for ever: a manifest is what a pull writes last."""
        await watch_folders(manifest_folders(self._environment), told)

    async def _whole(self, endpoint: Endpoint) -> Outcome:
        version = await self._fingerprint(endpoint)
        if isinstance(version, Stranger | NoAnswer):
            return version
        tags = await self._get(endpoint, "/api/tags", LARGE, HYDRATION)
        listed = _models(tags)
        if listed is None:
            return NoAnswer(kind="broken", why=f"/api/tags has status {tags.status} and no list of models")
        running = _running(await self._get(endpoint, "/api/ps", LARGE))
        if running is None:
            return NoAnswer(kind="broken", why="/api/ps has no list of models")
        self._turns[endpoint.url] = 0
        models = await self._filled(endpoint, _merged(listed, running))
        return Heard(state="ready", version=version, models=models)

    async def _glance(self, endpoint: Endpoint) -> Outcome | None:
        """Spend one request; ``None`` where something is not as it was."""
        if endpoint.warnings:
            return await self._glance_at_stranger(endpoint)
        if endpoint.version is None or endpoint.models is None:
            return None
        turn = self._turns.get(endpoint.url, 0) + 1
        self._turns[endpoint.url] = turn
        if turn % TURNS == 0:
            unsaid = next((model for model in endpoint.models if self._is_unsaid(model)), None)
            if unsaid is not None:
                if not await self._show(endpoint, unsaid):
                    return None
                return Heard(state="ready", models=tuple(map(self._completed, endpoint.models)))
            # The folder may be another server's, or not ours to see: without this nobody would ever tell.
            listed = _models(await self._get(endpoint, "/api/tags", LARGE, HYDRATION))
            same = listed is not None and _identities(listed.values()) == _identities(endpoint.models)
            return Heard(state="ready") if same else None
        running = _running(await self._get(endpoint, "/api/ps", LARGE))
        if running is None:
            return None
        known = {model.name.casefold(): model for model in endpoint.models}
        if any(name not in known for name in running):
            return None
        kept = {name: m for name, m in known.items() if name in running or not _is_left_over(m)}
        return Heard(state="ready", models=_merged(kept, running))

    async def _glance_at_stranger(self, endpoint: Endpoint) -> Stranger | NoAnswer | None:
        """Ask a server that is used although it is another: ``None`` where it is an Ollama now."""
        try:
            if _is_own_status(await self._get(endpoint, "/api/status", SMALL)):
                return None
        except Unusable as error:
            if error.outcome.kind not in ("redirect", "broken"):
                raise
        return await self._stranger(endpoint)

    # What it is.

    async def _fingerprint(self, endpoint: Endpoint) -> str | Stranger | NoAnswer:
        """Return the version of an Ollama, or what the server is instead."""
        try:
            greeting = await self._get(endpoint, "/", SMALL)
        except Unusable as error:
            if error.outcome.kind != "redirect":
                raise
            # One of them (llama-swap) sends whoever comes to its page.
            found = await self._stranger(endpoint)
            known = isinstance(found, Stranger) and (found.seems or found.models is not None)
            return found if known else error.outcome
        if greeting.status == 403 and not greeting.body:
            why = "it refuses the name in this address (status 403); a server on loopback answers to few"
            return NoAnswer(kind="broken", why=why)
        if greeting.status != 200 or greeting.body != GREETING:
            return await self._stranger(endpoint)
        told = await self._get(endpoint, "/api/version", SMALL)
        document = told.json()
        version = text(inner(document, "version"), 100)
        if told.status != 200 or not is_object(document) or set(document) != {"version"} or version is None:
            return await self._stranger(endpoint)
        if _is_own_status(await self._get(endpoint, "/api/status", SMALL)):
            return version
        # An Ollama from before 0.16.2, or one of those that pass for one. What passed once is believed, and
        # so is what was found out.
        if endpoint.version == version:
            return version
        if seemed(endpoint) in _DOUBLES:
            return await self._stranger(endpoint)
        name = await name_product(self._http, endpoint.url, timeout=timeout_for(endpoint))
        return version if name in ("Ollama", "") else await self._stranger(endpoint, name)

    async def _stranger(self, endpoint: Endpoint, name: str | None = None) -> Stranger | NoAnswer:
        return await identify_stranger(self._http, endpoint, timeout=timeout_for(endpoint), name=name)

    # What its models say of themselves.

    async def _filled(self, endpoint: Endpoint, models: tuple[Model, ...]) -> tuple[Model, ...]:
        """Ask models of which the list says too little, those that are loaded first, and only a few."""
        unsaid = [model for model in models if self._is_unsaid(model)]
        for model in sorted(unsaid, key=lambda each: each.state != "loaded")[:MOST_SHOWN]:
            if not await self._show(endpoint, model):
                break
        return tuple(map(self._completed, models))

    def _is_unsaid(self, model: Model) -> bool:
        lacks = model.capabilities is None or model.context is None
        return (
            lacks and model.digest is not None and model.locality is None and model.digest not in self._shown
        )

    async def _show(self, endpoint: Endpoint, model: Model) -> bool:
        """Ask one model, and remember what it said or that it said nothing; tell whether to go on."""
        if model.digest is None:
            return True
        try:
            answer = await self._http.post(
                f"{endpoint.url}/api/show",
                {"model": model.name},
                limit=LARGE,
                timeout=timeout_for(endpoint),
            )
        except Unusable as error:
            # One that says too much is left alone from now on; a server that is slow is asked again later.
            if error.outcome.kind != "broken":
                return False
            answer = Answer(status=0, headers={}, body=b"")
        if len(self._shown) >= MOST_REMEMBERED:
            self._shown.pop(next(iter(self._shown)))
        self._shown[model.digest] = _read_shown(answer.json()) if answer.status == 200 else _Shown()
        return True

    def _completed(self, model: Model) -> Model:
        """Add what a model said of itself to what the list says of it."""
        shown = self._shown.get(model.digest or "")
        if shown is None:
            return model
        return msgspec.structs.replace(
            model,
            context=model.context or shown.context,
            parameters=model.parameters or shown.parameters,
            quantization=model.quantization or shown.quantization,
            capabilities=shown.capabilities if model.capabilities is None else model.capabilities,
        )

    async def _get(self, endpoint: Endpoint, path: str, limit: int, timeout: float | None = None) -> Answer:
        """Fetch. Without a key: this server knows none, so there is nobody who should have it."""
        return await self._http.get(
            endpoint.url + path, limit=limit, timeout=timeout_for(endpoint) if timeout is None else timeout
        )


def _is_own_status(answer: Answer) -> bool:
    """Tell whether this is what only an Ollama says at ``/api/status``, since 0.16.2."""
    return answer.status == 200 and is_object(inner(answer.json(), "cloud"))


def _models(answer: Answer) -> dict[str, Model] | None:
    """Read ``/api/tags``, by names in lower case; ``None`` where it is no list."""
    entries = _entries(answer)
    if entries is None:
        return None
    found: dict[str, Model] = {}
    for entry in entries:
        model = _listed(entry)
        if model is not None:
            found.setdefault(model.name.casefold(), model)
    return found


def _running(answer: Answer) -> dict[str, Model] | None:
    """Read ``/api/ps`` likewise."""
    entries = _entries(answer)
    if entries is None:
        return None
    found: dict[str, Model] = {}
    for entry in entries:
        model = _listed(entry)
        if model is not None:
            found.setdefault(model.name.casefold(), _loaded(model, entry))
    return found


def _entries(answer: Answer) -> list[dict[str, object]] | None:
    told = inner(answer.json(), "models")
    return list(items(told)) if answer.status == 200 and isinstance(told, list) else None


def _listed(entry: Mapping[str, object]) -> Model | None:
    name = text(entry.get("name")) or text(entry.get("model"))
    if name is None:
        return None
    digest = entry.get("digest")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    cloud = is_cloud(name, entry)
    return Model(
        name=name,
        aliases=aliases_of(name),
        # What runs in the cloud is neither loaded nor not, and its file is a stub.
        state=None if cloud else "unloaded",
        size=None if cloud else count(entry.get("size")),
        digest=match[1] if match is not None else None,
        quantization=quantization_of(inner(entry, "details", "quantization_level")),
        parameters=parameters_of(inner(entry, "details", "parameter_size")),
        context=count(inner(entry, "details", "context_length")),
        capabilities=(capabilities_of if cloud else listed_capabilities_of)(entry.get("capabilities")),
        locality="internet" if cloud else None,
    )


def _loaded(model: Model, entry: Mapping[str, object]) -> Model:
    """Add how a model is loaded; its sizes are bytes of memory here, not of the file."""
    offload = _offload(entry.get("size"), entry.get("size_vram"))
    return msgspec.structs.replace(
        model,
        state="loaded",
        size=None,
        loaded_context=count(entry.get("context_length")),
        offload=offload,
        memory=count(entry.get("size")),
        device=_device(offload),
    )


def _offload(size: object, size_vram: object) -> float | None:
    """Return the share on an accelerator; both are 0 where Ollama could not read its runner's words."""
    whole, part = count(size), 0 if size_vram == 0 and not isinstance(size_vram, bool) else count(size_vram)
    if whole is None or part is None or part > whole:
        return None
    return round(part / whole, 4)


def _device(offload: float | None) -> str | None:
    if offload is None:
        return None
    return "cpu" if offload == 0 else "gpu" if offload == 1 else "cpu+gpu"


def _merged(listed: Mapping[str, Model], running: Mapping[str, Model]) -> tuple[Model, ...]:
    """Put what is on disk and what is loaded together: one that was deleted may still run."""
    models = []
    for name, model in listed.items():
        one = running.get(name)
        loaded = one if one is not None and _is_same(model, one) else None
        models.append(
            msgspec.structs.replace(
                model,
                state=model.state if model.locality is not None else "loaded" if loaded else "unloaded",
                loaded_context=loaded.loaded_context if loaded else None,
                offload=loaded.offload if loaded else None,
                memory=loaded.memory if loaded else None,
                device=loaded.device if loaded else None,
            )
        )
    return (*models, *(model for name, model in running.items() if name not in listed))


def _is_same(listed: Model, running: Model) -> bool:
    """Tell whether what runs under a name is what lies on disk under it: a pull may have replaced that."""
    return listed.digest is None or running.digest is None or listed.digest == running.digest


def _is_left_over(model: Model) -> bool:
    """Tell whether a model is only known because it runs: what lies on disk has a size."""
    return model.size is None and model.locality is None


def _identities(models: Iterable[Model]) -> set[tuple[str, str | None]]:
    """Return what tells models on disk from others."""
    return {(model.name.casefold(), model.digest) for model in models if not _is_left_over(model)}


def _read_shown(document: object) -> _Shown:
    facts = inner(document, "model_info")
    architecture = inner(facts, "general.architecture")
    return _Shown(
        context=count(inner(facts, f"{architecture}.context_length"))
        if isinstance(architecture, str)
        else None,
        parameters=count(inner(facts, "general.parameter_count")),
        quantization=quantization_of(inner(document, "details", "quantization_level")),
        capabilities=capabilities_of(inner(document, "capabilities")),
    )
