"""What the daemon tells who started it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hived.daemon.notify import Notifier, managed_by
from hived_client.vocabulary.faults import fault


@pytest.fixture
def manager(home: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(home / "notify"))
        listening.setblocking(False)
        yield listening


def told(manager: socket.socket) -> list[str]:
    words = []
    while True:
        try:
            words.append(manager.recv(4096).decode())
        except BlockingIOError:
            return words


def test_every_word_is_one_of_systemds(manager: socket.socket, home: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(home / "notify"), "WATCHDOG_USEC": "4000000"})
    notifier.extend(2.5)
    notifier.ready()
    notifier.alive(0.0)
    notifier.reloading(1_500_000)
    notifier.stopping()
    notifier.failed(fault("daemon.already_running", pid=7))
    assert told(manager) == [
        "EXTEND_TIMEOUT_USEC=2500000",
        "READY=1",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=1500",
        "STOPPING=1",
        "STATUS=hived is already running (pid 7).",
    ]


@pytest.mark.parametrize(
    ("usec", "pid", "fed"),
    [
        ("4000000", "", 4),
        ("4000000", "own", 4),
        ("4000000", "1", 0),
        ("", "", 0),
        ("often", "", 0),
        ("0", "", 0),
    ],
)
def test_the_watchdog_is_fed_four_times_as_often_as_it_asks_and_only_where_it_asks_us(
    manager: socket.socket, home: Path, usec: str, pid: str, fed: int
) -> None:
    own = str(os.getpid()) if pid == "own" else pid
    environment = {"NOTIFY_SOCKET": str(home / "notify"), "WATCHDOG_USEC": usec, "WATCHDOG_PID": own}
    notifier = Notifier({name: value for name, value in environment.items() if value})
    for tenth in range(40):
        notifier.alive(tenth / 10)
    assert told(manager) == ["WATCHDOG=1"] * fed


def test_an_abstract_address_and_a_manager_that_has_gone(home: Path) -> None:
    name = f"hived-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert manager.recv(100) == b"STOPPING=1"
    Notifier({"NOTIFY_SOCKET": f"@{name}"}).stopping()
    Notifier({"NOTIFY_SOCKET": str(home / "nowhere")}).ready()


@pytest.mark.parametrize(
    ("environment", "who"),
    [
        ({}, "foreground"),
        ({"NOTIFY_SOCKET": "/run/user/1/systemd/notify"}, "systemd"),
        ({"SYSTEMD_EXEC_PID": "own"}, "systemd"),
        ({"INVOCATION_ID": "a terminal's", "SYSTEMD_EXEC_PID": "1"}, "foreground"),
        ({"XPC_SERVICE_NAME": "dev.hive.hived"}, "launchd"),
        ({"XPC_SERVICE_NAME": "dev.hive.hived-0123abcd"}, "launchd"),
        ({"XPC_SERVICE_NAME": "0"}, "foreground"),
        ({"XPC_SERVICE_NAME": "application.com.vscodium.1"}, "foreground"),
        ({"HIVED_MANAGED_BY": "client", "INVOCATION_ID": "x"}, "client"),
    ],
)
def test_who_looks_after_the_daemon_is_told_from_what_it_was_given(
    environment: dict[str, str], who: str
) -> None:
    own = {name: str(os.getpid()) if value == "own" else value for name, value in environment.items()}
    assert managed_by(own) == who
