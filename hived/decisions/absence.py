"""Why nothing listens where a server of this device should, and what helps. Pure.

A server that is down wants different words: one that somebody else starts is not to be started twice, one
that is not installed cannot be started at all, and one that runs beside this system, not in it, is reached
by another address.
"""

from __future__ import annotations

from collections.abc import Mapping

from hived.decisions.addresses import host_and_port
from hived.decisions.outcomes import Circumstances, Inside
from hived_client.vocabulary.faults import Fault, Value, configuration_file, fault
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import Endpoint

_PLACES: Mapping[Inside, tuple[str, str]] = {
    "wsl": ("this WSL distribution", "Windows"),
    "docker": ("this container", "its host"),
    "podman": ("this container", "its host"),
}
_HOST_NAMES: Mapping[Inside, str] = {
    "docker": "host.docker.internal",
    "podman": "host.containers.internal",
}
"""How a container's network calls the machine around it."""


def why_down(
    endpoint: Endpoint, now: Circumstances, kind: ProviderKind, fields: Mapping[str, Value]
) -> Fault:
    """Return the fault of an endpoint that refuses connections: the most special one that is known.

    Facts about this machine speak of servers on this machine only; elsewhere it is ``server.down``.
    """
    known = dict(fields)
    if locality_of(endpoint.url) != "device" or endpoint.process is not None:
        return fault("server.down", **known)
    if now.other:
        return fault("server.other_family", **known | _other_family(endpoint, now.other))
    program = now.installation or endpoint.installation
    if program is None:
        return fault("server.down", **known)
    if program.found:
        known["start"] = program.start or known.get("start")
        if program.owner:
            return fault("server.owned_down", **known, owner=program.owner)
        return fault("server.down", **known)
    if _was_here(endpoint):
        # In an environment or a container of its own: where we looked is not all there is.
        return fault("server.down", **known)
    if now.inside is not None:
        return fault("server.maybe_on_host", **known | _on_host(endpoint, now.inside))
    return fault("server.not_installed", **known, install=kind.install, install_darwin=kind.install_darwin)


def _was_here(endpoint: Endpoint) -> bool:
    """Tell whether a server of this kind has answered at this address before."""
    return endpoint.version is not None or endpoint.mode is not None


_LOOPBACKS = {"127.0.0.1": ("::1",), "::1": ("127.0.0.1",), "localhost": ("127.0.0.1", "::1")}


def other_loopbacks(url: str) -> tuple[tuple[str, int], ...]:
    """Return where else on this device the same port may be meant, for an address that is its loopback.

    Who connects to ``localhost`` tries every address that the system has for that name; on many there is
    but one, and a server may listen at the other.
    """
    host, port = host_and_port(url)
    return tuple((other, port) for other in _LOOPBACKS.get(host, ()))


def shown_address(host: str, port: int) -> str:
    """Return an address as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _other_family(endpoint: Endpoint, other: str) -> dict[str, Value]:
    scheme = endpoint.url.partition("://")[0]
    return {
        "expected": shown_address(*host_and_port(endpoint.url)),
        "other": other,
        "mend": _point_to(endpoint, f"{scheme}://{other}"),
    }


def _on_host(endpoint: Endpoint, inside: Inside) -> dict[str, Value]:
    place, around = _PLACES[inside]
    if inside == "wsl":
        mend = r"set networkingMode=mirrored under [wsl2] in %UserProfile%\.wslconfig"
    else:
        port = host_and_port(endpoint.url)[1]
        mend = _point_to(endpoint, f"http://{_HOST_NAMES[inside]}:{port}")
    return {"inside": place, "around": around, "mend": mend}


def _point_to(endpoint: Endpoint, url: str) -> str:
    """Say how the endpoint is given another address, there where it was given this one."""
    if endpoint.source == "environment" and endpoint.origin.isidentifier():
        return f"export {endpoint.origin}={url}"
    return f"set providers.{endpoint.name}.api_base in {configuration_file()} to {url}"
