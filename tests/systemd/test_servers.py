"""Servers that hived's service starts, under a real user manager: units of their own, which outlive it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from hived.machine.ports import free_port
from tests.daemon.running import wait_until
from tests.servers.programs import OllamaProgram
from tests.systemd.private_machine import PrivateMachine
from tests.systemd.test_service import answering, install, main_pid

pytestmark = pytest.mark.systemd

UNIT = "hived-ollama.service"


@pytest.fixture
def serving(machine: PrivateMachine) -> Iterator[PrivateMachine]:
    """hived installed as a service, with an Ollama to start and nothing else to watch."""
    programs = machine.home / "bin"
    programs.mkdir()
    OllamaProgram(programs)
    os.chown(programs, machine.uid, machine.uid)
    where = {"ollama": {"api_base": f"http://127.0.0.1:{free_port()}"}}
    text = json.dumps({"hived": {"guess": False}, "providers": where})
    machine.write(machine.home / ".hive/configuration.json", text)
    install(machine)
    yield machine
    machine.hived("stop", "ollama")


def started(machine: PrivateMachine) -> int:
    done = machine.hived("start", "ollama", "--json")
    assert done.code == 0, done
    return int(done.json["pid"])


def ollama(machine: PrivateMachine) -> dict[str, Any]:
    found: dict[str, Any] = machine.status()["endpoints"][0]
    return found


def test_a_server_has_a_unit_of_its_own_without_the_restrictions_of_hiveds(serving: PrivateMachine) -> None:
    pid = started(serving)
    assert int(serving.unit("MainPID", UNIT)) == pid
    assert serving.unit("ControlGroup", UNIT) != serving.unit("ControlGroup")
    cgroups = serving.read(f"/proc/{pid}/cgroup").decode()
    assert f"/{UNIT}" in cgroups
    assert "/hived.service" not in cgroups
    status = serving.read(f"/proc/{pid}/status").decode()
    assert "NoNewPrivs:\t0" in status
    assert "Seccomp:\t0" in status
    assert b"NOTIFY_SOCKET" not in serving.read(f"/proc/{pid}/environ")


def test_a_server_outlives_the_stop_of_the_service_is_found_again_and_stopped(
    serving: PrivateMachine,
) -> None:
    pid = started(serving)
    assert "what hived started runs on: ollama" in serving.hived("service", "stop").out
    assert serving.lives(pid)
    assert serving.hived("service", "start").code == 0
    wait_until(lambda: ollama(serving)["state"] == "ready")
    assert started(serving) == pid
    assert serving.hived("stop", "ollama").code == 0
    assert not serving.lives(pid)
    assert serving.unit("LoadState", UNIT) == "not-found"


def test_a_server_outlives_a_daemon_that_is_killed(serving: PrivateMachine) -> None:
    pid, daemon = started(serving), main_pid(serving)
    serving.signal(daemon, "KILL")
    wait_until(lambda: answering(serving) not in (0, daemon))
    assert serving.lives(pid)
    wait_until(lambda: ollama(serving)["state"] == "ready")
    assert serving.hived("stop", "ollama").code == 0
    assert not serving.lives(pid)


def test_a_server_that_is_killed_is_started_again_in_its_unit(serving: PrivateMachine) -> None:
    pid = started(serving)
    serving.signal(pid, "KILL")
    again = wait_until(lambda: (found := int(serving.unit("MainPID", UNIT) or 0)) not in (0, pid) and found)
    assert serving.lives(again)
    wait_until(lambda: ollama(serving)["state"] == "ready")


def test_a_name_that_is_taken_and_a_manager_that_says_no_are_told(serving: PrivateMachine) -> None:
    assert serving.run("systemd-run", "--user", "-q", f"--unit={UNIT}", "sleep", "600").code == 0
    taken = serving.hived("start", "ollama", "--json")
    assert (taken.code, taken.json["code"]) == (1, "start.unit_taken")
    assert taken.json["hint"] == f"systemctl --user stop {UNIT}"
    serving.run("systemctl", "--user", "stop", UNIT)
    forbidding = serving.home / f".config/systemd/user/{UNIT}.d/no.conf"
    serving.write(forbidding, "[Unit]\nRefuseManualStart=yes\n")
    serving.run("systemctl", "--user", "daemon-reload")
    refused = serving.hived("start", "ollama", "--json")
    assert (refused.code, refused.json["code"]) == (1, "start.manager")
    assert "may be requested by dependency only" in refused.json["message"]
    assert not any("bin/ollama" in each for each in serving.processes())
