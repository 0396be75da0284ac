"""What the files say of the daemon and of each endpoint."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec
import pytest

from hived_client._version import __version__
from hived_client.doors import boot as module
from hived_client.doors.beat import FULL, STOPPED, UNWRITABLE
from hived_client.doors.files import Files, accepts, known
from hived_client.doors.paths import Places, ensure_folder, places, socket_path
from hived_client.doors.since_boot import since_boot
from hived_client.vocabulary.world import Daemon, World
from tests.client.publishing import ID, listening, publish, write_beat, write_snapshot, young
from tests.client.worlds import endpoint, world

WORLD = world(endpoint("lab", "vllm", "x", slot=0), endpoint("gpu", "ollama", "y", slot=1))


def refuses(path: str) -> None:
    """Leave the socket of a daemon that was killed."""
    with listening(path):
        os.link(path, f"{path}.kept")
    os.rename(f"{path}.kept", path)


def test_without_files_the_daemon_is_absent(where: Places) -> None:
    view = Files(where).look()
    assert (view.verdict, view.running, view.snapshot, view.problem) == ("absent", False, None, None)
    assert view.age("lab") is None
    assert not view.is_young("lab")
    found = known(view, 5.0)
    assert (found.world, found.verdict, found.age, found.seen) == (World(generation=0), "absent", None, {})


def test_a_young_beat_is_believed_without_a_connection(where: Places) -> None:
    publish(where, WORLD)
    view = Files(where).look()
    assert (view.verdict, view.running) == ("fresh", True)
    assert view.snapshot is not None
    assert view.snapshot.world() == WORLD
    assert view.is_young("lab")
    assert 0 <= (view.age("lab") or 0) < 1


@pytest.mark.parametrize(("ago", "verdict"), [(1.4, "fresh"), (2.0, "lagging"), (20.0, "stale")])
def test_an_old_beat_is_settled_by_who_accepts(where: Places, ago: float, verdict: str) -> None:
    publish(where, WORLD, ago=ago)
    gone = "fresh" if verdict == "fresh" else "absent"
    assert Files(where).look().verdict == gone
    with listening(where.socket):
        assert Files(where).look().verdict == verdict
    refuses(where.socket)
    view = Files(where).look()
    assert view.verdict == gone
    assert view.snapshot is not None
    assert view.snapshot.world() == WORLD


def test_a_daemon_that_stopped_leaves_what_it_knew(where: Places) -> None:
    publish(where, WORLD, flags=STOPPED)
    with listening(where.socket):
        view = Files(where).look()
    assert (view.verdict, view.running) == ("stopped", False)
    assert view.snapshot is not None


def test_a_full_queue_is_a_busy_daemon_and_not_a_dead_one(where: Places) -> None:
    import socket

    with listening(where.socket) as listener:
        listener.listen(0)
        waiting = []
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.setblocking(False)
            client.connect_ex(where.socket)
            waiting.append(client)
        assert accepts(where.socket)
        for client in waiting:
            client.close()


@pytest.mark.parametrize("what", ["nothing", "file", "long"])
def test_what_does_not_accept_is_not_a_daemon(where: Places, what: str) -> None:
    ensure_folder(where.folder)
    if what == "file":
        Path(where.socket).touch()
    assert not accepts("/" + "x" * 300 if what == "long" else where.socket)


def test_files_of_another_boot_are_the_last_known(where: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(where, WORLD)
    monkeypatch.setattr(module, "_bytes", [b"the next boot..."])
    view = Files(where).look()
    assert (view.verdict, view.running) == ("foreign", False)
    assert view.snapshot is not None
    assert view.age("lab") is None
    assert not view.is_young("lab")
    assert known(view, 9.0).age is None


@pytest.mark.parametrize("later", [-1e6, 1e6])
def test_times_of_another_boot_never_make_a_fact_look_young(
    where: Places, monkeypatch: pytest.MonkeyPatch, later: float
) -> None:
    publish(where, WORLD, slots=((int((time.monotonic() + max(0.0, -later)) * 1e9), 1, 4000),) * 2)
    monkeypatch.setattr(module, "_bytes", [b"the next boot..."])
    with listening(where.socket):
        view = Files(where).look()
    assert view.verdict == "stale"
    assert view.age("lab") is None
    assert not view.is_young("lab")
    assert known(view, 9.0).age is None


def test_the_rows_of_one_daemon_never_date_the_world_of_another(where: Places) -> None:
    write_snapshot(where, WORLD, daemon_id=b"the one before..")
    write_beat(where, WORLD.generation)
    view = Files(where).look()
    assert view.verdict == "fresh"
    assert not view.is_young("lab")
    assert view.age("lab") is None


def test_an_old_look_is_not_young(where: Places) -> None:
    for ago, is_young in ((8.4, True), (8.6, False), (100.0, False)):
        publish(where, WORLD, slots=young(2, ago))
        assert Files(where).look().is_young("lab") is is_young
    publish(where, WORLD, slots=())
    assert Files(where).look().age("lab") is None


def test_the_last_known_is_read_where_nothing_else_is(where: Places) -> None:
    write_snapshot(where, WORLD, path=where.last_known)
    view = Files(where).look()
    assert (view.verdict, view.running) == ("absent", False)
    assert view.snapshot is not None
    assert view.snapshot.world() == WORLD
    assert known(view, 9.0).world == WORLD


@pytest.mark.parametrize("what", ["fifo", "garbage", "folder", "open"])
def test_a_last_known_that_is_not_ours_is_passed_over_at_once(where: Places, what: str) -> None:
    ensure_folder(where.state)
    path = Path(where.last_known)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "garbage":
        path.write_bytes(b"garbage" * 100)
    elif what == "folder":
        path.mkdir()
    else:
        write_snapshot(where, WORLD, path=where.last_known)
        Path(where.state).chmod(0o777)
    assert Files(where).look().snapshot is None


def test_the_breadcrumb_leads_to_a_daemon_of_another_session(home: Path) -> None:
    session, cron = home / "session", {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "none")}
    session.mkdir(mode=0o700)
    there = places({"HOME": str(home), "XDG_RUNTIME_DIR": str(session)})
    files = Files(environment=cron)
    assert files.look().verdict == "absent"
    publish(there, WORLD)
    Path(there.breadcrumb).parent.mkdir(parents=True, exist_ok=True)
    Path(there.breadcrumb).write_bytes(msgspec.json.encode({"runtime": there.runtime, "pid": 1}))
    view = files.look()
    assert (view.verdict, view.places.runtime) == ("fresh", there.runtime)
    assert view.places.socket == socket_path(there.runtime)


def test_given_places_are_kept_while_nothing_runs_there(where: Places) -> None:
    files = Files(where)
    for _ in range(3):
        assert files.look().places == where
    publish(where, WORLD)
    assert files.look().verdict == "fresh"


def test_a_new_generation_is_seen_at_once_and_the_old_one_is_not_read_again(where: Places) -> None:
    files = Files(where)
    publish(where, WORLD)
    first = files.look().snapshot
    assert files.look().snapshot is first
    changed = msgspec.structs.replace(WORLD, generation=2, endpoints=WORLD.endpoints[:1])
    publish(where, changed)
    second = files.look().snapshot
    assert second is not None
    assert second.world() == changed
    assert files.look().snapshot is second


def test_a_new_daemon_at_the_same_generation_is_seen_at_once(where: Places) -> None:
    files = Files(where)
    publish(where, WORLD)
    files.look()
    other = msgspec.structs.replace(WORLD, endpoints=())
    write_snapshot(where, other, daemon_id=b"the next one ...")
    write_beat(where, WORLD.generation, daemon_id=b"the next one ...")
    snapshot = files.look().snapshot
    assert snapshot is not None
    assert snapshot.world() == other


def test_the_wall_clock_does_not_matter(where: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(where, WORLD)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    files = Files(where)
    view = files.look()
    assert view.verdict == "fresh"
    assert known(view, 0.0).age == known(view, 1e12).age
    for path in (where.snapshot, where.beat):
        os.utime(path, (0, 0))
    assert files.look().verdict == "fresh"


def test_only_the_time_since_the_boot_matters(where: Places) -> None:
    publish(where, WORLD)
    assert Files(where, clock=lambda: since_boot() + 3).look().verdict == "absent"
    assert Files(where, clock=lambda: since_boot() - 3).look().verdict == "foreign"


def test_when_each_endpoint_was_seen_is_told_by_the_wall_clock(where: Places) -> None:
    publish(where, WORLD, slots=(*young(1, 2.0), (0, 0, 0)))
    found = known(Files(where).look(), 1000.0)
    assert found.seen["lab"].at == pytest.approx(998.0, abs=0.5)
    assert found.seen["gpu"].at is None
    assert found.age == pytest.approx(0.0, abs=0.5)


def daemon_of(version: str, managed_by: str = "foreground") -> World:
    """A World of a daemon of some version."""
    daemon = Daemon(
        version=version, pid=7, started_at=0.0, managed_by=managed_by, socket="/s", id="i", boot="b"
    )
    return msgspec.structs.replace(WORLD, daemon=daemon)


@pytest.mark.parametrize(
    ("managed_by", "hint"),
    [
        ("systemd", "hived service install"),
        ("launchd", "hived service install"),
        ("foreground", "kill 7 && sleep 1 && hived serve"),
        ("client", "kill 7 && sleep 1 && hived serve"),
    ],
)
def test_a_daemon_of_another_version_is_told_with_what_starts_it_again(
    where: Places, managed_by: str, hint: str
) -> None:
    publish(where, daemon_of("0.0.1", managed_by))
    found = known(Files(where).look(), 0.0)
    assert [(note.code, note.hint) for note in found.notes] == [("daemon.other_version", hint)]
    assert found.notes[0].fields["version"] == "0.0.1"


def test_a_daemon_of_this_version_or_one_that_is_gone_is_not_complained_of(where: Places) -> None:
    publish(where, daemon_of(__version__))
    assert known(Files(where).look(), 0.0).notes == ()
    publish(where, daemon_of("0.0.1"), flags=STOPPED)
    assert known(Files(where).look(), 0.0).notes == ()


@pytest.mark.parametrize(("flag", "code"), [(FULL, "disk.full"), (UNWRITABLE, "runtime.unwritable")])
def test_a_beat_tells_that_the_snapshot_cannot_be_written(where: Places, flag: int, code: str) -> None:
    publish(where, WORLD, flags=flag)
    view = Files(where).look()
    assert view.verdict == "fresh"
    found = known(view, 0.0).problem
    assert found is not None
    assert (found.code, found.fields["path"]) == (code, where.folder)


@pytest.mark.parametrize("name", ["snapshot", "beat"])
@pytest.mark.parametrize("what", ["garbage", "folder", "fifo", "missing", "empty"])
def test_looking_never_raises_for_what_is_there(where: Places, name: str, what: str) -> None:
    publish(where, WORLD)
    path = Path(where.folder) / name
    path.unlink()
    if what == "garbage":
        path.write_bytes(os.urandom(300))
    elif what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "empty":
        path.touch()
    view = Files(where).look()
    assert (view.problem is None) is (what == "missing")
    assert view.running is (name == "snapshot")
    if name == "beat":
        with listening(where.socket):
            assert Files(where).look().running is (what != "missing")
    assert known(view, 1.0).problem == view.problem


def test_a_folder_that_others_may_write_to_is_not_believed(where: Places) -> None:
    publish(where, WORLD)
    Path(where.folder).chmod(0o777)
    view = Files(where).look()
    assert view.snapshot is None
    assert view.problem is not None
    assert view.problem.code == "runtime.unsafe"


def test_threads_share_one(home: Path, environment: dict[str, str], where: Places) -> None:
    files = Files(environment=environment)
    failures: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(100):
                view = files.look()
                assert view.snapshot is None or view.snapshot.header.daemon_id == ID
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(20):
        publish(where, msgspec.structs.replace(WORLD, generation=generation))
    for thread in threads:
        thread.join()
    assert failures == []
