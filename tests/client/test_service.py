"""The installed service, as a client finds it and has it started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hived_client.doors.paths import places
from hived_client.doors.service import find_service, start_service, user_runtime
from hived_client.errors import StartFailed
from hived_client.vocabulary.services import Supervision, service_files
from hived_client.vocabulary.versions import is_newer


@pytest.fixture
def login(home: Path) -> dict[str, str]:
    """The environment of somebody who is logged in and whose systemd runs."""
    private = home / "xdg/systemd"
    private.mkdir(parents=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(private / "private"))
    (home / "bin").mkdir()
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "xdg"), "PATH": str(home / "bin")}


def install(
    login: dict[str, str], text: str = "[Service]\n", name: str = "hived.service", folder: str = ""
) -> Path:
    path = Path(folder or f"{login['HOME']}/.config/systemd/user") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def systemctl(login: dict[str, str], script: str) -> None:
    program = Path(login["PATH"], "systemctl")
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("supervision", ["systemd", "launchd"])
def test_without_a_home_in_the_environment_it_is_that_of_the_user(supervision: Supervision) -> None:
    home = os.path.expanduser("~")
    assert service_files("hived", {}, supervision) == service_files("hived", {"HOME": home}, supervision)


@pytest.mark.parametrize(
    ("variables", "name", "text", "is_found"),
    [
        ({}, "hived.service", "[Service]\n", True),
        ({}, "hived.service", '[Service]\nEnvironment=A=1 "PATH=/bin"\n', True),
        ({}, "hived.service", '[Service]\nEnvironment="HIVED_RUNTIME_DIR=/elsewhere"\n', False),
        ({}, "hived.service", '[Service]\nEnvironment="HIVE_HOME=/elsewhere"\n', False),
        ({}, "other.service", "[Service]\n", False),
        ({"HIVED_RUNTIME_DIR": "/mine"}, "hived.service", "[Service]\n", False),
        (
            {"HIVED_RUNTIME_DIR": "/mine"},
            "hived.service",
            '[Service]\nEnvironment="HIVED_RUNTIME_DIR=/mine"\n',
            True,
        ),
        ({"XDG_STATE_HOME": "/st"}, "hived.service", '[Service]\nEnvironment="XDG_STATE_HOME=/st"\n', True),
        (
            {"HIVE_HOME": "/a %b"},
            "hived-1d67ae71.service",
            '[Service]\nEnvironment="HIVE_HOME=/a %%b"\n',
            True,
        ),
        ({}, "hived.service", "\0\xff'\"", True),
    ],
)
def test_a_service_counts_where_its_daemon_has_the_very_places_that_are_looked_at(
    login: dict[str, str], variables: dict[str, str], name: str, text: str, is_found: bool
) -> None:
    environment = login | variables
    where = places(environment)
    if name == "hived-1d67ae71.service":
        name = f"{os.path.basename(where.state)}.service"
    path = install(login, text, name)
    found = find_service(where, environment, "linux")
    assert (found is not None) is is_found
    if found is not None:
        assert (found.path, found.shown) == (str(path), name)


def test_a_unit_of_a_folder_that_xdg_names_comes_first(login: dict[str, str], home: Path) -> None:
    environment = login | {"XDG_CONFIG_HOME": f"{home}/mine"}
    install(login)
    mine = install(login, folder=f"{home}/mine/systemd/user")
    found = find_service(places(environment), environment, "linux")
    assert found is not None
    assert found.path == str(mine)


def test_starting_asks_systemd_for_the_unit_and_waits(login: dict[str, str], home: Path) -> None:
    install(login)
    systemctl(login, f'echo "$XDG_RUNTIME_DIR $*" > {home}/asked')
    found = find_service(places(login), login, "linux")
    assert found is not None
    assert start_service(found, login, 5.0)
    assert (home / "asked").read_text() == f"{home}/xdg --user start hived.service\n"


def test_without_a_manager_or_its_program_nothing_is_started(login: dict[str, str], home: Path) -> None:
    install(login)
    found = find_service(places(login), login, "linux")
    assert found is not None
    assert not start_service(found, login, 5.0)
    (home / "xdg/systemd/private").unlink()
    systemctl(login, "exit 0")
    expected = user_runtime(login)
    assert expected in (None, f"/run/user/{os.getuid()}")
    if expected is None:
        assert not start_service(found, login, 5.0)


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("echo Unit is masked. >&2; exit 1", "service.failed", "Unit is masked"),
        ("exit 3", "service.failed", "ended with code 3"),
        ("exec /bin/sleep 60", "deadline", "hived.service"),
    ],
)
def test_a_manager_that_says_no_or_nothing_is_a_failed_start(
    login: dict[str, str], script: str, code: str, said: str
) -> None:
    install(login)
    systemctl(login, script)
    found = find_service(places(login), login, "linux")
    assert found is not None
    with pytest.raises(StartFailed) as caught:
        start_service(found, login, 0.3)
    assert caught.value.code == code
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("version", "other", "newer"),
    [
        ("0.1.1", "0.1.0", True),
        ("0.10.0", "0.9.9", True),
        ("1.0", "1.0.0", False),
        ("1.0.0", "1.0", False),
        ("1.0", "1.0rc1", True),
        ("1.0.dev3", "1.0", False),
        ("1.1.dev1", "1.0", True),
        ("2.0+local", "1.9", True),
        ("0.1.0", "0.1.0", False),
        ("unheard of", "0.1.0", False),
        ("0.1.0", "", False),
        ("9" * 30, "1.0", False),
    ],
)
def test_the_newer_of_two_versions(version: str, other: str, newer: bool) -> None:
    assert is_newer(version, other) is newer
