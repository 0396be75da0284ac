"""The way to the daemon: its folder, its files, and what is said on its socket."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

import anyio
import msgspec

from hived.daemon.instance import Instance
from hived.daemon.server import Talk
from hived.daemon.store import MOST_WAITING
from hived_client.doors.frames import frame
from hived_client.doors.paths import Places, ensure_folder
from hived_client.doors.snapshot import Entry, encode_snapshot, read_snapshot
from hived_client.doors.sync import Client, Connection
from hived_client.doors.wire import Hello, Nothing
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import World
from tests.client.conversations import hangs_up
from tests.client.fake_daemon import fake_daemon
from tests.client.worlds import endpoint
from tests.daemon.running import DEADLINE
from tests.daemon.test_server import change_world, connected, pack, read_message, serving, until
from tests.faults.asking import Shared, problem, raised, settled
from tests.faults.provoking import provokes


@provokes("protocol.unsupported", "a client of the future")
def test_from_the_future(shared: Shared) -> Fault:
    with connected(shared.daemon.where, frame(pack(Hello(hived=1, min=7, max=9)))) as peer:
        return msgspec.convert(read_message(peer)[0]["fault"], Fault)


@provokes("protocol.broken", "a daemon that hangs up instead of answering")
def test_it_hangs_up(where: Places) -> Fault:
    with fake_daemon(where, refresh=hangs_up), contextlib.closing(Client(where)) as client:
        return raised(client.refresh)


@provokes("method.unknown", "a method of another version")
def test_no_such_method(shared: Shared) -> Fault:
    with Connection(shared.daemon.where, DEADLINE) as connection:
        return raised(functools.partial(connection.call, "dream", Nothing(), dict[str, Any], DEADLINE))


@provokes("params.invalid", "a port beyond the last one")
def test_no_such_port(shared: Shared) -> Fault:
    return raised(lambda: list(shared.daemon.client.start("llamacpp", model="/m.gguf", port=70_000)))


@provokes("internal", "a method that divides by zero")
async def test_a_mistake(where: Places) -> Fault:
    async def crash(params: bytes, talk: Talk) -> dict[str, object]:
        raise ZeroDivisionError

    async with serving(where, {"reload": crash}) as running:
        try:
            await running.client.reload()
        except HivedError as error:
            return error.fault
    raise AssertionError("it did not crash")


@provokes("lagged", "more changes at once than wait for one listener")
async def test_too_many_changes(where: Places) -> Fault:
    told: list[Fault] = []

    async with serving(where) as running:

        async def listen() -> None:
            try:
                async for _ in running.client.events():
                    pass
            except HivedError as error:
                told.append(error.fault)

        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await until(lambda: running.store.statistics()["subscribers"])
                change_world(running.store, MOST_WAITING + 100)
    return told[0]


@provokes("runtime.unsafe", "a runtime folder that others may write to")
def test_open_to_others(where: Places) -> Fault:
    os.makedirs(where.folder, 0o700)
    os.chmod(where.folder, 0o777)
    with contextlib.closing(Client(where)) as client:
        return raised(client.refresh)


@provokes("runtime.unwritable", "a folder where the lock should be")
def test_no_lock(where: Places) -> Fault:
    os.makedirs(where.lock, 0o700)
    os.chmod(where.folder, 0o700)
    return raised(Instance(where).acquire)


@provokes("snapshot.foreign", "a snapshot that somebody has written over")
def test_damaged_snapshot(home: Path) -> Fault:
    with settled(home) as daemon:
        Path(daemon.where.snapshot).write_bytes(b"not a snapshot")
        return problem("snapshot.foreign", daemon.another())


@provokes("snapshot.unknown", "a server whose state is a word of the future")
def test_a_word_of_the_future(where: Places) -> Fault:
    found = msgspec.to_builtins(endpoint("lab", "vllm", "x")) | {"state": "a state of the future"}
    entry = Entry(name="lab", provider="vllm", slot=0, body=msgspec.Raw(pack(found)))
    for folder in (where.runtime, where.folder):
        ensure_folder(folder)
    data = encode_snapshot(World(generation=1), (entry,), daemon_id=b"i" * 16)
    Path(where.snapshot).write_bytes(data)
    (unknown,) = read_snapshot(where.snapshot).world().problems
    return unknown
