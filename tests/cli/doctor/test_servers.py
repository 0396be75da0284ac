"""What the doctor says of servers, of who has their ports, and of the way to localhost."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec
import pytest

from hived.cli.doctor.servers import Detour, check_detours, check_servers, measure, read_detours, read_owners
from hived.machine.owners import Owner
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.cli.doctor.findings_of import only, seen

UP = Endpoint(
    name="ollama",
    provider="ollama",
    url="http://127.0.0.1:11434",
    source="default",
    locality="device",
    state="ready",
    version="99.0",
    models=(Model(name="m"),),
)
DOWN = fault("server.down", title="Ollama", url=UP.url, start="ollama serve")
SOMEBODY = {"ollama": Owner(pid=4, program="nginx", user="me")}


def server(**fields: Any) -> World:
    return World(generation=1, endpoints=(msgspec.structs.replace(UP, **fields),))


CASES: list[tuple[str, World, dict[str, Owner], list[str]]] = [
    ("one that runs", server(), {}, []),
    ("one that nobody asked for", server(state="down", reason=DOWN), {}, ["note server.none"]),
    (
        "one that the configuration names",
        server(state="down", reason=DOWN, source="configuration"),
        {},
        ["fail server.down"],
    ),
    (
        "a stranger at a usual port",
        server(state="wrong_server", reason=fault("server.wrong", url=UP.url, title="Ollama", seems="")),
        SOMEBODY,
        ["note server.wrong"],
    ),
    (
        "one that is loading",
        server(state="loading", source="configuration", reason=fault("server.loading", title="O", url="u")),
        {},
        ["note server.loading"],
    ),
    (
        "one that failed at a usual port",
        server(state="failed", reason=fault("server.failed", title="O", url="u", why="w")),
        {},
        ["warn server.failed"],
    ),
    (
        "one with a warning",
        server(warnings=(fault("server.other_dialect", url="u", title="O", seems="", endpoint="ollama"),)),
        {},
        ["warn server.other_dialect"],
    ),
    (
        "a model that failed",
        server(models=(Model(name="m", state="failed", fault=fault("model.failed", endpoint="ollama")),)),
        {},
        ["warn model.failed"],
    ),
    (
        "one whose process is held",
        server(state="starting", reason=fault("server.starting", title="Ollama", url=UP.url)),
        {"ollama": Owner(pid=4, program="ollama", is_held=True)},
        ["fail server.held"],
    ),
    ("a version with a hole", server(version="0.1.0"), {}, ["warn server.vulnerable"]),
    ("no server at all", World(generation=1), {}, ["note server.none"]),
]


@pytest.mark.parametrize(
    ("world", "owners", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_server_is_judged(world: World, owners: dict[str, Owner], expected: list[str]) -> None:
    assert seen(check_servers(world, owners)) == expected


def test_who_listens_at_a_port_is_told() -> None:
    unit = Owner(pid=9, program="ollama", user="ollama", unit="system unit ollama.service", is_other=True)
    said = only(check_servers(server(), {"ollama": unit}), "server.ready").what
    assert said.endswith("; ollama (pid 9, system unit ollama.service, user ollama) listens")
    hidden = Owner(user="root", is_other=True)
    said = only(check_servers(server(), {"ollama": hidden}), "server.ready").what
    assert said.endswith("a process of another user (root) listens")


def test_the_owner_of_a_port_is_this_very_process_where_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (owner,) = read_owners(server(url=url).endpoints).values()
    assert owner.pid == os.getpid()
    assert read_owners(server(url=url).endpoints) == {}
    assert read_owners(server(url="http://10.9.9.9:1", locality="lan").endpoints) == {}


WAYS: list[tuple[Detour, list[str]]] = [
    (Detour(port=1, by_name=0.001, straight=0.001, first="127.0.0.1"), []),
    (Detour(port=1, by_name=1.002, straight=0.001, first="::1"), ["warn slow.localhost"]),
    (Detour(port=1, by_name=None, straight=0.001, first="::1"), ["warn slow.localhost"]),
]


@pytest.mark.parametrize(("way", "expected"), WAYS)
def test_a_detour_by_ipv6_is_told(way: Detour, expected: list[str]) -> None:
    assert seen(check_detours([way])) == expected


def test_ways_are_measured_only_where_somebody_listens(unused_port: int) -> None:
    assert measure(unused_port) is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (way,) = read_detours(server(url=f"http://127.0.0.1:{port}").endpoints)
    assert way.port == port
    assert way.straight < 1.0
