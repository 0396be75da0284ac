"""The files that clients read, as they are written."""

from __future__ import annotations

import errno
import os
import threading

import anyio
import pytest

from hived.daemon.clock import Clock
from hived.daemon.publish import Publisher, read_last_known
from hived.daemon.store import Store
from hived.decisions.transitions import expect, introduce
from hived_client.doors.files import Files, known
from hived_client.doors.paths import Places, ensure_folder
from hived_client.doors.snapshot import read_snapshot
from hived_client.doors.whole import write_whole
from hived_client.vocabulary.world import Daemon, Endpoint, World

ID = b"i" * 16
DAEMON = Daemon(
    version="0.1.0", pid=7, started_at=0.0, managed_by="foreground", socket="/s", id="i", boot="b"
)


@pytest.fixture
def store() -> Store:
    return Store(World(generation=1), Clock())


@pytest.fixture
def publisher(store: Store, where: Places) -> Publisher:
    for path in (where.runtime, where.folder, where.state):
        ensure_folder(path)
    return Publisher(store, where, Clock(), ID)


def add(store: Store, url: str) -> None:
    endpoint = Endpoint(name="a", provider="llamacpp", url=url, source="configuration")
    store.update(lambda world: expect(world, (endpoint,)))


@pytest.mark.anyio
async def test_what_is_published_is_what_is_read(publisher: Publisher, store: Store, where: Places) -> None:
    add(store, "http://127.0.0.1:1")
    publisher.publish()
    view = Files(where).look()
    assert view.verdict == "fresh"
    assert view.snapshot is not None
    assert view.snapshot.world() == store.world
    assert os.stat(where.snapshot).st_mode & 0o777 == 0o600
    assert os.stat(where.beat).st_mode & 0o777 == 0o600
    await publisher.finish()
    assert Files(where).look().verdict == "stopped"
    last = read_last_known(where.last_known)
    assert last is not None
    assert last.endpoints == store.world.endpoints


@pytest.mark.anyio
async def test_without_the_last_word_another_daemons_files_are_left_alone(
    publisher: Publisher, store: Store, where: Places
) -> None:
    publisher.publish()
    with open(where.snapshot, "wb") as file:
        file.write(b"another's")
    await publisher.finish(last_word=False)
    with open(where.snapshot, "rb") as file:
        assert file.read() == b"another's"


@pytest.mark.anyio
async def test_a_change_in_a_folder_that_is_anothers_by_now_is_not_written(
    publisher: Publisher, store: Store, where: Places
) -> None:
    publisher.publish()
    ours = [False]
    superseded = Publisher(store, where, Clock(), ID, is_ours=lambda: ours[0])
    before = Files(where).look()
    add(store, "http://127.0.0.1:1")
    superseded.publish()
    assert before.snapshot is not None
    assert read_snapshot(where.snapshot).world() == before.snapshot.world()
    ours[0] = True
    superseded.reopen()
    assert read_snapshot(where.snapshot).world() == store.world
    await superseded.finish()


@pytest.mark.parametrize("lost", ["snapshot", "beat"])
@pytest.mark.anyio
async def test_a_lost_file_is_noticed_and_written_again(
    publisher: Publisher, where: Places, lost: str
) -> None:
    publisher.publish()
    assert publisher.is_intact()
    os.unlink(getattr(where, lost))
    assert not publisher.is_intact()
    publisher.reopen()
    assert publisher.is_intact()
    assert Files(where).look().verdict == "fresh"
    await publisher.finish()


@pytest.mark.anyio
async def test_a_beat_that_was_replaced_is_noticed(publisher: Publisher, where: Places) -> None:
    publisher.publish()
    os.replace(where.snapshot, where.beat)
    assert not publisher.is_intact()
    await publisher.finish()


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_written_is_counted_and_forgotten(
    publisher: Publisher, store: Store, where: Places
) -> None:
    os.rename(where.folder, f"{where.folder}.away")
    publisher.publish()
    assert publisher.statistics()["failing"]
    os.rename(f"{where.folder}.away", where.folder)
    publisher.publish()
    assert not publisher.statistics()["failing"]
    await publisher.finish()


@pytest.mark.anyio
async def test_changes_are_written_together_and_all_in_the_end(
    publisher: Publisher, store: Store, where: Places
) -> None:
    with anyio.fail_after(60.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publisher.run)
            for number in range(200):
                add(store, f"http://127.0.0.1:{number + 1}")
                if number % 20 == 0:
                    await anyio.sleep(0.005)
            while publisher.statistics()["published"] != store.world.generation:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert publisher.writes < 20
    view = Files(where).look()
    assert view.snapshot is not None
    assert view.snapshot.world().endpoints[0].url == "http://127.0.0.1:200"
    await publisher.finish()


@pytest.mark.anyio
async def test_a_state_folder_whose_disk_hangs_is_told_and_holds_neither_the_loop_nor_the_end(
    publisher: Publisher, store: Store, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.update(lambda world: introduce(world, DAEMON))
    goes_on, writes = threading.Event(), []

    def hang(path: str, data: bytes, *, sync: bool = False) -> None:
        if path == where.last_known:
            writes.append(path)
            goes_on.wait(60.0)
        else:
            write_whole(path, data, sync=sync)

    monkeypatch.setattr("hived.daemon.publish.write_whole", hang)
    monkeypatch.setattr("hived.daemon.publish.PATIENCE", 0.05)
    try:
        with anyio.fail_after(10.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher.run_memory)
                while not store.world.problems:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()
            assert [problem.code for problem in store.world.problems] == ["runtime.unwritable"]
            assert "the disk does not answer" in store.world.problems[0].message
            await publisher.finish()
        assert len(writes) == 1
        assert Files(where).look().verdict == "stopped"
    finally:
        goes_on.set()


def test_a_last_known_world_that_is_none_is_forgotten(where: Places) -> None:
    assert read_last_known(where.last_known) is None
    os.makedirs(where.last_known)
    assert read_last_known(where.last_known) is None


def test_a_full_disk_is_told_in_the_world_and_by_the_beat_until_there_is_room(
    publisher: Publisher, store: Store, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.update(lambda world: introduce(world, DAEMON))
    publisher.publish()
    assert known(Files(where).look(), 0.0).problem is None

    def full(path: str, data: bytes, *, sync: bool = False) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with monkeypatch.context() as patch:
        patch.setattr("hived.daemon.publish.write_whole", full)
        add(store, "http://127.0.0.1:1")
        publisher.publish()
        publisher.publish()
    assert [problem.code for problem in store.world.problems] == ["disk.full"]
    told = known(Files(where).look(), 0.0).problem
    assert told is not None
    assert (told.code, told.hint) == ("disk.full", f"df -h {where.folder}")
    publisher.publish()
    publisher.publish()
    assert store.world.problems == ()
    view = Files(where).look()
    assert known(view, 0.0).problem is None
    assert view.snapshot is not None
    assert view.snapshot.world() == store.world


def test_what_is_no_full_disk_is_not_called_one(publisher: Publisher, store: Store, where: Places) -> None:
    store.update(lambda world: introduce(world, DAEMON))
    os.chmod(where.folder, 0o700)
    os.mkdir(where.snapshot)
    publisher.publish()
    assert [problem.code for problem in store.world.problems] == ["runtime.unwritable"]
    assert publisher.statistics()["failing"]
    told = known(Files(where).look(), 0.0).problem
    assert told is not None
    assert told.code == "runtime.unwritable"
    os.rmdir(where.snapshot)
    publisher.publish()
    assert store.world.problems == ()


@pytest.mark.anyio
async def test_a_flush_writes_what_is_not_written_and_else_only_beats(
    publisher: Publisher, store: Store, where: Places
) -> None:
    publisher.publish()
    add(store, "http://127.0.0.1:1")
    publisher.flush()
    publisher.flush()
    assert publisher.writes == 2
    view = Files(where).look()
    assert view.snapshot is not None
    assert view.snapshot.world() == store.world
    store.saw("a", latency=0.1, cadence=1.0)
    publisher.flush()
    assert Files(where).look().seen("a").at is not None
    assert publisher.writes == 2
    await publisher.finish()


@pytest.mark.anyio
async def test_a_flush_leaves_a_folder_that_cannot_be_written_to_the_next_try(
    publisher: Publisher, store: Store, where: Places
) -> None:
    publisher.publish()
    os.rename(where.folder, f"{where.folder}.away")
    add(store, "http://127.0.0.1:1")
    publisher.flush()
    assert publisher.statistics()["failing"]
    os.rename(f"{where.folder}.away", where.folder)
    publisher.flush()
    assert publisher.statistics()["failing"]
    publisher.publish()
    assert not publisher.statistics()["failing"]
    await publisher.finish()
