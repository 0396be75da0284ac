"""Addresses to listen at that were given as ones to call: ``0.0.0.0``, ``::``, a port without a host. Pure.

hived calls the loopback of the same family instead, which is what Linux makes of them; macOS does so for some
calls, Windows for none, and between WSL and Windows they mean another machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from hived.decisions.addresses import host_and_port
from hived.decisions.expected import Given
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import api_base, kind_named


def is_to_listen(url: str) -> bool:
    """Tell whether a text means every interface; it is an address that could be read."""
    host = urlsplit(url if "://" in url else f"http://{url}").hostname
    if not host:
        return True
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def unspecified(given: Iterable[Given], path: str) -> Iterator[Fault]:
    """Yield a fault for each address that was to listen at; ``path`` is the configuration's."""
    for each in given:
        if each.listens:
            from_variable = each.source == "environment"
            yield fault(
                "address.unspecified",
                where=each.origin if from_variable else f"{path}: {each.origin}",
                written=each.listens,
                url=each.url,
                variable=_variable(each) if from_variable else None,
                instead=_instead(each) if from_variable else None,
                path=None if from_variable else path,
            )


def _variable(given: Given) -> str:
    return given.origin.partition(" ")[0]


def _instead(given: Given) -> str:
    """Return what the variable is to be for whoever calls: as it is written there, a host or a whole URL."""
    kind, variable = kind_named(given.provider), _variable(given)
    if kind is None or variable == "LLAMA_ARG_HOST":
        return host_and_port(given.url)[0]
    if variable == "OLLAMA_HOST":
        return given.url.removeprefix("http://").removesuffix(":11434")
    return api_base(kind, given.url)
