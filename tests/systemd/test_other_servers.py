"""vLLM and LM Studio in units of the real user manager, and what a server leaves behind in its unit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from hived.machine.ports import free_port
from tests.daemon.running import wait_until
from tests.servers.programs import LmsProgram, OllamaProgram, VllmProgram
from tests.systemd.private_machine import PrivateMachine
from tests.systemd.test_service import answering, install, main_pid

pytestmark = pytest.mark.systemd

LEAVES = "#!/bin/sh\n(trap '' TERM; sleep 6) &\nexec {program} \"$@\"\n"
"""A program whose child ignores what ends it: systemd kills it in the end, and keeps the unit until then."""


@pytest.fixture
def serving(machine: PrivateMachine) -> Iterator[PrivateMachine]:
    """hived installed as a service, with programs of three kinds."""
    for name in ("bin", "real"):
        (machine.home / name).mkdir()
        os.chown(machine.home / name, machine.uid, machine.uid)
    LmsProgram(machine.home / "bin")
    VllmProgram(machine.home / "bin")
    wrapper = machine.home / "bin" / "ollama"
    wrapper.write_text(LEAVES.format(program=OllamaProgram(machine.home / "real").path))
    wrapper.chmod(0o755)
    where = {name: {"api_base": f"http://127.0.0.1:{free_port()}"} for name in ("ollama", "lm_studio")}
    text = json.dumps({"hived": {"guess": False}, "providers": where})
    machine.write(machine.home / ".hive/configuration.json", text)
    install(machine)
    yield machine
    application = machine.home / "bin/lms.pid"
    if application.exists():
        machine.run("kill", "-KILL", application.read_text())


def begun(machine: PrivateMachine, *words: str) -> dict[str, Any]:
    done = machine.hived("start", *words, "--json")
    assert done.code == 0, done
    found: dict[str, Any] = done.json
    return found


def there(machine: PrivateMachine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in machine.status()["endpoints"] if each["name"] == name)
    return found


def test_what_a_killed_server_leaves_behind_is_gone_before_it_is_started_again(
    serving: PrivateMachine,
) -> None:
    pid = int(begun(serving, "ollama")["pid"])
    unit = str(there(serving, "ollama")["process"]["unit"])
    serving.signal(pid, "KILL")
    wait_until(lambda: serving.unit("ActiveState", unit) == "deactivating")
    wait_until(lambda: int(serving.unit("MainPID", unit) or 0) not in (0, pid))
    wait_until(lambda: there(serving, "ollama")["state"] == "ready")
    assert serving.hived("stop", "ollama").code == 0


def test_a_vllm_has_a_unit_that_outlives_the_daemon(serving: PrivateMachine) -> None:
    found = begun(serving, "vllm", "--model", "org/tiny")
    unit = f"hived-{found['endpoint']}.service"
    assert int(serving.unit("MainPID", unit)) == found["pid"]
    daemon = main_pid(serving)
    serving.signal(daemon, "KILL")
    wait_until(lambda: answering(serving) not in (0, daemon))
    assert begun(serving, "vllm", "--model", "org/tiny")["pid"] == found["pid"]
    assert serving.hived("stop", "vllm").code == 0
    assert not serving.lives(found["pid"])


def test_lm_studio_keeps_its_application_through_starts_and_stops(serving: PrivateMachine) -> None:
    assert "pid" not in begun(serving, "lm_studio")
    unit = str(there(serving, "lm_studio")["process"]["unit"])
    application = int(serving.read(str(serving.home / "bin/lms.pid")))
    assert serving.hived("stop", "lm_studio").code == 0
    assert serving.unit("ActiveState", unit) == "inactive"
    assert serving.unit("LoadState", unit) == "loaded"  # the application is in it, and keeps its name
    begun(serving, "lm_studio")
    assert serving.run(str(serving.home / "bin/lms"), "server", "stop").code == 0
    wait_until(lambda: "has not started" in serving.hived("stop", "lm_studio").err)
    assert serving.lives(application)
    serving.signal(application, "KILL")
    wait_until(lambda: serving.unit("LoadState", unit) == "not-found")
