"""What `hived logs` says where there is no log, or too many."""

from __future__ import annotations

from pathlib import Path

from hived.cli.logs.reading import entries
from hived.cli.logs.sources import File, find_log
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault
from tests.cli.logs.test_sources import two_started
from tests.faults.provoking import provokes


def refused(name: str, folder: Path) -> Fault:
    try:
        find_log(name, two_started(folder), {})
    except HivedError as error:
        return error.fault
    raise AssertionError(f"there is a log of {name}")


@provokes("logs.none", "a name under which hived has started nothing")
def test_nothing_of_that_name(tmp_path: Path) -> Fault:
    return refused("nobody", tmp_path)


@provokes("logs.none", "a daemon that nobody has ever started")
def test_no_daemon_yet(environment: dict[str, str]) -> Fault:
    try:
        find_log(None, Client(environment=environment).world(), environment)
    except HivedError as error:
        return error.fault
    raise AssertionError("there is a log")


@provokes("logs.which", "two servers of one kind that hived has started")
def test_two_of_a_kind(tmp_path: Path) -> Fault:
    return refused("llamacpp", tmp_path)


@provokes("logs.unreadable", "a log that was removed between two looks")
def test_a_log_that_is_gone(tmp_path: Path) -> Fault:
    try:
        list(entries(File(path=str(tmp_path / "gone.log")), 5))
    except HivedError as error:
        return error.fault
    raise AssertionError("it was read")
