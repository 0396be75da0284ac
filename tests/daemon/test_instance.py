"""The lock and the socket of the one daemon."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator

import pytest

from hived.daemon.instance import AlreadyRunning, Instance, peer_uid
from hived_client.doors.paths import Places
from hived_client.errors import Unavailable


@pytest.fixture
def first(where: Places) -> Iterator[Instance]:
    instance = Instance(where)
    instance.acquire()
    with instance.bind():
        yield instance
    instance.release()


def test_a_second_one_is_told_who_is_first(first: Instance, where: Places) -> None:
    with pytest.raises(AlreadyRunning) as caught:
        Instance(where).acquire()
    assert str(os.getpid()) in caught.value.message
    assert first.is_intact()


def test_what_a_dead_one_left_is_not_in_the_way(where: Places) -> None:
    os.makedirs(where.folder, 0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(where.socket)
    open(f"{where.folder}/.{os.getpid()}", "w").close()
    instance = Instance(where)
    instance.acquire()
    with instance.bind():
        assert instance.is_intact()
        assert sorted(os.listdir(where.folder)) == ["hived.sock", "lock"]
        assert os.stat(where.socket).st_mode & 0o777 == 0o600
    instance.release()
    assert os.listdir(where.folder) == ["lock"]


def test_nobody_unlinks_a_socket_that_is_not_its_own(first: Instance, where: Places) -> None:
    os.unlink(where.socket)
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(where.socket)
        assert not first.is_intact()
        first.release()
        assert os.path.exists(where.socket)


@pytest.mark.parametrize("lost", ["folder", "runtime", "lock", "socket"])
def test_what_was_lost_is_made_again(first: Instance, where: Places, lost: str) -> None:
    if lost in ("folder", "runtime"):
        shutil.rmtree(getattr(where, lost))
    else:
        os.unlink(getattr(where, lost))
    assert not first.is_intact()
    assert first.holds_lock() is (lost == "socket")
    with first.recover():
        assert first.is_intact()
        with pytest.raises(AlreadyRunning):
            Instance(where).acquire()


def test_a_recovery_that_fails_can_be_tried_again(first: Instance, where: Places) -> None:
    shutil.rmtree(where.runtime)
    open(where.runtime, "w").close()
    for _ in range(3):
        with pytest.raises(Unavailable):
            first.recover()
        assert not first.is_intact()
    os.unlink(where.runtime)
    with first.recover():
        assert first.is_intact()


def test_who_was_quicker_wins(first: Instance, where: Places) -> None:
    shutil.rmtree(where.folder)
    second = Instance(where)
    second.acquire()
    with second.bind():
        with pytest.raises(AlreadyRunning):
            first.recover()
        first.release()
        assert second.is_intact()
        assert second.holds_lock()
        assert not first.holds_lock()
    second.release()


def test_the_breadcrumb_may_fail(first: Instance, where: Places) -> None:
    first.leave_breadcrumb({"runtime": where.runtime})
    assert os.path.exists(where.breadcrumb)
    os.chmod(os.path.dirname(where.breadcrumb), 0o777)
    first.leave_breadcrumb({"runtime": "/elsewhere"})


def test_a_peer_is_known_by_its_user() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) == os.getuid()
