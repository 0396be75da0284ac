"""llama.cpp's ``llama-server``, single or router.

Facts (measured on the server of 2026-10): every answer carries ``Server: llama.cpp``; while a model
loads every path is 503 ``unavailable_error``; ``/health`` is public even with a key, ``/props`` and
``/v1/models`` are not. ``/health``, ``/props`` and ``/v1/models`` neither wake a sleeping server nor
reset its timer, and everything else does, so nothing else is asked. In router mode ``/props?model=X``
LOADS X unless ``autoload=false`` is added, and can evict another model for it. How far a load or a
download is stands in the router's events alone: its list of models says only that there is one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome
from hived.providers.counting import requests_of
from hived.providers.fields import count, inner, is_object, items, text, texts
from hived.providers.fingerprint import is_llamacpp
from hived.providers.http import LARGE, MEDIUM, SMALL, Answer, Http, Unusable
from hived.providers.ladder import identify_stranger
from hived.providers.llamacpp_progress import note_progress
from hived.providers.reach import key_for, timeout_for
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.requests import Requests
from hived_client.vocabulary.world import SLOTS, Endpoint, Model, ModelState

MOST_CHILDREN = 16
"""Loaded models of a router whose properties are asked for."""


class LlamaCpp:
    """The probe of llama.cpp."""

    provider = "llamacpp"

    def __init__(self, http: Http, environment: Mapping[str, str] = os.environ) -> None:
        self._http = http
        self._environment = environment
        self._progress: dict[str, dict[str, float]] = {}
        self._uncounted: set[tuple[str, float | None]] = set()
        """Servers without ``--metrics``, by address and since when they are up: they are asked once."""

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask the server how it is; one request suffices to confirm that nothing changed."""
        try:
            if not thorough:
                if endpoint.mode == "single":
                    outcome = await self._glance(endpoint)
                    if outcome is not None:
                        return outcome
                elif endpoint.mode == "router" and await self._may_have_key(endpoint):
                    return await self._router(endpoint, endpoint.version, children=False)
            return await self._whole(endpoint)
        except Unusable as error:
            return error.outcome
        except _Stop as stop:
            return stop.outcome

    def has_push(self, endpoint: Endpoint) -> bool:
        """Only a router tells."""
        return endpoint.mode == "router"

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Listen to ``/models/sse``; every event is cause for a look, whatever it says.

        How far a model is, which no look could show, is kept for the look to take.
        """
        progress = self._progress[endpoint.url] = {}

        def line(data: bytes) -> None:
            if data.startswith(b"data:"):
                note_progress(progress, data.removeprefix(b"data:"))
                told()

        try:
            if not await self._may_have_key(endpoint):
                return
            await self._http.listen(
                f"{endpoint.url}/models/sse",
                line,
                timeout=timeout_for(endpoint),
                key=key_for(endpoint, self._environment),
            )
        except (Unusable, _Stop):
            return
        finally:
            if self._progress.get(endpoint.url) is progress:
                del self._progress[endpoint.url]

    async def count_requests(self, endpoint: Endpoint) -> Requests | None:
        """Read the gauges of a single server that was started with ``--metrics``.

        A router is not asked: it would have each of its children say it, and note that they were used.
        """
        server = (endpoint.url, endpoint.since)
        if endpoint.mode != "single" or server in self._uncounted:
            return None
        try:
            if not await self._may_have_key(endpoint):
                return None
            page = await self._get(endpoint, "/metrics", MEDIUM)
        except _Stop:
            return None
        if page.status != 200 or not is_llamacpp(page):
            if page.status in (404, 501):
                self._uncounted = {*list(self._uncounted)[-SLOTS:], server}
            return None
        return requests_of(page.body, "llamacpp:requests_processing", "llamacpp:requests_deferred")

    async def _whole(self, endpoint: Endpoint) -> Outcome:
        health = await self._get(endpoint, "/health", SMALL, keyed=False)
        if not is_llamacpp(health):
            return await identify_stranger(self._http, endpoint, timeout=timeout_for(endpoint))
        if health.status != 200 or inner(health.json(), "status") != "ok":
            return NoAnswer(
                kind="broken", why=f"/health has status {health.status} and says neither ok nor loading"
            )
        properties = await self._document(endpoint, "/props", MEDIUM)
        version = _version(properties)
        if properties.get("role") == "router":
            return await self._router(endpoint, version, children=True)
        listing = await self._document(endpoint, "/v1/models", LARGE)
        entries = list(items(listing.get("data")))
        if not entries:
            return NoAnswer(kind="broken", why="/v1/models lists no model")
        sleeping = properties.get("is_sleeping") is True
        models = (_single(entries[0], listing, properties, sleeping=sleeping),)
        if models[0] is None:
            return NoAnswer(kind="broken", why="/v1/models has no usable name")
        return Heard(
            state="sleeping" if sleeping else "ready", version=version, mode="single", models=(models[0],)
        )

    async def _glance(self, endpoint: Endpoint) -> Outcome | None:
        """Confirm a single-mode server with one request; ``None`` where something is not as it was.

        While it is ready a key is not sent on this way, since somebody else may have the port by now:
        with one, only what is public is confirmed.
        """
        if endpoint.key_ref is not None:
            health = await self._get(endpoint, "/health", SMALL, keyed=False)
            if not is_llamacpp(health) or health.status != 200:
                return None
            if endpoint.state == "ready":
                return Heard(state="ready")
        answer = await self._get(endpoint, "/props", MEDIUM)
        properties = answer.json()
        if answer.status != 200 or not is_llamacpp(answer) or not is_object(properties):
            return None
        model = endpoint.models[0] if endpoint.models else None
        same = (
            model is not None
            and properties.get("role") != "router"
            and _version(properties) == endpoint.version
            and text(properties.get("model_path"), 4096) == model.file
            and _loaded_context(properties) in (None, model.loaded_context)
        )
        sleeping = properties.get("is_sleeping") is True
        if not same or sleeping is not (endpoint.state == "sleeping"):
            return None
        return Heard(state="sleeping" if sleeping else "ready")

    async def _router(self, endpoint: Endpoint, version: str | None, *, children: bool) -> Outcome:
        listing = await self._document(endpoint, "/models", LARGE)
        if not isinstance(listing.get("data"), list):
            return NoAnswer(kind="broken", why="/models has no list")
        before = {model.name: model for model in endpoint.models or ()}
        progress = self._progress.get(endpoint.url, {})
        models: dict[str, Model] = {}
        asked = 0
        for entry in items(listing["data"]):
            model = _routed(entry, endpoint.name)
            if model is None or model.name in models:
                continue
            if model.state == "loaded":
                known = before.get(model.name)
                if known is not None and known.capabilities is not None and not children:
                    model = msgspec.structs.replace(model, capabilities=known.capabilities)
                elif asked < MOST_CHILDREN:
                    asked += 1
                    model = await self._child(endpoint, model)
            elif model.state in ("loading", "downloading"):
                model = msgspec.structs.replace(model, progress=progress.get(model.name))
            models[model.name] = model
        return Heard(state="ready", version=version, mode="router", models=tuple(models.values()))

    async def _child(self, endpoint: Endpoint, model: Model) -> Model:
        """Ask a loaded model of a router what it can. One that has just gone is not loaded for it."""
        path = f"/props?model={quote(model.name, safe='')}&autoload=false"
        try:
            answer = await self._get(endpoint, path, MEDIUM)
        except (Unusable, _Stop):
            return model
        properties = answer.json()
        if answer.status != 200 or not is_object(properties):
            return model
        return msgspec.structs.replace(
            model,
            capabilities=_capabilities(properties, {}),
            loaded_context=model.loaded_context or _loaded_context(properties),
        )

    async def _document(self, endpoint: Endpoint, path: str, limit: int) -> dict[str, object]:
        answer = await self._get(endpoint, path, limit)
        document = answer.json()
        if answer.status != 200 or not is_object(document):
            raise _Stop(NoAnswer(kind="broken", why=f"{path} has status {answer.status} and no usable body"))
        return document

    async def _get(self, endpoint: Endpoint, path: str, limit: int, *, keyed: bool = True) -> Answer:
        """Fetch from a server; what it says on every path (loading, no key) ends the look."""
        key = key_for(endpoint, self._environment) if keyed else None
        url = endpoint.url + path
        answer = await self._http.get(url, limit=limit, timeout=timeout_for(endpoint), key=key)
        if is_llamacpp(answer):
            kind = inner(answer.json(), "error", "type") if answer.status in (401, 503) else None
            if answer.status == 503 and kind == "unavailable_error":
                raise _Stop(Heard(state="loading"))
            if answer.status == 401:
                raise _Stop(Locked())
        return answer

    async def _may_have_key(self, endpoint: Endpoint) -> bool:
        """Tell whether what listens now may be sent the key: it must show what it is, each time."""
        return key_for(endpoint, self._environment) is None or is_llamacpp(
            await self._get(endpoint, "/health", SMALL, keyed=False)
        )


class _Stop(Exception):
    """The look is over: this is what came of it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def _version(properties: Mapping[str, object]) -> str | None:
    """Return the build; none for one that was made outside git and does not know its own (``b0-unknown``)."""
    build = text(properties.get("build_info"), 100)
    return None if build is not None and build.startswith("b0-") else build


def _single(
    entry: Mapping[str, object],
    listing: Mapping[str, object],
    properties: Mapping[str, object],
    *,
    sleeping: bool,
) -> Model | None:
    name = text(entry.get("id"), 4096)
    if name is None:
        return None
    aliases = (*texts(entry.get("aliases")), *filter(None, [text(properties.get("model_alias"))]))
    own = next(items(listing.get("models")), {})
    return _with_meta(
        Model(
            name=name,
            aliases=tuple(alias for alias in dict.fromkeys(aliases) if alias != name),
            file=text(properties.get("model_path"), 4096),
            state="sleeping" if sleeping else "loaded",
            capabilities=_capabilities(properties, own),
        ),
        entry,
        _loaded_context(properties),
    )


_STATES: dict[str, ModelState] = {
    "downloading": "downloading",
    "downloaded": "unloaded",
    "unloaded": "unloaded",
    "loading": "loading",
    "loaded": "loaded",
    "sleeping": "sleeping",
}


def _routed(entry: Mapping[str, object], endpoint: str) -> Model | None:
    name = text(entry.get("id"))
    if name is None:
        return None
    value = inner(entry, "status", "value")
    state = _STATES.get(value) if isinstance(value, str) else None
    problem = None
    if inner(entry, "status", "failed") is True:
        state = "failed"
        problem = fault(
            "model.failed",
            endpoint=endpoint,
            model=name,
            exit_code=count(inner(entry, "status", "exit_code")),
        )
    return _with_meta(
        Model(
            name=name,
            aliases=tuple(alias for alias in texts(entry.get("aliases")) if alias != name),
            file=_file_argument(inner(entry, "status", "args")),
            state=state,
            fault=problem,
        ),
        entry,
        None,
    )


def _with_meta(model: Model, entry: Mapping[str, object], loaded_context: int | None) -> Model:
    meta = entry.get("meta")
    if not is_object(meta) and loaded_context is None:
        return model  # one of a router that was never loaded, of which there may be thousands
    return msgspec.structs.replace(
        model,
        size=count(inner(meta, "size")),
        quantization=text(inner(meta, "ftype"), 100),
        parameters=count(inner(meta, "n_params")),
        context=count(inner(meta, "n_ctx_train")),
        loaded_context=count(inner(meta, "n_ctx")) or loaded_context,
    )


def _loaded_context(properties: Mapping[str, object]) -> int | None:
    return count(inner(properties, "default_generation_settings", "n_ctx"))


def _capabilities(properties: Mapping[str, object], own: Mapping[str, object]) -> tuple[str, ...] | None:
    """Return what the model can do; ``None`` where the server is too old to tell about tools."""
    template = properties.get("chat_template_caps")
    if not is_object(template):
        return None
    found = ["completion"]
    if template.get("supports_tools") is True or template.get("supports_tool_calls") is True:
        found.append("tools")
    if inner(properties, "modalities", "vision") is True or "multimodal" in texts(own.get("capabilities")):
        found.append("vision")
    return tuple(found)


def _file_argument(arguments: object) -> str | None:
    """Take the model's file out of a child's arguments; nothing else, since they may hold secrets."""
    words = arguments if isinstance(arguments, list) else []
    for flag, value in itertools.pairwise(words):
        if flag in ("--model", "-m"):
            return text(value, 4096)
    return None
