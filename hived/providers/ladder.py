"""Which product answers at an address that nobody vouches for.

A rung is a question that only one product answers in its way; the first that fits ends it. The order
matters: LocalAI, Lemonade, Docker Model Runner and llama-swap all answer as Ollama does, and several
answer ``/version`` as vLLM does.

Never asked: ``/health`` of a server that may be LiteLLM (it calls every model behind it), llama-swap's
``/unload`` and ``/upstream``, and anything with ``model=``. A path is asked for once, and no key is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from hived.decisions.outcomes import NoAnswer, Stranger
from hived.providers.fields import inner, is_object, text
from hived.providers.fingerprint import header_of, is_llamacpp, openai_models, owner_of, phrase
from hived.providers.http import MEDIUM, SMALL, Answer, Http, Unusable
from hived_client.vocabulary.world import GUESSED, Endpoint

GENERIC = "an OpenAI-compatible server"
FASTAPI = "a FastAPI application"

_TITLES = {"Jan API Server Endpoints": "Jan"}
"""Products by the title of their OpenAPI document."""


async def name_product(http: Http, url: str, *, timeout: float) -> str:
    """Return the name of the product at this address, or nothing where it cannot be told.

    ``timeout`` bounds the whole of it in seconds. Never raises; safe to cancel.
    """
    with anyio.move_on_after(timeout):
        asked = _Asked(http, url, timeout)
        for rung in _RUNGS:
            try:
                name = await rung(asked)
            except Unusable:
                return ""  # it does not even answer as it should: more questions would only annoy
            if name:
                return name
    return ""


async def identify_stranger(
    http: Http, endpoint: Endpoint, *, timeout: float, name: str | None = None
) -> Stranger | NoAnswer:
    """Say what a server that is not the expected one seems to be, and what it serves, if that is usable.

    Where nobody is there any more at the end, that is what is said: it may have been the expected one. And
    so it is where the user gave the address and nobody answers any more: what it serves would have decided.

    The whole ladder is climbed once: as long as it stays a stranger, what it seemed to be is believed.
    ``name``: what ``name_product`` has just said, where it was asked already.
    """
    known = seemed(endpoint) if name is None else phrase(name)
    seems = phrase(await name_product(http, endpoint.url, timeout=timeout)) if known is None else known
    for _ in range(2):  # whoever hangs up may hang up on everybody, or have just gone
        try:
            listing = await http.get(f"{endpoint.url}/v1/models", limit=MEDIUM, timeout=timeout)
        except Unusable as error:
            late = error.outcome.kind == "silent" and endpoint.source not in GUESSED
            if error.outcome.kind == "refused" or late:
                return error.outcome
            if not error.outcome.cut:
                break
        else:
            return Stranger(seems=seems, models=openai_models(listing))
    return Stranger(seems=seems)


def seemed(endpoint: Endpoint) -> str | None:
    """Return what a stranger was last taken for, in the words of ``phrase``; ``None`` for no stranger."""
    faults = [endpoint.reason] if endpoint.state == "wrong_server" else list(endpoint.warnings)
    told = [fault.fields.get("seems") for fault in faults if fault is not None]
    return next((seems for seems in told if isinstance(seems, str)), None)


class _Asked:
    """One server's answers, each asked for once."""

    def __init__(self, http: Http, url: str, timeout: float) -> None:
        self._http = http
        self._url = url
        self._timeout = timeout
        self._answers: dict[str, Answer] = {}

    async def get(self, path: str, limit: int = SMALL) -> Answer:
        """Ask, unless that was asked already. Raises ``Unusable`` where more questions are no use."""
        if path not in self._answers:
            url = self._url + path
            try:
                self._answers[path] = await self._http.get(url, limit=limit, timeout=self._timeout)
            except Unusable as error:
                # A redirect or a page without end at one path says nothing of the next, unless it is all
                # that this server ever gives.
                if not self._answers or error.outcome.kind not in ("redirect", "broken"):
                    raise
                self._answers[path] = Answer(status=0, headers={}, body=b"")
        return self._answers[path]

    async def found(self, path: str, limit: int = SMALL) -> dict[str, object]:
        """Return the object at a path; an empty one where there is none."""
        answer = await self.get(path, limit)
        document = answer.json()
        return document if answer.status == 200 and is_object(document) else {}


async def _llamacpp(asked: _Asked) -> str:
    """It names itself in every answer, so that the first question of all need not be for it."""
    return "llama.cpp" if is_llamacpp(await asked.get("/lmstudio-greeting")) else ""


async def _lm_studio(asked: _Asked) -> str:
    return "LM Studio" if (await asked.found("/lmstudio-greeting")).get("lmstudio") is True else ""


async def _mlx(asked: _Asked) -> str:
    """Python's own server class; only there is ``/health`` asked for, which has no effect."""
    if "BaseHTTP/" not in header_of(await asked.get("/lmstudio-greeting")):
        return ""
    return "mlx_lm" if (await asked.get("/health")).body.strip() == b'{"status": "ok"}' else ""


async def _kobold(asked: _Asked) -> str:
    return "KoboldCpp" if (await asked.found("/api/extra/version")).get("result") == "KoboldCpp" else ""


async def _localai(asked: _Asked) -> str:
    document = await asked.found("/.well-known/localai.json", MEDIUM)
    if "version" in document and "endpoints" in document:
        return "LocalAI"
    ready = await asked.get("/readyz")
    starting = inner(ready.json(), "reason") == "startup preload in progress"
    return "LocalAI" if ready.status == 503 and starting else ""


async def _lemonade(asked: _Asked) -> str:
    document = await asked.found("/v1/health")
    return "Lemonade" if {"model_loaded", "all_models_loaded"} <= document.keys() else ""


async def _docker(asked: _Asked) -> str:
    root = await asked.get("/", MEDIUM)
    return "Docker Model Runner" if root.body.strip() == b"Docker Model Runner is running" else ""


async def _llama_swap(asked: _Asked) -> str:
    document = await asked.found("/api/version")
    return "llama-swap" if {"version", "commit", "build_date"} <= document.keys() else ""


async def _ollama(asked: _Asked) -> str:
    root = await asked.get("/", MEDIUM)
    if root.status != 200 or root.body != b"Ollama is running":
        return ""
    return "Ollama" if (await asked.found("/api/version")).keys() == {"version"} else ""


async def _gpustack(asked: _Asked) -> str:
    return "GPUStack" if {"version", "git_commit"} <= (await asked.found("/version")).keys() else ""


async def _vllm(asked: _Asked) -> str:
    if not isinstance((await asked.found("/version")).get("version"), str):
        return ""
    listing = await asked.get("/v1/models", MEDIUM)
    if owner_of(listing) == "vLLM":
        return "vLLM"
    return "vLLM" if listing.status == 401 and listing.json() == {"error": "Unauthorized"} else ""


async def _tgi(asked: _Asked) -> str:
    router = (await asked.found("/info")).get("router")
    return "TGI" if isinstance(router, str) and router.startswith("text-generation-router") else ""


async def _sglang(asked: _Asked) -> str:
    for path in ("/get_model_info", "/model_info"):
        if "model_path" in await asked.found(path):
            return "SGLang"
    return ""


async def _litellm(asked: _Asked) -> str:
    """Its liveness is a word; its health would call every model that it knows."""
    return "LiteLLM" if (await asked.get("/health/liveliness")).json() == "I'm alive!" else ""


async def _documented(asked: _Asked) -> str:
    """Some say in their OpenAPI document who they are."""
    title = text(inner(await asked.found("/openapi.json", MEDIUM), "info", "title"), 100)
    return _TITLES.get(title, "") if title is not None else ""


async def _listing(asked: _Asked) -> str:
    listing = await asked.get("/v1/models", MEDIUM)
    return owner_of(listing) or (GENERIC if openai_models(listing) is not None else "")


async def _fastapi(asked: _Asked) -> str:
    """FastAPI's own 404, which says nothing of what was built with it."""
    answer = await asked.get("/lmstudio-greeting")
    return FASTAPI if answer.status == 404 and answer.json() == {"detail": "Not Found"} else ""


async def _named(asked: _Asked) -> str:
    """At last, what the server calls itself."""
    return header_of(await asked.get("/lmstudio-greeting"))


_RUNGS: tuple[Callable[[_Asked], Awaitable[str]], ...] = (
    _llamacpp,
    _lm_studio,
    _mlx,
    _kobold,
    _localai,
    _lemonade,
    _docker,
    _llama_swap,
    _ollama,
    _gpustack,
    _vllm,
    _tgi,
    _sglang,
    _litellm,
    _documented,
    _listing,
    _fastapi,
    _named,
)
