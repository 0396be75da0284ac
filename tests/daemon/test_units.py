"""Servers in units of the user's systemd, and a daemon that is killed at the wrong moment. A fake systemd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hived.machine.ports import free_port
from hived.machine.records import Records, Started
from hived_client.doors.wire import Begun
from hived_client.vocabulary.world import Endpoint
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.machine.user_manager import UserManagerPrograms, user_manager
from tests.servers.programs import OllamaProgram

pytestmark = pytest.mark.slow


@pytest.fixture
def manager(home: Path) -> Iterator[UserManagerPrograms]:
    with user_manager(home / "bin", home / "xdg") as found:
        yield found


@pytest.fixture
def variables(home: Path, environment: dict[str, str], manager: UserManagerPrograms) -> dict[str, str]:
    found = environment | manager.environment | {"PATH": f"{home / 'bin'}:{environment['PATH']}"}
    configure(found, {"ollama": {"api_base": f"http://127.0.0.1:{free_port()}"}})
    return found


def begun(daemon: Running) -> Begun:
    last = list(daemon.client.start("ollama", timeout=DEADLINE))[-1]
    assert isinstance(last, Begun)
    assert last.pid is not None
    return last


def there(daemon: Running) -> Endpoint:
    return daemon.client.world().world.endpoints[0]


def records(daemon: Running) -> Records:
    return Records(Path(daemon.where.started))


def test_a_server_lives_in_a_unit_with_its_variables_its_log_and_nothing_of_ours(
    variables: dict[str, str], manager: UserManagerPrograms, home: Path
) -> None:
    OllamaProgram(home / "bin")
    variables["OLLAMA_MODELS"] = '/m "x" $HOME `y` \\ z'
    with Running(variables) as daemon:
        found = begun(daemon)
        process = there(daemon).process
        assert process is not None
        assert list(manager.units) == [process.unit]
        raw = Path(f"/proc/{found.pid}/environ").read_bytes().split(b"\0")
        assert f"OLLAMA_MODELS={variables['OLLAMA_MODELS']}".encode() in raw
        assert not [each for each in raw if each.startswith((b"NOTIFY_SOCKET=", b"HIVED_NOTIFY"))]
        assert os.path.exists(process.log)
        assert [name for name in os.listdir(daemon.where.folder) if name.endswith(".environment")] == []
        assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
        assert manager.units == {}


def test_what_a_server_leaves_behind_is_ended_before_it_is_started_again(
    variables: dict[str, str], manager: UserManagerPrograms, home: Path
) -> None:
    (home / "real").mkdir()
    program = OllamaProgram(home / "real")
    wrapper = home / "bin" / "ollama"
    wrapper.write_text(f"#!/bin/sh\n(trap '' TERM; sleep 6) &\nexec {program.path} \"$@\"\n")
    wrapper.chmod(0o755)
    with Running(variables) as daemon:
        pid = begun(daemon).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: {state["ActiveState"] for state in manager.units.values()} == {"deactivating"})
        wait_until(lambda: len(program.starts) == 2)
        wait_until(lambda: there(daemon).state == "ready")
        assert [event["code"] for event in daemon.events("server.ended")] == [-signal.SIGKILL]
        assert daemon.events("server.not_restarted") == []
        daemon.client.stop("ollama")


def a_record(daemon: Running, variables: dict[str, str], **more: object) -> Started:
    (endpoint,) = daemon.client.world().world.endpoints
    found = Started(
        endpoint="ollama",
        provider="ollama",
        url=endpoint.url,
        identity=None,
        argv=("ollama", "serve"),
        model="",
        alias="",
        log=f"{daemon.where.logs}/ollama.log",
        started_at=0.0,
        keep=True,
        unit="hived-x-ollama.service",
    )
    return msgspec.structs.replace(found, **more)


def test_killed_before_systemd_was_asked_there_is_a_record_and_no_server_and_it_is_dropped(
    variables: dict[str, str], manager: UserManagerPrograms, home: Path
) -> None:
    OllamaProgram(home / "bin")
    with Running(variables) as daemon:
        daemon.kill()
        records(daemon).write(a_record(daemon, variables))
        daemon.start()
        wait_until(lambda: records(daemon).read_all() == [])
        assert begun(daemon).adopted is False
        daemon.client.stop("ollama")


def test_killed_after_systemd_was_asked_the_server_is_found_in_its_unit(
    variables: dict[str, str], manager: UserManagerPrograms, home: Path
) -> None:
    program = OllamaProgram(home / "bin")
    with Running(variables) as daemon:
        pid = begun(daemon).pid
        (record,) = records(daemon).read_all()
        daemon.kill()
        records(daemon).write(msgspec.structs.replace(record, identity=None))
        daemon.start()
        wait_until(lambda: there(daemon).state == "ready")
        assert begun(daemon).pid == pid
        wait_until(lambda: [each.identity for each in records(daemon).read_all()] == [record.identity])
        assert pid is not None
        os.kill(pid, signal.SIGKILL)  # and it is kept
        wait_until(lambda: len(program.starts) == 2)
        wait_until(lambda: there(daemon).state == "ready")
        assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
        assert manager.units == {}


def test_variables_that_a_killed_daemon_left_on_the_disk_are_removed(
    variables: dict[str, str], manager: UserManagerPrograms
) -> None:
    with Running(variables) as daemon:
        daemon.kill()
        left = Path(daemon.where.folder, "hived-x-ollama.service.environment")
        left.write_text('HF_TOKEN="secret"\n')
        daemon.start()
        assert not left.exists()


def test_a_command_that_was_never_run_makes_nothing_ours(
    variables: dict[str, str], manager: UserManagerPrograms, home: Path
) -> None:
    with Running(variables) as daemon:
        daemon.kill()
        ends_with = ("/usr/bin/touch", str(home / "stopped"))
        records(daemon).write(a_record(daemon, variables, ends_with=ends_with))
        daemon.start()
        wait_until(lambda: records(daemon).read_all() == [])
        assert not (home / "stopped").exists()
