"""What a run reads of Hive's configuration itself, since it has to be known without a daemon, too.

An event loop waits for it meanwhile: a pipe is not opened, and of megabytes only one section is decoded.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hived_client.doors.regular import open_regular

MOST_BYTES = 16 * 1024 * 1024
"""A configuration that is longer than this is not read, as hived itself does not."""

_Section = TypeVar("_Section")


class _Chosen(msgspec.Struct):
    provider: str = ""
    model: str = ""


def preferred_model(configuration: str) -> str | None:
    """Return ``provider/model`` of the configuration's ``llm`` section, or ``None`` where it names none.

    A model that carries its provider's prefix already keeps it once.
    """
    llm = _section(configuration, "llm", _Chosen)
    if llm is None or not llm.provider or not llm.model:
        return None
    has_prefix = llm.model.casefold().startswith(f"{llm.provider.casefold()}/")
    return llm.model if has_prefix else f"{llm.provider}/{llm.model}"


def names_server_of(model: str, configuration: str) -> bool:
    """Tell whether a model's prefix is a name that the user gave to a server, under ``providers``.

    It stays one where hived does not run and nobody knows the server's address: LiteLLM may know a cloud of
    the same name.
    """
    prefix, slash, _ = model.strip().partition("/")
    named = _section(configuration, "providers", dict[str, msgspec.Raw]) if slash else None
    return prefix.casefold() in map(str.casefold, named or ())


def _section(configuration: str, name: str, form: type[_Section]) -> _Section | None:
    try:
        with open_regular(configuration) as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            return None
        sections = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=dict[str, msgspec.Raw])
        return msgspec.json.decode(sections[name], type=form)
    except (OSError, KeyError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
