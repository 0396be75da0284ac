"""What Ollama's words mean, over HTTP and on disk alike. Pure, and nothing in them is trusted."""

from __future__ import annotations

import re

from hived.providers.fields import count, inner, text, texts

CAPABILITIES = ("completion", "tools", "vision", "embedding", "thinking", "insert")
"""Those that we have a word for, in the order in which they are told."""

_PARAMETERS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([KMBT]?)(?:-A[0-9.]+[KMBT]?)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_LATEST = ":latest"


def aliases_of(name: str) -> tuple[str, ...]:
    """Return the other names of a model: without the tag, where that is the one nobody writes."""
    return (name[: -len(_LATEST)],) if name.casefold().endswith(_LATEST) and name != _LATEST else ()


def is_cloud(name: str, told: object) -> bool:
    """Tell whether a model runs in the cloud, although its server is here. When in doubt it does."""
    if inner(told, "remote_host") or inner(told, "remote_model"):
        return True
    tag = name.casefold().rpartition(":")[2]
    return tag == "cloud" or tag.endswith("-cloud")


def parameters_of(value: object) -> int | None:
    """Read ``138K``, ``3.2B`` or ``26B-A4B`` (of which 4B are active); ``None`` for anything else."""
    match = _PARAMETERS.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    # By way of an exact fraction: 3.2 * 10**9 would be right, and 0.57 * 10**9 would not be whole.
    whole, _, fraction = match[1].partition(".")
    return count(int(whole + fraction) * _UNITS[match[2].upper()] // 10 ** len(fraction))


def quantization_of(value: object) -> str | None:
    """Return the name of a quantisation; Ollama writes ``unknown`` where it is not known."""
    found = text(value, 100)
    return None if found is None or found.casefold() == "unknown" else found


def capabilities_of(value: object) -> tuple[str, ...] | None:
    """Return what a model can do; ``None`` where that is not told."""
    told = texts(value)
    return tuple(each for each in CAPABILITIES if each in told) if told else None


def listed_capabilities_of(value: object) -> tuple[str, ...] | None:
    """Return what a model can do as a list tells it; ``None`` where it may be more.

    The list looks for tools in Ollama's own template and not in the one inside the model's file, which most
    models from elsewhere have alone: ``/api/show`` says ``tools`` of one of which the list says only
    ``completion``. What ``/api/show`` says is what a call is held to.
    """
    told = capabilities_of(value)
    return None if told is not None and "completion" in told and "tools" not in told else told
