"""Starting the daemon: once, however many ask, and with a reason where it cannot be."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hived_client.doors import launch
from hived_client.doors.files import accepts
from hived_client.doors.launch import ensure_running
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError, StartFailed, Unavailable
from tests.daemon.running import (
    DEADLINE,
    Patient,
    Running,
    configure,
    llamacpp_at,
    serving,
    wait_prompt,
    wait_until,
)
from tests.servers.strangers import Silent


@pytest.fixture
def started(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An environment of this very process, in which whatever daemon was started is ended."""
    configure(environment)
    monkeypatch.delenv("HIVE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield environment
    for pid in serving(environment):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not serving(environment))


def test_the_daemon_is_started_once_and_found_again(started: dict[str, str], where: Places) -> None:
    first = ensure_running(where, timeout=DEADLINE)
    assert first.managed_by == "client"
    assert serving(started) == [first.pid]
    assert ensure_running(where, timeout=DEADLINE).daemon_id == first.daemon_id
    assert os.getsid(first.pid) == first.pid
    assert os.readlink(f"/proc/{first.pid}/cwd") == "/"
    assert Path(f"{where.logs}/hived.log").stat().st_mode & 0o777 == 0o600
    links = [os.readlink(f"/proc/{first.pid}/fd/{fd}") for fd in (0, 1, 2)]
    assert links == ["/dev/null", f"{where.logs}/hived.log", f"{where.logs}/hived.log"]


def test_a_program_with_many_open_files_hears_the_daemon_too() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most[0], min(4096, most[1])), most[1]))
    reader, writer = os.pipe()
    try:
        high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1024)
        try:
            os.write(writer, b'{"ready": true, "pid": 7}\n')
            report = launch._read_report(high, time.monotonic() + 5.0)
        finally:
            os.close(high)
    finally:
        os.close(reader)
        os.close(writer)
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert report == launch.Report(ready=True, pid=7)


def test_a_daemon_is_started_where_it_is_wanted_and_not_where_this_process_lives(
    environment: dict[str, str], where: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(environment)
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HIVED_RUNTIME_DIR", str(tmp_path / "other"))
    greeting = ensure_running(where, timeout=DEADLINE)
    try:
        assert Client(where).greet().pid == greeting.pid
        assert list(tmp_path.iterdir()) == []
    finally:
        os.kill(greeting.pid, signal.SIGKILL)


@pytest.mark.parametrize("name", ["HIVE_HOME", "HIVED_RUNTIME_DIR"])
def test_a_relative_folder_is_that_of_whoever_starts_the_daemon(
    started: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv(name, "here")
    greeting = ensure_running(places())
    try:
        assert Client().greet().pid == greeting.pid
    finally:
        os.kill(greeting.pid, signal.SIGKILL)


@pytest.mark.stress
@pytest.mark.parametrize("how", ["threads", "processes"])
def test_thirty_that_ask_at_once_get_one_daemon(started: dict[str, str], where: Places, how: str) -> None:
    if how == "threads":
        found: list[str] = []
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                found.append(ensure_running(where, timeout=DEADLINE).daemon_id)
            except BaseException as error:  # noqa: BLE001 - counted by the test
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
        assert errors == []
    else:
        code = "import hived_client as h; print(h.ensure_running(timeout=60.0).daemon_id)"
        asking = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", code], env=started, stdout=subprocess.PIPE, text=True
            )
            for _ in range(30)
        ]
        found = [one.communicate(timeout=60.0)[0].strip() for one in asking]
    assert len(found) == 30
    assert len(set(found)) == 1
    assert len(serving(started)) == 1
    log = Path(f"{where.logs}/hived.log").read_text()
    assert log.count("daemon.ready") == 1


@pytest.mark.stress
def test_a_daemon_that_is_on_its_way_out_is_followed_by_a_new_one(
    started: dict[str, str], where: Places
) -> None:
    with Silent() as server:
        configure(started, llamacpp_at(server.url))
        first = ensure_running(where, timeout=DEADLINE)
        wait_until(lambda: server.connections)
        before = server.connections
        with closing(Patient(where)) as client:
            asker = threading.Thread(target=client.refresh)
            asker.start()
            wait_until(lambda: server.connections > before)
            os.kill(first.pid, signal.SIGTERM)
            wait_until(lambda: not accepts(where.socket))
            second = ensure_running(where, timeout=DEADLINE)
            asker.join(60.0)
    assert second.daemon_id != first.daemon_id
    wait_until(lambda: serving(started) == [second.pid])


@pytest.mark.stress
def test_a_start_while_the_lock_is_held_and_nobody_serves_ends_in_time_or_succeeds(
    started: dict[str, str], where: Places
) -> None:
    import fcntl

    os.makedirs(where.folder, 0o700)
    fd = os.open(where.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def ask() -> None:
        with pytest.raises(StartFailed) as caught:
            ensure_running(where, timeout=1.0)
        assert caught.value.code == "deadline"

    wait_prompt(ask, 3.0)
    timer = threading.Timer(0.5, os.close, (fd,))
    timer.start()
    assert ensure_running(where, timeout=DEADLINE).pid in serving(started)
    timer.join()


@pytest.mark.stress
def test_the_reason_of_a_daemon_that_cannot_be_is_told(started: dict[str, str], where: Places) -> None:
    os.makedirs(where.folder, 0o700)
    os.symlink("/nowhere", where.lock)
    with pytest.raises((StartFailed, Unavailable)) as caught:
        ensure_running(where, timeout=DEADLINE)
    assert caught.value.code == "runtime.unwritable"
    assert where.lock in caught.value.message


BROKEN_DAEMONS = {
    "ends": ("import sys; sys.exit(3)", "daemon.start_failed", "ended with code 3"),
    "says_nothing": ("import time; time.sleep(600)", "deadline", "took longer"),
    "says_nonsense": (
        "import os, time; os.write(int(os.environ['HIVED_NOTIFY_FD']), b'x\\n'); time.sleep(600)",
        "deadline",
        "took longer",
    ),
    "hangs_up_and_stays": (
        "import os, time; os.close(int(os.environ['HIVED_NOTIFY_FD'])); time.sleep(600)",
        "deadline",
        "took longer",
    ),
    "says_no": (
        "import os; os.write(int(os.environ['HIVED_NOTIFY_FD']), "
        'b\'{"ready":false,"pid":1,"fault":{"code":"runtime.unsafe","message":"it is not safe"}}\\n\')',
        "runtime.unsafe",
        "it is not safe",
    ),
    "lies": (
        "import os; os.write(int(os.environ['HIVED_NOTIFY_FD']), b'{\"ready\":true,\"pid\":1}\\n')",
        "deadline",
        "took longer",
    ),
}


@pytest.mark.parametrize("how", BROKEN_DAEMONS)
@pytest.mark.stress
def test_a_daemon_that_does_not_come_is_a_failed_start_and_leaves_no_process(
    started: dict[str, str], where: Places, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    code, fault, words = BROKEN_DAEMONS[how]
    children: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        children.append(real(*args, **kwargs))  # type: ignore[call-overload]
        return children[-1]

    monkeypatch.setattr(launch, "_command", lambda: [sys.executable, "-c", code])
    monkeypatch.setattr(subprocess, "Popen", popen)
    patience = 0.6 if fault == "deadline" else DEADLINE
    with pytest.raises(StartFailed) as caught:
        ensure_running(where, timeout=patience)
    assert caught.value.code == fault
    assert words in caught.value.message
    assert children
    for child in children:
        if child.returncode == 0 and how == "lies":
            with suppress(ChildProcessError):  # all but the last are buried already
                os.waitpid(child.pid, 0)
        assert not os.path.exists(f"/proc/{child.pid}")


def test_an_interrupted_start_leaves_no_daemon(
    started: dict[str, str], where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(fd: int, deadline: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_read_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ensure_running(where, timeout=DEADLINE)
    assert serving(started) == []


def test_a_program_that_is_not_there_is_named(
    started: dict[str, str], where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_command", lambda: ["/nowhere/hived"])
    with pytest.raises(StartFailed) as caught:
        ensure_running(where, timeout=DEADLINE)
    assert "/nowhere/hived" in caught.value.message


def test_a_service_that_was_begun_is_waited_for_and_not_begun_again_and_again(
    where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Places] = []

    def begin(places: Places, deadline: float) -> bool:
        begun.append(places)
        return True

    monkeypatch.setattr(launch, "_start_service", begin)
    with pytest.raises(StartFailed) as caught:
        ensure_running(where, timeout=0.2)
    assert caught.value.code == "deadline"
    assert begun == [where]


def test_a_daemon_that_was_started_and_has_ended_leaves_no_zombie_at_the_next_start(
    started: dict[str, str], where: Places
) -> None:
    first = ensure_running(where)
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)

    assert ensure_running(where).pid != first.pid

    assert not os.path.exists(f"/proc/{first.pid}")


@pytest.mark.parametrize("obstacle", ["log_is_a_folder", "state_is_a_file", "start_lock_is_a_folder"])
@pytest.mark.stress
def test_an_obstacle_is_our_own_error_or_none(started: dict[str, str], where: Places, obstacle: str) -> None:
    if obstacle == "log_is_a_folder":
        os.makedirs(f"{where.logs}/hived.log", 0o700)
        assert ensure_running(where, timeout=DEADLINE).pid
    elif obstacle == "state_is_a_file":
        os.makedirs(os.path.dirname(where.state), 0o700)
        Path(where.state).write_text("")
        with pytest.raises(HivedError):
            ensure_running(where, timeout=DEADLINE)
    else:
        os.makedirs(where.start_lock, 0o700)
        with pytest.raises(HivedError) as caught:
            ensure_running(where, timeout=DEADLINE)
        assert caught.value.code == "runtime.unwritable"


def test_resolve_starts_a_daemon_only_when_told_to(started: dict[str, str], where: Places) -> None:
    with closing(Client(where)) as client:
        with pytest.raises(HivedError):
            client.resolve("llamacpp/x")
        assert serving(started) == []
        with pytest.raises(HivedError):
            client.resolve("llamacpp/x", start=True)
    assert len(serving(started)) == 1


@pytest.mark.stress
def test_a_log_that_is_long_is_put_aside(
    started: dict[str, str], where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LOG_BYTES", 10)
    os.makedirs(where.logs, 0o700)
    Path(f"{where.logs}/hived.log").write_text("the last daemon's words")
    with Running(started) as daemon:
        assert ensure_running(where, timeout=DEADLINE).pid == daemon.pid
        assert daemon.terminate() == 0
    ensure_running(where, timeout=DEADLINE)
    assert Path(f"{where.logs}/hived.log.1").read_text() == "the last daemon's words"
