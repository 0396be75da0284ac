"""What somebody means who asks for a server, of which some is known from before."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hived.daemon.clock import Clock
from hived.daemon.orders import Order, is_same, read_order
from hived.daemon.servers import Servers
from hived.machine.recipes import Wanted
from hived.machine.records import Records, Started
from hived.machine.start_llamacpp import LlamaCppRecipe
from hived_client.doors.wire import StartParams
from tests.client.worlds import endpoint, world

NAME = "llamacpp-8080"
URL = "http://127.0.0.1:8080"
RECORD = Started(
    endpoint=NAME,
    provider="llamacpp",
    url=URL,
    identity=None,
    argv=("llama-server",),
    model="/m/tiny.gguf",
    alias="tiny",
    log="/nowhere",
    started_at=0.0,
    context=4096,
    wanted=Wanted(model="/m/tiny.gguf", context=4096, arguments=("--threads", "4")),
)


def asked(folder: Path, **more: object) -> Order:
    """Return what is meant by asking for the server of the record by its name."""
    servers = Servers(Records(folder), {}, Clock())
    servers.put(RECORD)
    known = world(endpoint(NAME, "llamacpp", url=URL, source="started"))
    params = msgspec.convert({"provider": NAME} | more, StartParams)
    return read_order(params, known, servers, {"llamacpp": LlamaCppRecipe()})


@pytest.mark.parametrize(
    ("more", "changed", "same"),
    [
        ({}, {}, True),
        ({"context": 4096}, {}, True),
        ({"context": 16_384}, {"context": 16_384}, False),
        ({"alias": "other"}, {"alias": "other"}, False),
        ({"arguments": ("--threads", "2")}, {"arguments": ("--threads", "2")}, False),
        ({"port": 8081}, {"port": 8081}, False),
        ({"port": 0}, {"port": 0}, True),
    ],
)
def test_what_is_asked_now_comes_before_what_was_asked_then(
    tmp_path: Path, more: dict[str, object], changed: dict[str, object], same: bool
) -> None:
    order = asked(tmp_path, **more)
    was = Wanted(model="/m/tiny.gguf", context=4096, arguments=("--threads", "4"), port=8080)
    assert order.wanted == msgspec.structs.replace(was, **changed)
    assert is_same(RECORD, order) is same


@pytest.mark.parametrize(("name", "called"), [("lab", "lab"), ("hived", ""), ("a/b", "")])
def test_a_server_is_not_called_as_the_daemons_own_log_is(tmp_path: Path, name: str, called: str) -> None:
    servers = Servers(Records(tmp_path), {}, Clock())
    params = StartParams(provider="llamacpp", model="/m/tiny.gguf")
    order = read_order(params, world(), servers, {"llamacpp": LlamaCppRecipe()}, name=name)
    assert order.name == called
