"""At which of this device's own addresses a server is to listen: the one that it is configured at. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from hived.decisions.addresses import host_and_port
from hived_client.errors import Refused
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import ProviderKind

HOST = "127.0.0.1"
"""Where nothing else is written."""


def own_place(kind: ProviderKind, url: str | None) -> tuple[str, int | None]:
    """Return the numeric host to listen at, and the port that is written.

    Raises ``Refused`` for a URL that is not plain HTTP on loopback.
    """
    if url is None:
        return HOST, None
    host, port = host_and_port(url)
    host = HOST if host == "localhost" else host
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = False
    if not is_here or urlsplit(url).scheme != "http":
        raise Refused(fault("start.elsewhere", title=kind.title, url=url))
    return host, port


def shown(host: str, port: int) -> str:
    """Write an address as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
