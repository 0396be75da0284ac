"""What a run reads of Hive's configuration itself, since it has to be known without a daemon, too."""

from __future__ import annotations

from typing import Any

import msgspec


def preferred_model(configuration: str) -> str | None:
    """Return ``provider/model`` of the configuration's ``llm`` section, or ``None`` where it names none.

    A model that carries its provider's prefix already keeps it once.
    """
    section = _section(configuration, "llm")
    provider, model = section.get("provider"), section.get("model")
    if not isinstance(provider, str) or not isinstance(model, str) or not provider or not model:
        return None
    return model if model.casefold().startswith(f"{provider.casefold()}/") else f"{provider}/{model}"


def names_server_of(model: str, configuration: str) -> bool:
    """Tell whether a model's prefix is a name that the user gave to a server, under ``providers``.

    It stays one where hived does not run and nobody knows the server's address: LiteLLM may know a cloud of
    the same name.
    """
    prefix, slash, _ = model.strip().partition("/")
    return bool(slash) and prefix.casefold() in {
        name.casefold() for name in _section(configuration, "providers")
    }


def _section(configuration: str, name: str) -> dict[str, Any]:
    try:
        with open(configuration, "rb") as file:
            document = msgspec.json.decode(file.read().removeprefix(b"\xef\xbb\xbf"))
    except (OSError, msgspec.DecodeError, RecursionError):
        return {}
    section = document.get(name) if isinstance(document, dict) else None
    return section if isinstance(section, dict) else {}
