"""What Hive's own sections of the configuration say of local servers and their models.

They are Hive's: what cannot be used of them is passed over, and not reported. A section counts where its
``provider`` is a local one, or where it is ``openai`` and the address is on this device or this network,
which is how Hive's users reach llama.cpp and LM Studio. One without an ``api_base`` means the provider's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from hived.configuration.document import MOST_ENTRIES, SECTIONS
from hived.decisions.addresses import BadAddress, read_url
from hived.decisions.configured import Configured
from hived.decisions.expected import Given
from hived.decisions.unspecified import is_to_listen
from hived_client.resolution import LONGEST_NAME, MOST_CONTEXT
from hived_client.vocabulary.kinds import OPENAI_COMPATIBLE, ProviderKind, kind_of_prefix
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import ConfiguredModel

_Section = Mapping[str, object]


def from_hive(document: _Section) -> Iterator[Given]:
    """Yield an endpoint for every section of Hive's that gives the address of a local server."""
    for where, name, section in _sections(document):
        kind, url = _server(section) or (None, None)
        if url is None:
            continue
        key, base = section.get("api_key_env_var"), str(section.get("api_base"))
        yield Given(
            name=kind.name if kind is not None else name,
            provider=(kind or OPENAI_COMPATIBLE).name,
            url=url,
            source="configuration",
            origin=f"{where}.api_base",
            listens=base if is_to_listen(base) else "",
            key_ref=key if isinstance(key, str) and key.isidentifier() and key.isascii() else None,
        )


def configured_by_hive(document: _Section) -> Iterator[Configured]:
    """Yield what every section of Hive's that is about a local server says of its model."""
    for where, _, section in _sections(document):
        found = _server(section)
        model = _model_name(section.get("model"))
        if found is None or model is None:
            continue
        kind, url = found
        yield Configured(
            provider=(kind or OPENAI_COMPATIBLE).name,
            url=url,
            model=ConfiguredModel(
                model=model,
                num_ctx=tokens(section.get("num_ctx")),
                max_context_tokens=tokens(section.get("max_context_tokens")),
                max_tokens=tokens(section.get("max_tokens")),
                origin=where,
            ),
        )


def tokens(value: object) -> int | None:
    """Return a number of tokens; ``None`` for anything that is none."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and isinstance(value, int) and 0 < value <= MOST_CONTEXT else None


def _sections(document: _Section) -> Iterator[tuple[str, str, _Section]]:
    """Yield where a section stands, how its endpoint is called, and what is in it."""
    for name in SECTIONS:
        section = document.get(name)
        if isinstance(section, dict):
            yield name, f"hive-{name}", section
    library = document.get("provider_library")
    if not isinstance(library, dict):
        return
    for name, section in itertools.islice(library.items(), MOST_ENTRIES):
        plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) <= 50
        if plain and isinstance(section, dict):
            yield f"provider_library.{name}", f"hive-{name}", section


def _server(section: _Section) -> tuple[ProviderKind | None, str | None] | None:
    """Return a local server's kind and URL: no kind for what speaks OpenAI's dialect, no URL for none given.

    ``None`` where the section is about no local server, or about one at an address that cannot be used.
    """
    provider, base = section.get("provider"), section.get("api_base")
    if not isinstance(provider, str):
        return None
    kind = kind_of_prefix(provider)
    if base is None or base == "":
        return None if kind is None else (kind, None)
    if not isinstance(base, str):
        return None
    try:
        url = read_url(base)
    except BadAddress:
        return None
    if kind is None and (provider.casefold() != "openai" or locality_of(url) not in ("device", "lan")):
        return None
    return kind, url


def _model_name(value: object) -> str | None:
    if not isinstance(value, str) or not value.isprintable():
        return None
    name = value.strip()
    return name if 0 < len(name) <= LONGEST_NAME else None
