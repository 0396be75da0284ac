"""The launchd agent: its file against Apple's manual, and its life with a stand-in for ``launchctl``.

None of this has run on a Mac: .github/workflows/macos.yml is for that.
"""

from __future__ import annotations

import argparse
import os
import plistlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hived.cli.service.acts import act
from hived.cli.service.here import Here
from hived.machine.commands import run_bounded
from hived.service.interface import Order
from hived.service.launchd import Launchd
from hived_client.doors.launch import LOG_BYTES
from hived_client.doors.paths import Places
from hived_client.doors.service import Service, find_service, start_service
from hived_client.doors.sync import Client
from hived_client.errors import HivedError, StartFailed, Unavailable
from tests.daemon.running import Running, configure, wait_until
from tests.service.launchctl import LaunchctlProgram

DOCUMENTED: dict[str, type | tuple[type, ...]] = {
    # launchd.plist(5) of macOS: those that hived uses, with the types that it gives them
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": (bool, dict),
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "LimitLoadToSessionType": (str, list),
    "Umask": (int, str),
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
PROCESS_TYPES = {"Background", "Standard", "Adaptive", "Interactive"}
KEEP_ALIVE = {
    "SuccessfulExit",
    "NetworkState",
    "PathState",
    "OtherJobEnabled",
    "Crashed",
    "AfterInitialDemand",
}
SESSION_TYPES = {"Aqua", "Background", "LoginWindow", "StandardIO", "System"}

ORDER = Order(
    name="hived",
    python="/opt/my venv/bin/python",
    path="/opt/homebrew/bin:/usr/bin",
    settings={"HIVE_HOME": "/Users/me/other & more"},
    environment_file="/Users/me/Library/Application Support/dev.hive.hived.environment",
    log="/Users/me/.local/state/hived/logs/hived.log",
)


def rendered(**changes: object) -> dict[str, Any]:
    agent = Launchd("hived", {"HOME": "/Users/me"}, run_bounded)
    found: dict[str, Any] = plistlib.loads(agent.render(msgspec.structs.replace(ORDER, **changes)).encode())
    return found


def test_every_key_is_one_of_apples_and_has_its_type() -> None:
    agent = rendered()
    assert set(agent) == set(DOCUMENTED)
    for key, value in agent.items():
        assert isinstance(value, DOCUMENTED[key]), key
    assert agent["ProcessType"] in PROCESS_TYPES
    assert set(agent["KeepAlive"]) <= KEEP_ALIVE
    assert set(agent["LimitLoadToSessionType"]) <= SESSION_TYPES
    assert agent["Umask"] == 0o077
    assert all(isinstance(value, str) for value in agent["EnvironmentVariables"].values())


def test_everything_is_filled_in_and_nothing_is_left_for_launchd_to_expand() -> None:
    agent = rendered()
    assert agent["ProgramArguments"][:5] == ["/opt/my venv/bin/python", "-P", "-m", "hived", "serve"]
    assert agent["EnvironmentVariables"]["HIVE_HOME"] == "/Users/me/other & more"
    assert agent["EnvironmentVariables"]["PATH"] == "/opt/homebrew/bin:/usr/bin"
    texts = [agent["Label"], *agent["ProgramArguments"], agent["StandardOutPath"], agent["StandardErrorPath"]]
    assert not any(letter in text for text in texts for letter in "@~$")


def test_the_agent_of_another_home_has_a_label_of_its_own() -> None:
    agent = Launchd("hived-0123abcd", {"HOME": "/Users/me"}, run_bounded)
    assert agent.path == "/Users/me/Library/LaunchAgents/dev.hive.hived-0123abcd.plist"
    assert plistlib.loads(agent.render(ORDER).encode())["Label"] == "dev.hive.hived-0123abcd"


@pytest.fixture
def launchctl(home: Path) -> Iterator[LaunchctlProgram]:
    program = LaunchctlProgram(home / "bin")
    yield program
    program.close()


@pytest.fixture
def here(environment: dict[str, str], home: Path, launchctl: LaunchctlProgram) -> Here:
    return Here(mac(environment, home), sys.executable, "darwin")


def mac(environment: dict[str, str], home: Path) -> dict[str, str]:
    return environment | {"PATH": f"{home / 'bin'}:{environment['PATH']}", "OLLAMA_HOST": "127.0.0.1:4321"}


def options(action: str, **more: bool) -> argparse.Namespace:
    chosen = {"with_environment": False, "without_environment": False, "json": True} | more
    return argparse.Namespace(action=action, timeout=20.0, **chosen)


@pytest.mark.slow
def test_an_agent_is_installed_started_again_stopped_and_removed(
    here: Here, launchctl: LaunchctlProgram
) -> None:
    first = act(here, options("install", with_environment=True))
    assert first.managed_by == "launchd"
    assert first.pid == launchctl.agents["dev.hive.hived"]["pid"]
    assert first.taken_over == ("OLLAMA_HOST",)
    environ = Path(f"/proc/{first.pid}/environ").read_text()
    assert "HIVED_RUNTIME_DIR=" in environ
    assert "OLLAMA_HOST" not in Path(here.manager.path).read_text()
    with Client(here.where, environment=here.environment) as client:
        wait_until(lambda: "http://127.0.0.1:4321" in [each.url for each in client.world().world.endpoints])
    again = act(here, options("install"))
    assert (again.pid, again.changed) == (
        first.pid,
        ("dev.hive.hived is installed as this version writes it; nothing was changed",),
    )
    restarted = act(here, options("restart"))
    assert restarted.pid not in (None, first.pid)
    act(here, options("stop"))
    assert launchctl.agents == {}
    started = act(here, options("start"))
    assert started.managed_by == "launchd"
    act(here, options("uninstall"))
    assert launchctl.agents == {}
    assert not os.path.exists(here.manager.path)
    assert not os.path.exists(here.manager.environment_file)
    with pytest.raises(Unavailable) as caught:
        act(here, options("start"))
    assert caught.value.code == "service.not_installed"


@pytest.mark.slow
def test_without_a_session_at_the_screen_the_users_own_domain_is_taken(
    environment: dict[str, str], home: Path
) -> None:
    program = LaunchctlProgram(home / "bin", (f"user/{os.getuid()}",))
    here = Here(mac(environment, home), sys.executable, "darwin")
    try:
        act(here, options("install"))
        assert ["bootstrap", f"user/{os.getuid()}", here.manager.path] in program.calls
        act(here, options("uninstall"))
    finally:
        program.close()


@pytest.mark.slow
def test_another_daemon_makes_the_agent_end_in_a_way_that_launchd_takes_for_the_end(
    environment: dict[str, str],
) -> None:
    configure(environment)
    with (
        Running(environment),
        Running(environment | {"XPC_SERVICE_NAME": "dev.hive.hived"}, wait=False) as second,
    ):
        assert second.process.wait(60.0) == 0
        assert second.events("daemon.failed")[0]["code"] == "daemon.already_running"


@pytest.mark.slow
def test_a_log_that_launchd_has_let_grow_is_put_aside_at_the_start(
    environment: dict[str, str], where: Places
) -> None:
    configure(environment)
    os.makedirs(where.logs, 0o700)
    log = Path(where.logs, "hived.log")
    log.touch()
    os.truncate(log, LOG_BYTES + 1)
    with Running(environment | {"XPC_SERVICE_NAME": "dev.hive.hived"}, log=str(log)) as daemon:
        assert daemon.events("daemon.ready")
        assert log.stat().st_size < LOG_BYTES
    assert Path(f"{log}.1").stat().st_size == LOG_BYTES + 1


@pytest.mark.slow
def test_a_client_starts_the_agent_that_is_loaded(here: Here, launchctl: LaunchctlProgram) -> None:
    pid = act(here, options("install")).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    found = find_service(here.where, here.environment, "darwin")
    assert found is not None
    assert start_service(found, here.environment, 10.0)
    greeting = wait_until(here.greeting)
    assert greeting is not None
    assert greeting.pid != pid
    os.unlink(here.manager.path)
    assert find_service(here.where, here.environment, "darwin") is None


@pytest.mark.parametrize("domain", [f"gui/{os.getuid()}", f"user/{os.getuid()}"])
def test_a_client_has_an_agent_loaded_that_was_stopped(
    environment: dict[str, str], home: Path, domain: str
) -> None:
    """``hived service stop`` takes it out of launchd, and ``kickstart`` alone knows nothing of it then."""
    program = LaunchctlProgram(home / "bin", (domain,))
    here = Here(mac(environment, home), sys.executable, "darwin")
    agent = installed(here, "true")
    try:
        assert start_service(agent, here.environment, 20.0)
        assert list(program.agents) == [agent.shown]
        assert [words for words in program.calls if words[0] == "bootstrap"][-1] == [
            *("bootstrap", domain, agent.path)
        ]
        assert start_service(agent, here.environment, 20.0)
        assert program.calls[-1][0] == "kickstart"
    finally:
        program.close()


def test_what_launchctl_says_is_told_where_an_agent_cannot_be_loaded(
    environment: dict[str, str], home: Path
) -> None:
    LaunchctlProgram(home / "bin", ())
    here = Here(mac(environment, home), sys.executable, "darwin")
    with pytest.raises(StartFailed, match="Domain does not support specified action"):
        start_service(installed(here, "true"), here.environment, 20.0)


def installed(here: Here, program: str) -> Service:
    """Write the file of an agent that runs a program of this system, and return it as a client finds it."""
    agent = plistlib.loads(here.manager.render(here.order).encode())
    for path in (here.manager.path, here.order.log):
        Path(path).parent.mkdir(parents=True)
    Path(here.manager.path).write_bytes(plistlib.dumps(agent | {"ProgramArguments": [f"/bin/{program}"]}))
    found = find_service(here.where, here.environment, "darwin")
    assert found is not None
    return found


def test_what_launchctl_says_is_told(environment: dict[str, str], home: Path) -> None:
    LaunchctlProgram(home / "bin", ())
    here = Here(mac(environment, home), sys.executable, "darwin")
    with pytest.raises(HivedError) as caught:
        act(here, options("install"))
    assert caught.value.code == "service.no_launchd"
    assert "Domain does not support specified action" in caught.value.message
