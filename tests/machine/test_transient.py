"""Which systemd a hived uses for the servers that it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hived.machine.transient import ManagerFailed, UserManager
from tests.machine.user_manager import UserManagerPrograms, user_manager


@pytest.fixture
def root(home: Path) -> Path:
    """A folder that is taken for ``/``, in which the user has a systemd."""
    return home / "root"


@pytest.fixture
def programs(home: Path, root: Path) -> Iterator[UserManagerPrograms]:
    with user_manager(home / "bin", root / f"run/user/{os.getuid()}") as there:
        yield there


def manager(home: Path, root: Path, **variables: str) -> UserManager:
    environment = {"PATH": f"{home}/bin:/usr/bin:/bin", "HOME": str(home), **variables}
    return UserManager(environment, folder=str(home), root=str(root))


@pytest.mark.parametrize("given", [{}, {"XDG_RUNTIME_DIR": "/nowhere"}])
def test_without_its_variable_the_users_systemd_is_found_where_it_always_is(
    home: Path, root: Path, programs: UserManagerPrograms, given: dict[str, str]
) -> None:
    found, log = manager(home, root, **given), home / "log"
    log.touch()
    assert found.is_reachable()
    pid = found.start("a.service", ["sleep", "9"], environment={}, log=log, description="a")
    assert pid is not None
    assert found.state("a.service").pid == pid
    assert list(programs.units) == ["a.service"]
    found.stop("a.service")
    assert programs.units == {}


def test_a_hived_that_stands_apart_uses_no_systemd_but_the_one_that_it_is_told_of(
    home: Path, root: Path, programs: UserManagerPrograms
) -> None:
    """So every test does, whose daemons would else begin units in the session of whoever runs it."""
    apart = {"HIVED_RUNTIME_DIR": f"{home}/run"}
    assert not manager(home, root, **apart).is_reachable()
    assert not manager(home, root, **apart, XDG_RUNTIME_DIR="/nowhere").is_reachable()
    assert manager(home, root, **apart, **programs.environment).is_reachable()


def test_where_there_is_none_nothing_is_asked(home: Path, root: Path) -> None:
    found = manager(home, root)
    assert not found.is_reachable()
    with pytest.raises(ManagerFailed):
        found.state("a.service")


def test_every_daemon_of_a_test_stands_apart(environment: dict[str, str]) -> None:
    assert "HIVED_RUNTIME_DIR" in environment
    assert "XDG_RUNTIME_DIR" not in environment
