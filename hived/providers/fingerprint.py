"""What one answer says of the server that gave it. A port proves nothing. Pure."""

from __future__ import annotations

from hived.providers.fields import inner, is_object, items, text
from hived.providers.http import Answer
from hived_client.vocabulary.world import Model

OWNERS = {
    "llamacpp": "llama.cpp",
    "vllm": "vLLM",
    "library": "Ollama",
    "organization_owner": "LM Studio",
    "sglang": "SGLang",
    "lemonade": "Lemonade",
    "llama-swap": "llama-swap",
    "localai": "LocalAI",
    "docker": "Docker Model Runner",
    "koboldcpp": "KoboldCpp",
    "gpustack": "GPUStack",
}
"""Products by what they write as the owner of their models."""


def is_llamacpp(answer: Answer) -> bool:
    """Tell whether an answer is llama.cpp's: it names itself in every one, also while it loads."""
    return answer.headers.get("server", "").strip().lower() == "llama.cpp"


def openai_models(answer: Answer) -> tuple[Model, ...] | None:
    """Read the models of an OpenAI-compatible listing; ``None`` for anything that is not one."""
    document = answer.json()
    if answer.status != 200 or not is_object(document) or document.get("object") != "list":
        return None
    if not isinstance(document.get("data"), list):
        return None
    names = (text(item.get("id")) for item in items(document["data"]))
    return tuple(Model(name=name) for name in dict.fromkeys(names) if name is not None)


def owner_of(listing: Answer) -> str:
    """Return the product that a listing of models names as their owner, or nothing."""
    owner = next((item.get("owned_by") for item in items(inner(listing.json(), "data"))), None)
    return OWNERS.get(owner, "") if isinstance(owner, str) else ""


def header_of(answer: Answer) -> str:
    """Return what an answer's ``Server`` header says, if that can be shown."""
    return text(answer.headers.get("server", ""), 60) or ""


def phrase(name: str) -> str:
    """Return a name as the end of a sentence about what a server seems to be."""
    return f" (it seems to be {name})" if name else ""
