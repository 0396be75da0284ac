"""Which of a provider's commands act on a server where it is. Pure.

Commands are given on this device. What would start, load or install something here does nothing for a server
on another, and Ollama's go to its default address unless a variable says another.
"""

from __future__ import annotations

import msgspec

from hived_client.vocabulary.faults import quoted
from hived_client.vocabulary.kinds import ProviderKind, address
from hived_client.vocabulary.world import Locality

_HERE = ("127.0.0.1", "localhost", "::1")
_LOCAL = ("start", "start_model", "load", "tools", "upgrade", "install", "install_darwin")
_ANYWHERE = ("pull", "placement")
"""Those that ask a server to do something, where they can be told which one."""


def command(template: str, model: str, **more: str | int | None) -> str:
    """Fill in the name of a model. Empty where there is no command, or the name would be an option of it."""
    return "" if model.startswith("-") else template.format(model=quoted(model), **more)


def commands_at(kind: ProviderKind, url: str, locality: Locality | None) -> ProviderKind:
    """Return a kind's row with the commands that act on its server at this address, as they have to be."""
    host, port = address(url)
    is_here = locality == "device" or host in _HERE
    if is_here and (not kind.address_variable or port in kind.ports):
        return kind
    changed: dict[str, str] = {} if is_here else dict.fromkeys((*_LOCAL, *_ANYWHERE), "")
    if kind.address_variable and not {"{", "}"}.intersection(host):
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = "https://" if url.startswith("https:") else ""
        given = f"{kind.address_variable}={quoted(scheme + where)} "
        for name in ("start", *_ANYWHERE) if is_here else _ANYWHERE:
            command = getattr(kind, name)
            changed[name] = given + command if command else ""
    return msgspec.structs.replace(kind, **changed)
