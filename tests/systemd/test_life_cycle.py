"""Starting by whoever needs it, logins and logouts, folders that go and come: under a real user manager."""

from __future__ import annotations

import pytest

from tests.daemon.running import wait_until
from tests.systemd.private_machine import PrivateMachine
from tests.systemd.test_service import ENSURE, PYTHON, answering, install, main_pid

pytestmark = pytest.mark.systemd


def test_a_client_that_needs_the_daemon_starts_the_service_where_it_is_installed(
    machine: PrivateMachine,
) -> None:
    install(machine)
    machine.hived("service", "stop")
    said = machine.run(*PYTHON, ENSURE)
    assert said.out.split() == ["systemd", str(main_pid(machine))], said


def test_it_does_so_from_a_shell_without_a_runtime_folder_too(machine: PrivateMachine) -> None:
    install(machine)
    machine.hived("service", "stop")
    said = machine.run(*PYTHON, ENSURE, environment={"XDG_RUNTIME_DIR": ""})
    assert said.out.split() == ["systemd", str(main_pid(machine))], said


def test_a_service_that_cannot_start_is_a_failed_start_and_no_second_daemon(machine: PrivateMachine) -> None:
    install(machine)
    machine.hived("service", "stop")
    machine.run("systemctl", "--user", "mask", "--runtime", "hived.service")
    path = machine.home / ".config/systemd/user/hived.service"
    text = path.read_text()
    machine.write(path, text.replace("-m hived serve", "-m hived nothing"), 0o600)
    machine.run("systemctl", "--user", "unmask", "--runtime", "hived.service")
    said = machine.run(*PYTHON, ENSURE)
    assert said.code == 1
    assert "hived.service did not start" in said.err
    assert machine.processes() == []


def test_another_runtime_folder_has_a_daemon_of_its_own(machine: PrivateMachine) -> None:
    install(machine)
    machine.hived("service", "stop")
    said = machine.run(*PYTHON, ENSURE, environment={"HIVED_RUNTIME_DIR": f"{machine.home}/run"})
    manager, pid = said.out.split()
    assert manager == "client"
    assert machine.unit("ActiveState") == "inactive"
    machine.signal(int(pid), "TERM")
    wait_until(lambda: not machine.lives(int(pid)))


def test_installing_takes_the_place_of_a_daemon_that_a_client_had_started(machine: PrivateMachine) -> None:
    manager, pid = machine.run(*PYTHON, ENSURE).out.split()
    assert manager == "client"
    found = install(machine)
    assert found["pid"] == main_pid(machine)
    assert not machine.lives(int(pid))


def test_a_daemon_in_somebodys_terminal_is_left_alone_and_named(machine: PrivateMachine) -> None:
    serve = machine.begin("-m", "hived", "serve")
    pid = wait_until(lambda: answering(machine))
    done = machine.hived("service", "install")
    assert done.code == 1
    assert f"kill {pid}" in done.err
    assert machine.lives(pid)
    assert machine.unit("ActiveState") == "inactive"
    machine.signal(pid, "TERM")
    serve.wait(60.0)


def test_a_runtime_folder_that_is_lost_is_made_again_by_the_same_daemon(machine: PrivateMachine) -> None:
    install(machine)
    pid = main_pid(machine)
    machine.run("rm", "-rf", f"{machine.runtime}/hived")
    assert wait_until(lambda: answering(machine)) == pid
    assert machine.status()["verdict"] == "fresh"


def test_the_service_ends_with_the_logout_and_is_back_with_the_login(machine: PrivateMachine) -> None:
    install(machine)
    pid = main_pid(machine)
    machine.log_out()
    assert not machine.lives(pid)
    refused = machine.hived("service", "start")
    assert refused.code == 1
    assert "loginctl enable-linger" in refused.err
    machine.log_in()
    assert wait_until(lambda: answering(machine)) == main_pid(machine)


def test_a_daemon_that_outlives_the_login_is_found_again_after_the_next(machine: PrivateMachine) -> None:
    manager, pid = machine.run(*PYTHON, ENSURE).out.split()
    assert manager == "client"
    machine.log_out()
    assert machine.lives(int(pid))
    machine.log_in()
    wait_until(lambda: answering(machine) == int(pid))
    machine.signal(int(pid), "TERM")
    wait_until(lambda: not machine.lives(int(pid)))
