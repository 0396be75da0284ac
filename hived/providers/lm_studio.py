"""LM Studio's HTTP server. Closed source: from its documentation, its clients' source and reports.

``/lmstudio-greeting`` is its own clients' check. Any path that it does not know is 200 with a top-level
``error``, so a status says nothing here and only the expected keys do. Its own listing came with 0.4
(``/api/v1/models``), an older one with 0.3.6 (``/api/v0/models``); before that there is only OpenAI's.
A request for a completion loads a model (just-in-time loading), a listing never does.

A model of a linked device (LM Link) is listed like any other: documented is no mark of it here, only in the
SDK. An entry that does carry one is counted as being as far away as can be, so that no private question
reaches it; one that carries none is one of this device only where the disk vouches for it
(``lm_studio_places``). That is asked of a server on this device: of another's disk nothing is known.

It is often open without its server being started, which is off until somebody starts it: a listener for
its own clients then answers the same greeting on another port.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import anyio
import msgspec

from hived.decisions.addresses import host_and_port
from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome
from hived.providers.fields import count, inner, is_object, items, text, texts
from hived.providers.fingerprint import openai_models
from hived.providers.glancing import glance_first
from hived.providers.http import LARGE, LOOK_TIMEOUT, SMALL, Answer, Http, Unusable
from hived.providers.ladder import identify_stranger
from hived.providers.lm_studio_places import Here, Places, unplaced
from hived.providers.reach import key_for, timeout_for
from hived.providers.watching import watch_folders
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import GUESSED, Endpoint, Model

Level = Literal["v1", "v0", "openai"]

PATHS: dict[Level, str] = {"v1": "/api/v1/models", "v0": "/api/v0/models", "openai": "/v1/models"}
"""Where each level of the API lists models, the newest first."""
_ELSEWHERE = ("device_identifier", "deviceIdentifier", "device_id", "deviceId")
STEP = 250
"""Milliseconds between two looks at what the system has told of the models folder."""
PAUSE = 1.0
"""Seconds between two looks that changes there cause: each is a line in the server's log."""
MOVED = 5.0
"""Seconds between two looks at whether the user has named another folder."""
CLOSED = "it is open, and its server is not started"
_NAMES = ("key", "id", "selected_variant")
"""What an entry calls its model; an instance has a name of its own beside these."""
_PARAMETERS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([KMBT])(?![a-z])", re.IGNORECASE)
_POWERS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


class LmStudio:
    """The probe of LM Studio."""

    provider = "lm_studio"

    def __init__(self, http: Http, environment: Mapping[str, str] = os.environ) -> None:
        self._http = http
        self._environment = environment
        self._places = Places(environment)

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask the server what it has; one request suffices for that once its API is known."""
        outcome = await glance_first(endpoint, thorough=thorough, glance=self._glance, whole=self._whole)
        refused = isinstance(outcome, NoAnswer) and outcome.kind == "refused"
        if refused and await self._is_open(endpoint):
            return NoAnswer(kind="closed", why=CLOSED)
        return outcome

    def has_push(self, endpoint: Endpoint) -> bool:
        """Over HTTP it tells nothing by itself; on this device its models folder does."""
        return locality_of(endpoint.url) == "device" and self._places.folder != ""

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Watch the models folder for models that come and go, until another folder is the one."""
        folder = self._places.folder
        async with anyio.create_task_group() as tasks:

            async def end_when_moved() -> None:
                while True:
                    await anyio.sleep(MOVED)
                    if self._places.folder != folder:
                        break
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_when_moved)
            # What is written into a file that is being fetched is no news, and that lasts for minutes.
            await watch_folders([folder], told, writes=False, step=STEP, pause=PAUSE)

    async def _whole(self, endpoint: Endpoint) -> Outcome:
        greeting = await self._get(endpoint, "/lmstudio-greeting", SMALL)
        if not is_greeting(greeting):
            return await identify_stranger(self._http, endpoint, timeout=timeout_for(endpoint))
        # It has shown what it is: from here on it may have the key.
        key = key_for(endpoint, self._environment)
        here = await self._here(endpoint)
        for level, path in PATHS.items():
            listing = await self._get(endpoint, path, LARGE, key=key)
            if _is_refusal(listing):
                return Locked()
            models = _read(level, listing, here)
            if models is not None:
                version = await self._version(endpoint)
                return Heard(state="ready", version=version, mode=level, models=models)
            if not _is_unknown_path(listing):
                why = f"{path} has status {listing.status} and no usable list"
                return NoAnswer(kind="broken", why=why)
        # It knows none of its own paths: some versions say so to whoever brings no token.
        return Locked()

    async def _glance(self, endpoint: Endpoint) -> Outcome | None:
        """Ask for the list alone: it shows as well as the greeting does what answers.

        A key goes only to a server that has greeted just now, since somebody else may have the port.
        """
        level = next((level for level in PATHS if level == endpoint.mode), None)
        if level is None:
            return None
        key = key_for(endpoint, self._environment)
        if key is not None and not is_greeting(await self._get(endpoint, "/lmstudio-greeting", SMALL)):
            return None
        listing = await self._get(endpoint, PATHS[level], LARGE, key=key)
        models = _read(level, listing, await self._here(endpoint))
        return None if models is None else Heard(state="ready", models=models)

    async def _here(self, endpoint: Endpoint) -> Here | None:
        """Return what is on this device's disk, for a server on this device."""
        return await self._places.here() if locality_of(endpoint.url) == "device" else None

    async def _is_open(self, endpoint: Endpoint) -> bool:
        """Tell whether LM Studio itself is open on this device: whoever takes one question and greets."""
        if locality_of(endpoint.url) != "device":
            return False
        ports = await self._places.ports()
        last, own = self._places.last_served, host_and_port(endpoint.url)[1]
        if endpoint.source in GUESSED and last is not None and last != own:
            return False  # where it serves is known, and that a guess is wrong says nothing
        for port in ports:
            url = f"http://127.0.0.1:{port}/lmstudio-greeting"
            try:
                return is_greeting(await self._http.get(url, limit=SMALL, timeout=LOOK_TIMEOUT))
            except Unusable as error:
                if error.outcome.kind != "refused":
                    return False
        return False

    async def _version(self, endpoint: Endpoint) -> str | None:
        """Return the version, which newer ones tell; a server that does not is no worse for it."""
        try:
            told = await self._get(endpoint, "/lms-status", SMALL)
        except Unusable:
            return None
        return text(inner(told.json(), "version"), 100)

    async def _get(self, endpoint: Endpoint, path: str, limit: int, *, key: str | None = None) -> Answer:
        url = endpoint.url + path
        return await self._http.get(url, limit=limit, timeout=timeout_for(endpoint), key=key)


def is_greeting(answer: Answer) -> bool:
    """Tell whether this is LM Studio's answer to ``/lmstudio-greeting``."""
    document = answer.json()
    return answer.status == 200 and is_object(document) and document.get("lmstudio") is True


def _is_refusal(answer: Answer) -> bool:
    """Tell whether the answer asks for a token, whatever its status."""
    return answer.status in (401, 403) or inner(answer.json(), "error", "code") == "invalid_api_key"


def _is_unknown_path(answer: Answer) -> bool:
    """Tell whether the answer says that there is no such path: an error within 200, or an honest 404."""
    problem = inner(answer.json(), "error")
    said = problem if isinstance(problem, str) else inner(problem, "message")
    return answer.status == 404 or (isinstance(said, str) and said.startswith("Unexpected endpoint"))


def _read(level: Level, answer: Answer, here: Here | None) -> tuple[Model, ...] | None:
    """Return the models of a listing; ``None`` for anything that is not one of that level.

    ``here``: what is on the disk of the device that they have to be on; ``None`` where nobody can know.
    """
    document = answer.json()
    if answer.status != 200 or not is_object(document) or "error" in document:
        return None
    if level == "openai":
        owners = {repr(item.get("owned_by")) for item in items(document.get("data"))}
        listed = openai_models(answer) if owners <= {"'organization_owner'"} else None
        return None if listed is None else tuple(_placed(model, (), here) for model in listed)
    entries = document.get("models" if level == "v1" else "data")
    if not isinstance(entries, list):
        return None
    own = "key" if level == "v1" else "state"
    if entries and not any(own in entry for entry in items(entries)):
        return None
    read = _of_v1 if level == "v1" else _of_v0
    models: dict[str, Model] = {}
    for entry in items(entries):
        names = [each for field in _NAMES if (each := text(entry.get(field))) is not None]
        for model in read(entry):
            models.setdefault(model.name, _placed(model, names, here))
    return tuple(models.values())


def _placed(model: Model, names: Iterable[str], here: Here | None) -> Model:
    """Add whether it is certain where a model runs, which may have other names than its own."""
    if here is None or model.locality is not None:
        return model
    problem = unplaced(model.name, (model.name, *names), model.size, here)
    return model if problem is None else msgspec.structs.replace(model, unplaced=problem)


def _of_v1(entry: Mapping[str, object]) -> Iterator[Model]:
    """Read one entry: the model by its key, and each further instance under its own name."""
    key = text(entry.get("key"))
    if key is None:
        return
    contexts: dict[str, int | None] = {}
    for instance in items(entry.get("loaded_instances")):
        name = text(instance.get("id"))
        if name is not None:
            contexts[name] = count(inner(instance, "config", "context_length"))
    model = Model(
        name=key,
        state="unloaded",
        size=count(entry.get("size_bytes")),
        quantization=text(inner(entry, "quantization", "name"), 100),
        parameters=parameters(entry.get("params_string")),
        context=count(entry.get("max_context_length")),
        capabilities=_capabilities(entry),
        locality=_locality(entry),
    )
    if not contexts:
        yield model
        return
    # By its key one may get any instance, unless one has the key for a name: count on the smallest.
    known = [context for context in contexts.values() if context is not None]
    own = contexts.get(key) if key in contexts else min(known, default=None)
    yield msgspec.structs.replace(model, state="loaded", loaded_context=own)
    for name, context in contexts.items():
        if name != key:
            yield msgspec.structs.replace(model, name=name, state="loaded", loaded_context=context)


def _of_v0(entry: Mapping[str, object]) -> Iterator[Model]:
    name = text(entry.get("id"))
    if name is None:
        return
    state = entry.get("state")
    yield Model(
        name=name,
        state="loaded" if state == "loaded" else "unloaded" if state == "not-loaded" else None,
        quantization=text(entry.get("quantization"), 100),
        context=count(entry.get("max_context_length")),
        loaded_context=count(entry.get("loaded_context_length")) if state == "loaded" else None,
        capabilities=_older_capabilities(entry),
        locality=_locality(entry),
    )


def _capabilities(entry: Mapping[str, object]) -> tuple[str, ...] | None:
    """Return what a model can do; ``None`` where the entry does not say."""
    if entry.get("type") == "embedding":
        return ("embedding",)
    told = entry.get("capabilities")
    if not is_object(told):
        return None
    found = ["completion"]
    found += ["tools"] if told.get("trained_for_tool_use") is True else []
    found += ["vision"] if told.get("vision") is True else []
    found += ["thinking"] if is_object(told.get("reasoning")) else []
    return tuple(found)


def _older_capabilities(entry: Mapping[str, object]) -> tuple[str, ...] | None:
    """The same at the older level, which tells of tools since 0.3.16 and of the rest by the type."""
    kind = entry.get("type")
    if kind == "embeddings":
        return ("embedding",)
    if not isinstance(entry.get("capabilities"), list):
        return None
    found = ["completion"]
    found += ["tools"] if "tool_use" in texts(entry["capabilities"]) else []
    found += ["vision"] if kind == "vlm" else []
    return tuple(found)


def _locality(entry: Mapping[str, object]) -> Literal["internet"] | None:
    """Where a model runs that is said to be on another device: nobody knows, so as far away as can be."""
    return "internet" if any(entry.get(field) for field in _ELSEWHERE) else None


def parameters(written: object) -> int | None:
    """Read ``26B-A4B`` or ``0.6B``: how many parameters there are in all."""
    found = _PARAMETERS.match(written) if isinstance(written, str) else None
    return None if found is None else count(float(found[1]) * _POWERS[found[2].upper()])
