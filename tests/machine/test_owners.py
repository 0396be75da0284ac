"""Whose a process, a port and a lock is: the kernel's own texts, and this very process."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hived.machine.owners import (
    Owner,
    flock_holder,
    holder_of_lock,
    is_hived,
    owner_of_port,
    owner_of_process,
    program_in,
    read_variables,
    unit_of,
    user_name,
)
from tests.daemon.running import wait_until

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")

UNITS: list[tuple[str, str]] = [
    ("0::/system.slice/ollama.service", "system unit ollama.service"),
    (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/hived.service",
        "user unit hived.service",
    ),
    ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope", ""),
    ("0::/user.slice/user-1000.slice/session-3.scope", ""),
    ("12:pids:/\n1:name=systemd:/system.slice/vllm.service/inner\n", "system unit vllm.service"),
    ("", ""),
    ("no cgroup at all", ""),
]


@pytest.mark.parametrize(("cgroup", "unit"), UNITS)
def test_a_unit_is_named_by_the_group_of_its_process(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


PROGRAMS: list[tuple[tuple[str, ...], str]] = [
    (("/usr/bin/ollama", "serve"), "ollama"),
    (("/v/bin/python3.11", "-P", "-m", "hived", "serve"), "hived"),
    (("/v/bin/python", "-m", "hived.machine.embedded_llamacpp", "--port", "1"), "embedded_llamacpp"),
    (("/v/bin/python", "-m", "vllm.entrypoints.openai.api_server"), "vllm"),
    (("/v/bin/python", "/v/bin/vllm", "serve", "m"), "vllm"),
    (("python3", "-c", "import secret"), "python3"),
    (("node", "/opt/app/server.js"), "server.js"),
    (("nginx:", "master"), "nginx"),
    (("python3", "-m"), "python3"),
    ((), ""),
]


@pytest.mark.parametrize(("words", "name"), PROGRAMS)
def test_a_program_is_named_by_what_it_runs(words: tuple[str, ...], name: str) -> None:
    assert program_in(words) == name


def test_a_daemon_of_ours_is_told_by_its_words() -> None:
    assert is_hived(("/v/bin/python", "-P", "-m", "hived", "serve"))
    assert is_hived(("/v/bin/python", "/v/bin/hived", "serve", "--backend", "trio"))
    assert not is_hived(("/v/bin/hived", "status"))
    assert not is_hived(("vim", "serve"))
    assert not is_hived(())


LOCKS = """1: POSIX  ADVISORY  WRITE 700 fe:01:99 0 EOF
2: FLOCK  ADVISORY  WRITE 701 fe:01:99 0 EOF
2: -> FLOCK  ADVISORY  WRITE 702 fe:01:98 0 EOF
3: FLOCK  ADVISORY  WRITE -1 fe:01:97 0 EOF
4: FLOCK
"""


def test_the_holder_of_a_lock_is_read_from_the_kernels_list() -> None:
    assert flock_holder(LOCKS, 0xFE, 1, 99) == 701
    assert flock_holder(LOCKS, 0xFE, 1, 98) is None  # it waits
    assert flock_holder(LOCKS, 0xFE, 1, 97) is None  # of another container
    assert flock_holder("", 0xFE, 1, 99) is None


@LINUX
def test_a_lock_is_asked_of_the_system_and_never_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder_of_lock(str(path)) is None
    path.write_text(f"{os.getpid()}\n")
    assert holder_of_lock(str(path)) is None  # signed, and not held
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder_of_lock(str(path)) == os.getpid()
        assert holder_of_lock(str(path), root=f"{tmp_path}/") is None  # no list, and no process to be seen
    assert path.read_text() == f"{os.getpid()}\n"


@LINUX
def test_the_owner_of_a_port_is_found_and_of_a_free_one_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        owner = owner_of_port("127.0.0.1", port)
    assert owner is not None
    assert (owner.pid, owner.user, owner.is_other) == (os.getpid(), user_name(os.getuid()), False)
    assert owner_of_port("127.0.0.1", port) is None


@LINUX
def test_a_process_that_is_held_is_told() -> None:
    with subprocess.Popen(["sleep", "600"], env={"MINE": "1"}) as process:
        try:
            assert not owner_of_process(process.pid).is_held
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: owner_of_process(process.pid).is_held)
            assert owner_of_process(process.pid).program == "sleep"
            assert read_variables(process.pid) == {"MINE": "1"}
        finally:
            process.kill()
    assert read_variables(process.pid) == {}


def test_an_owner_is_told_in_words() -> None:
    assert Owner(pid=3, program="x", user="me").words == "x (pid 3)"
    assert Owner(pid=3, user="root", is_other=True).words == "a process (pid 3, user root)"
    assert Owner().words == ""
    assert user_name(4_000_000) == "4000000"
