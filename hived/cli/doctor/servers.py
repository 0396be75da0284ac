"""Each server: its state, who listens at its port, and whether ``localhost`` leads there without a detour."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from hived.cli.doctor.findings import Finding, Level, fail, note, of_fault, ok, warn
from hived.cli.rendering import duration
from hived.decisions.addresses import host_and_port
from hived.decisions.transitions import problems
from hived.machine.owners import Owner, owner_of_port
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, World

DETOUR = 0.03
"""Seconds that ``localhost`` may cost more than ``127.0.0.1`` before it is told."""
CONNECT = 1.0
"""Seconds that a connection may take."""
MOST_PORTS = 16
"""Ports to which the ways are measured."""

_ABSENT = frozenset({"server.down", "server.owned_down", "server.not_installed", "server.maybe_on_host"})


class Detour(msgspec.Struct, frozen=True, kw_only=True):
    """How ``localhost`` leads to a port: seconds to connect, as programs do it and straight."""

    port: int
    by_name: float | None
    """By the addresses of ``localhost`` in their order; ``None``: it does not get there."""
    straight: float
    """By 127.0.0.1."""
    first: str
    """The address that ``localhost`` means first."""


def read_owners(endpoints: Iterable[Endpoint]) -> dict[str, Owner]:
    """Say who listens at the ports of this device's servers, by the endpoints' names. Blocks."""
    near = [each for each in endpoints if _is_here(each)]
    owners = {each.name: owner_of_port(*host_and_port(each.url)) for each in near}
    return {name: owner for name, owner in owners.items() if owner is not None}


def read_detours(endpoints: Iterable[Endpoint]) -> tuple[Detour, ...]:
    """Measure the ways to the ports of this device's servers, where somebody listens. Blocks."""
    ports = dict.fromkeys(host_and_port(each.url)[1] for each in endpoints if _is_here(each))
    return tuple(filter(None, map(measure, tuple(ports)[:MOST_PORTS])))


def measure(port: int) -> Detour | None:
    """Time connections to a port of this device; ``None``: nobody listens there. Blocks."""
    straight = _timed("127.0.0.1", port)
    if straight is None:
        return None
    try:
        first = str(socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        first = ""
    return Detour(port=port, by_name=_timed("localhost", port), straight=straight, first=first)


def check_servers(world: World, owners: Mapping[str, Owner]) -> list[Finding]:
    """Judge the servers. Pure."""
    found: list[Finding] = []
    absent: list[Endpoint] = []
    for endpoint in world.endpoints:
        if _is_absent_guess(endpoint, owners.get(endpoint.name)):
            absent.append(endpoint)
        else:
            found += _server(world, endpoint, owners.get(endpoint.name))
    found += _other_problems(world)
    if absent:
        titles = dict.fromkeys(_title(world, each) for each in absent)
        said = f"not running at their usual ports: {', '.join(titles)}"
        found.append(note("server.none", said, brief=not found))
    if not world.endpoints:
        found.append(note("server.none", "no server is named, and default ports are not looked at"))
    return found


def _other_problems(world: World) -> Iterator[Finding]:
    """Yield what is said of servers and nowhere else: of models, and of versions."""
    reasons = [each.reason for each in world.endpoints if each.reason is not None]
    told = [*reasons, *(warning for each in world.endpoints for warning in each.warnings)]
    for problem in problems(msgspec.structs.replace(world, daemon=None, configuration=None)):
        if problem not in told:
            yield of_fault(problem, "warn")


def _server(world: World, endpoint: Endpoint, owner: Owner | None) -> Iterator[Finding]:
    listens = f"; {owner.words} listens" if owner is not None and owner.words else ""
    if owner is not None and not owner.program and owner.is_other:
        listens = f"; a process of another user ({owner.user}) listens"
    where = f"{endpoint.name} at {endpoint.url}"
    if owner is not None and owner.is_held:
        said = f"{where}: {owner.words} is held (SIGSTOP, or a debugger) and answers nobody"
        yield fail("server.held", said, f"kill -CONT {owner.pid}")
    elif endpoint.state in CALLABLE:
        version = f" {endpoint.version}" if endpoint.version else ""
        count = len(endpoint.models or ())
        models = f", {count} model{'' if count == 1 else 's'}" if endpoint.models is not None else ""
        title = f"{_title(world, endpoint)}{version}{models}"
        yield ok(f"server.{endpoint.state}", f"{where} is {endpoint.state} ({title}){listens}", brief=True)
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


def check_detours(detours: Iterable[Detour]) -> list[Finding]:
    """Judge the ways. Pure."""
    return list(_detours(detours))


def _detours(detours: Iterable[Detour]) -> Iterator[Finding]:
    for each in detours:
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
