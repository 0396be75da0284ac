"""What Hive's own sections of the configuration say of local servers. They are Hive's: nothing is reported.

A section counts where its ``provider`` is a local one and it has an ``api_base``, or where it is ``openai``
and the address is on this device or this network, which is how Hive's users reach llama.cpp and LM Studio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hived.decisions.addresses import BadAddress, locality_of, read_url
from hived.decisions.expected import Given
from hived_client.vocabulary.kinds import OPENAI_COMPATIBLE, kind_of_prefix

SECTIONS = ("llm", "worker_llm", "vision_fallback")


def from_hive(document: Mapping[str, object]) -> Iterator[Given]:
    """Yield an endpoint for every section of Hive's that names a local server."""
    for name in SECTIONS:
        yield from _section(name, f"hive-{name}", document.get(name))
    library = document.get("provider_library")
    if isinstance(library, dict):
        for name, section in library.items():
            if name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) <= 50:
                yield from _section(f"provider_library.{name}", f"hive-{name}", section)


def _section(where: str, name: str, section: object) -> Iterator[Given]:
    if not isinstance(section, dict):
        return
    provider, base, key = (section.get(field) for field in ("provider", "api_base", "api_key_env_var"))
    if not isinstance(provider, str) or not isinstance(base, str):
        return
    try:
        url = read_url(base)
    except BadAddress:
        return
    kind = kind_of_prefix(provider)
    if kind is None and (provider.casefold() != "openai" or locality_of(url) not in ("device", "lan")):
        return
    yield Given(
        name=kind.name if kind is not None else name,
        provider=(kind or OPENAI_COMPATIBLE).name,
        url=url,
        source="configuration",
        origin=f"{where}.api_base",
        key_ref=key if isinstance(key, str) and key.isidentifier() and key.isascii() else None,
    )
