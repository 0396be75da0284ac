"""Each server: its state, who listens at its port, and whether ``localhost`` leads there without a detour."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import msgspec

from hived.cli.doctor.findings import Finding, Level, note, of_fault, ok, warn
from hived.cli.rendering import duration
from hived.decisions.addresses import host_and_port
from hived.decisions.transitions import problems
from hived.machine.owners import Owner, owner_of_port
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, World

DETOUR = 0.03
"""Seconds that ``localhost`` may cost more than ``127.0.0.1`` before it is told."""
CONNECT = 1.5
"""Seconds that a connection may take."""

_ABSENT = frozenset({"server.down", "server.owned_down", "server.not_installed", "server.maybe_on_host"})


class Detour(msgspec.Struct, frozen=True, kw_only=True):
    """How ``localhost`` leads to a port: seconds to connect, as programs do it and straight."""

    port: int
    by_name: float | None
    """By the addresses of ``localhost`` in their order; ``None``: it does not get there."""
    straight: float | None
    """By 127.0.0.1; ``None``: nobody listens there."""
    first: str
    """The address that ``localhost`` means first."""


class ServersFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the servers."""

    world: World
    owners: dict[str, Owner | None]
    """Endpoint → who listens at its port, for servers of this device."""
    detours: tuple[Detour, ...] = ()


def read_servers(world: World) -> ServersFacts:
    """Look at the ports of this device's servers. Blocks."""
    near = [each for each in world.endpoints if _is_here(each)]
    return ServersFacts(
        world=world,
        owners={each.name: owner_of_port(*host_and_port(each.url)) for each in near},
        detours=tuple(
            measure(port)
            for port in dict.fromkeys(host_and_port(each.url)[1] for each in near if each.state in CALLABLE)
        )[:8],
    )


def measure(port: int) -> Detour:
    """Time connections to a port of this device. Blocks for ``CONNECT``, three times at most."""
    try:
        found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
        first = str(found[0][4][0])
    except OSError:
        first = ""
    return Detour(
        port=port, by_name=_timed("localhost", port), straight=_timed("127.0.0.1", port), first=first
    )


def check_servers(facts: ServersFacts) -> list[Finding]:
    """Judge them."""
    found: list[Finding] = []
    absent: list[Endpoint] = []
    for endpoint in facts.world.endpoints:
        if _is_absent_guess(endpoint, facts.owners.get(endpoint.name)):
            absent.append(endpoint)
        else:
            found += _server(facts, endpoint)
    found += _detours(facts.detours)
    told = {
        (each.reason.code, each.reason.message) for each in facts.world.endpoints if each.reason is not None
    }
    own = {(each.code, each.message) for endpoint in facts.world.endpoints for each in endpoint.warnings}
    for problem in problems(facts.world):
        key = (problem.code, problem.message)
        if key not in told | own and not problem.code.startswith(
            ("configuration.", "provider.plugin", "disk.", "address.")
        ):
            found.append(of_fault(problem, "warn"))
    if absent:
        titles = list(dict.fromkeys(_title(facts.world, each) for each in absent))
        found.append(
            note("server.none", f"not running at their usual ports: {', '.join(titles)}", "", brief=not found)
        )
    if not facts.world.endpoints:
        found.append(note("server.none", "no server is named, and default ports are not looked at"))
    return found


def _server(facts: ServersFacts, endpoint: Endpoint) -> Iterator[Finding]:
    owner = facts.owners.get(endpoint.name)
    listens = f"; {owner.words} listens" if owner is not None and owner.words else ""
    if owner is not None and not owner.program and owner.is_other:
        listens = f"; a process of another user ({owner.user}) listens"
    where = f"{endpoint.name} at {endpoint.url}"
    if endpoint.state in CALLABLE:
        version = f" {endpoint.version}" if endpoint.version else ""
        count = len(endpoint.models or ())
        models = f", {count} model{'' if count == 1 else 's'}" if endpoint.models is not None else ""
        title = _title(facts.world, endpoint)
        yield ok(
            f"server.{endpoint.state}",
            f"{where} is {endpoint.state} ({title}{version}{models}){listens}",
            brief=True,
        )
    elif endpoint.reason is not None:
        problem = of_fault(endpoint.reason, _level(endpoint))
        yield msgspec.structs.replace(problem, what=f"{endpoint.name}: {problem.what}{listens}")
    else:
        yield note(f"server.{endpoint.state}", f"{where} is {endpoint.state}{listens}")
    for warning in endpoint.warnings:
        problem = of_fault(warning, "warn")
        yield msgspec.structs.replace(problem, what=f"{endpoint.name}: {problem.what}")


def _level(endpoint: Endpoint) -> Level:
    """What somebody asked for and is not there does not work; of a guess it is only worth knowing."""
    if endpoint.state in ("starting", "loading", "unknown"):
        return "note"
    if endpoint.source in GUESSED:
        return "warn" if endpoint.state in ("failed", "unauthorised", "unreachable") else "note"
    return "fail"


def _detours(detours: tuple[Detour, ...]) -> Iterator[Finding]:
    for each in detours:
        if each.straight is None:
            continue
        if each.by_name is None:
            yield warn(
                "slow.localhost",
                f"localhost:{each.port} does not lead to the server, 127.0.0.1:{each.port} does",
                "getent ahosts localhost",
            )
        elif each.by_name - each.straight > DETOUR:
            lost = duration(each.by_name - each.straight)
            yield warn(
                "slow.localhost",
                f"localhost:{each.port} costs {lost} more than 127.0.0.1, for {each.first} is tried first",
                "getent ahosts localhost",
            )
        else:
            yield ok("slow.localhost", f"localhost:{each.port} leads straight to the server")


def _is_absent_guess(endpoint: Endpoint, owner: Owner | None) -> bool:
    if endpoint.source not in GUESSED or endpoint.state in CALLABLE or owner is not None:
        return False
    return endpoint.state == "down" and (endpoint.reason is None or endpoint.reason.code in _ABSENT)


def _is_here(endpoint: Endpoint) -> bool:
    host, _ = host_and_port(endpoint.url)
    return endpoint.locality == "device" or host in ("localhost", "127.0.0.1", "::1")


def _title(world: World, endpoint: Endpoint) -> str:
    kind = kind_named(endpoint.provider, world.kinds)
    return kind.title if kind is not None else endpoint.provider


def _timed(host: str, port: int) -> float | None:
    begun = time.monotonic()
    try:
        socket.create_connection((host, port), CONNECT).close()
    except OSError:
        return None
    return time.monotonic() - begun
