"""Read ``"autostart"`` of the entries of ``providers``: servers that are to run whenever hived does.

``true`` for a kind of which one server is enough; where a model has to be named, an object::

    "providers": {
        "ollama": {"autostart": true},
        "lab": {"like": "llamacpp", "autostart": {"model": "/models/qwen.gguf", "context": 8192}}
    }
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hived.configuration.hive import tokens
from hived.decisions.autostart import Autostart
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind, kind_of_prefix

MOST_ARGUMENTS = 256
"""Arguments that are passed on to a server."""


class BadAutostart(ValueError):
    """An entry cannot be read; the message says what is wrong."""


def autostarts(
    section: object, path: str, kinds: tuple[ProviderKind, ...], problems: list[Fault]
) -> Iterator[Autostart]:
    """Yield what is to be started; what cannot be read is reported and starts nothing.

    Entries that are wrong otherwise (no object, no known kind) are somebody else's to report.
    """
    for name, entry in section.items() if isinstance(section, dict) else ():
        if not isinstance(name, str) or not isinstance(entry, dict) or "autostart" not in entry:
            continue
        like = entry.get("like", name)
        kind = kind_of_prefix(like, kinds) if isinstance(like, str) else None
        if kind is None:
            continue
        base = entry.get("api_base")
        try:
            found = _autostart(entry["autostart"])
        except BadAutostart as error:
            where = f"providers.{name if name.isprintable() else ascii(name[:64])}.autostart"
            problems.append(fault("configuration.invalid", path=path, where=where, why=str(error)))
        else:
            if found is not None:
                yield Autostart(name=name, provider=kind.name, is_kind=base is None, **found)


def _autostart(value: object) -> Mapping[str, Any] | None:
    """Return the fields of an autostart; ``None`` where it is off. Raises ``BadAutostart``: what is wrong."""
    if value is False or value is None:
        return None
    if value is True:
        return {}
    if not isinstance(value, dict):
        raise BadAutostart("is neither true nor false nor an object")
    for word in value:
        if word not in ("model", "context", "arguments"):
            raise BadAutostart(f"has {ascii(word)[:64]}, which is none of model, context and arguments")
    model, context, arguments = value.get("model"), value.get("context"), value.get("arguments", [])
    if model is not None and not (isinstance(model, str) and model and model.isprintable()):
        raise BadAutostart("has a model that is not text")
    if context is not None and tokens(context) is None:
        raise BadAutostart("has a context that is not a whole number of tokens")
    is_list = isinstance(arguments, list) and len(arguments) <= MOST_ARGUMENTS
    if not is_list or not all(isinstance(word, str) and word.isprintable() for word in arguments):
        raise BadAutostart("has arguments that are not a list of texts")
    return {"model": model, "context": context, "arguments": tuple(arguments)}
