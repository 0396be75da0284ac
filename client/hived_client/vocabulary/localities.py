"""Where a server is, as far as its address alone tells, and whether a key may be sent there. Pure."""

from __future__ import annotations

from functools import lru_cache

from hived_client.vocabulary.world import Locality

_NEAR_NAMES = (".local", ".lan", ".internal", ".home.arpa")


@lru_cache(256)
def locality_of(url: str) -> Locality | None:
    """Return where a server is, as far as its address alone tells; a name that could be anywhere is None.

    Of names only ``localhost`` is this device's everywhere: ``x.localhost`` should be (RFC 6761), and is
    looked up like any other name where the system's resolver does not know that.
    """
    import ipaddress  # only whoever has a key, and the daemon, pays for these
    from urllib.parse import urlsplit

    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    if host == "localhost":
        return "device"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "lan" if host.endswith(_NEAR_NAMES) else None
    if address.is_loopback:
        return "device"
    return "lan" if address.is_private or address.is_link_local else "internet"


def may_have_key(url: str) -> bool:
    """Tell whether a key may be sent there: never in the clear to where it may leave this network."""
    return url.startswith("https:") or locality_of(url) in ("device", "lan")
