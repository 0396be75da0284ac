"""What answers at an address, when it is not what was expected there. A port proves nothing.

Only GET requests without side effects, no key, and as few as possible: a stranger is asked once.
"""

from __future__ import annotations

from hived.decisions.outcomes import Stranger
from hived.providers.fields import inner, is_object, items, text
from hived.providers.http import SMALL, Answer, Http, Unusable
from hived_client.vocabulary.world import Model

_OWNERS = {
    "llamacpp": "llama.cpp",
    "vllm": "vLLM",
    "library": "Ollama",
    "organization_owner": "LM Studio",
    "sglang": "SGLang",
    "lemonade": "Lemonade",
    "llama-swap": "llama-swap",
}


def is_llamacpp(answer: Answer) -> bool:
    """Tell whether an answer is llama.cpp's: it names itself in every one, also while it loads."""
    return answer.headers.get("server", "").strip().lower() == "llama.cpp"


async def identify_stranger(http: Http, url: str, first: Answer, *, timeout: float) -> Stranger:
    """Say what a server that is not the expected one seems to be, and what it serves, if that is usable."""
    try:
        listing = await http.get(f"{url}/v1/models", limit=SMALL, timeout=timeout)
    except Unusable:
        return Stranger(seems=_phrase(_by_header(first)))
    models = openai_models(listing)
    owner = next((inner(item, "owned_by") for item in items(inner(listing.json(), "data"))), None)
    name = _OWNERS.get(owner) if isinstance(owner, str) else None
    return Stranger(seems=_phrase(name or _by_header(first)), models=models)


def openai_models(answer: Answer) -> tuple[Model, ...] | None:
    """Read the models of an OpenAI-compatible listing; ``None`` for anything that is not one."""
    document = answer.json()
    if answer.status != 200 or not is_object(document) or document.get("object") != "list":
        return None
    if not isinstance(document.get("data"), list):
        return None
    names = (text(item.get("id")) for item in items(document["data"]))
    return tuple(Model(name=name) for name in dict.fromkeys(names) if name is not None)


def _by_header(answer: Answer) -> str:
    return text(answer.headers.get("server", ""), 60) or ""


def _phrase(name: str) -> str:
    return f" (it seems to be {name})" if name else ""
