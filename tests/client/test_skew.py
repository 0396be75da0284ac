"""A client and a daemon of different versions: who gives way, and who only says so."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hived_client._version import __version__
from hived_client.doors.launch import ensure_running
from hived_client.doors.origin import install_command
from hived_client.doors.paths import Places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from tests.daemon.running import DEADLINE, Running, configure, serving, wait_until

OLDER, NEWER = "0.0.1", "99.0"


@pytest.fixture
def environment_of(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """An environment of this very process, in which whatever daemon was started is ended."""
    configure(environment)
    monkeypatch.delenv("HIVE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield environment
    for pid in serving(environment):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not serving(environment))


def daemon_of(environment: dict[str, str], folder: Path, version: str, managed_by: str = "client") -> Running:
    """Return a daemon that says it has that version."""
    code = f"import hived_client._version as v; v.__version__ = {version!r}\n"
    (folder / "sitecustomize.py").write_text(code)
    paths = f"{folder}{os.pathsep}{environment['PYTHONPATH']}"
    more = {"HIVED_MANAGED_BY": managed_by} if managed_by == "client" else {}
    return Running(environment | {"PYTHONPATH": paths} | more)


def test_an_older_daemon_that_a_client_started_gives_way_to_a_new_one(
    environment_of: dict[str, str], where: Places, tmp_path: Path
) -> None:
    with daemon_of(environment_of, tmp_path, OLDER) as older:
        assert older.client.greet().version == OLDER
        greeting = ensure_running(where, timeout=DEADLINE)
        assert (greeting.version, greeting.managed_by) == (__version__, "client")
        assert older.process.wait(60.0) == 0
        assert serving(environment_of) == [greeting.pid]
        assert older.events("daemon.stopped")


def test_one_that_somebody_follows_stays_until_they_have_gone(
    environment_of: dict[str, str], where: Places, tmp_path: Path
) -> None:
    with daemon_of(environment_of, tmp_path, OLDER) as older:
        follower = Client(where)
        told = threading.Event()

        def follow() -> None:
            try:
                for _ in follower.events():
                    told.set()
            except HivedError:
                told.set()

        thread = threading.Thread(target=follow)
        thread.start()
        wait_until(lambda: older.client.statistics()["store"]["subscribers"] == 1)
        assert ensure_running(where, timeout=DEADLINE).pid == older.pid
        older.terminate()
        thread.join(60.0)
        assert told.is_set()
        assert ensure_running(where, timeout=DEADLINE).version == __version__


@pytest.mark.parametrize(
    ("version", "managed_by"),
    [(NEWER, "client"), (OLDER, "foreground"), (NEWER, "foreground"), ("unheard of", "client")],
)
def test_any_other_daemon_is_used_as_it_is(
    environment_of: dict[str, str], where: Places, tmp_path: Path, version: str, managed_by: str
) -> None:
    with daemon_of(environment_of, tmp_path, version, managed_by) as daemon:
        assert ensure_running(where, timeout=DEADLINE).pid == daemon.pid
        notes = daemon.client.world().notes
        assert [note.code for note in notes] == ["daemon.other_version"]
        hint = install_command(upgrade=True) if version == NEWER else f"kill {daemon.pid} && sleep 1"
        assert notes[0].hint.startswith(hint)
