"""Hived's folders, its lock and its socket: a broken machine a row."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hived.cli.doctor.folders import Candidate, FilesFacts, Folder, Lock, check_files, look_at, read_files
from hived.machine.owners import Owner, user_name
from hived_client.doors.paths import Places, places
from tests.cli.doctor.findings_of import only, seen

PLACES = Places(home="/h/.hive", runtime="/run/user/9/hived", state="/s", socket="/run/user/9/hived/v1/s")
OURS = Folder(path="/run/user/9/hived", is_there=True, is_folder=True, uid=9, mode=0o700, is_writable=True)
HIVED = Owner(pid=5, program="hived", user="me")
FACTS = FilesFacts(
    uid=9,
    places=PLACES,
    candidates=(
        Candidate(origin="XDG_RUNTIME_DIR", runtime=PLACES.runtime, root=OURS, is_used=True),
        Candidate(origin="the home", runtime="/h/.hive/run", root=OURS, is_used=False),
    ),
    folders=(OURS,),
    socket_bytes=30,
    has_socket=True,
    accepts=True,
    lock=Lock(is_there=True, holder=HIVED, is_hived=True),
)


def facts(**fields: Any) -> FilesFacts:
    return msgspec.structs.replace(FACTS, **fields)


def folder(**fields: Any) -> FilesFacts:
    return facts(folders=(msgspec.structs.replace(OURS, **fields),))


def missing(**fields: Any) -> FilesFacts:
    return facts(folders=(Folder(path="/s", is_there=False, **fields),))


FREE = Lock(is_there=True)
CASES: list[tuple[str, FilesFacts, list[str]]] = [
    ("a healthy machine", FACTS, []),
    ("another user's folder", folder(uid=0), ["fail files.owner"]),
    ("a folder that others may write to", folder(mode=0o770), ["fail files.mode"]),
    ("a folder that others may read", folder(mode=0o755), []),
    ("a folder that cannot be written", folder(mode=0o500, is_writable=False), ["fail files.unwritable"]),
    ("a read-only disk", folder(is_writable=False), ["fail files.unwritable"]),
    ("a file in the place of a folder", folder(is_folder=False), ["fail files.no_folder"]),
    ("a folder behind a closed one", missing(why="Permission denied"), ["fail files.unreadable"]),
    ("a folder that is not there yet", missing(can_be_made=True), []),
    ("a home that cannot be written", missing(), ["fail files.missing"]),
    ("a lock file of a process that is gone", facts(lock=FREE, accepts=False, has_socket=False), []),
    ("a socket that was left", facts(lock=FREE, accepts=False), ["note files.socket.stale"]),
    ("a daemon that does not listen", facts(accepts=False), ["warn files.lock"]),
    (
        "a stranger that holds the lock",
        facts(lock=Lock(is_there=True, holder=Owner(pid=6, program="vim"), is_hived=False)),
        ["fail files.lock"],
    ),
    (
        "a path that is too long for a socket",
        facts(places=msgspec.structs.replace(PLACES, socket="/tmp/hived-9-aa/hived.sock")),
        ["note files.socket.length"],
    ),
]


@pytest.mark.parametrize(("read", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_machine_is_judged(read: FilesFacts, expected: list[str]) -> None:
    findings = check_files(read)
    assert seen(findings) == expected
    assert all(each.fix for each in findings if each.level in ("warn", "fail"))


@pytest.mark.parametrize(
    ("unit", "mend"),
    [
        ("user unit hived.service", "hived service restart"),
        ("user unit hived-00c0ffee.service", "hived service restart"),
        ("user unit app-terminal.scope", "kill -9 5 && sleep 1 && hived serve"),
    ],
)
def test_one_that_does_not_listen_is_replaced_by_whoever_looks_after_it(unit: str, mend: str) -> None:
    lock = Lock(is_there=True, holder=msgspec.structs.replace(HIVED, unit=unit), is_hived=True)
    assert only(check_files(facts(lock=lock, accepts=False)), "files.lock").fix == mend


def test_every_candidate_is_told_with_why_it_is_not_used() -> None:
    gone = Folder(path="/run/user/9", is_there=False)
    other = Candidate(origin="/run/user", runtime="/run/user/9/hived", root=gone, is_used=False)
    home = Candidate(origin="the home", runtime="/h/.hive/run", root=OURS, is_used=True)
    findings = check_files(facts(candidates=(other, home)))
    assert "/run/user/9 is not there" in only(findings, "files.runtime.other").what
    assert "by the home" in only(findings, "files.runtime").what
    assert "on a disk" in only(findings, "files.runtime.home").what


def test_only_what_is_in_ones_own_home_is_to_be_taken_over() -> None:
    root = {"is_there": True, "is_folder": True, "uid": 0, "mode": 0o700}
    for path, fix in (
        ("/run/user/9/hived", "export HIVED_RUNTIME_DIR=~/.hive/run"),
        ("/h/.local/state/hived", f"sudo chown -R {user_name(9)} /h/.local/state/hived"),
        ("/s/logs", f"sudo chown -R {user_name(9)} /s/logs"),
    ):
        facts_of = facts(folders=(Folder(path=path, **root),))  # type: ignore[arg-type]
        assert only(check_files(facts_of), "files.owner").fix == fix


def test_what_lies_there_is_read_and_nothing_is_made(environment: dict[str, str], home: Path) -> None:
    where = places(environment)
    read = read_files(where, environment)
    assert not read.lock.is_there
    assert not read.accepts
    assert all(each.can_be_made for each in read.folders)
    assert list(home.iterdir()) == []


def test_a_lock_is_free_although_a_process_that_is_gone_signed_it(
    environment: dict[str, str], where: Places
) -> None:
    os.makedirs(where.folder, mode=0o700)
    Path(where.lock).write_text("4194303\n")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(where.socket)
    read = read_files(where, environment)
    assert read.lock == Lock(is_there=True)
    assert seen(check_files(read)) == ["note files.socket.stale"]


def test_who_really_holds_the_lock_is_named(environment: dict[str, str], where: Places) -> None:
    os.makedirs(where.folder, mode=0o700)
    Path(where.lock).write_text("1\n")
    with open(where.lock) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read = read_files(where, environment)
    assert read.lock.holder is not None
    assert read.lock.holder.pid == os.getpid()
    assert not read.lock.is_hived


def test_a_link_in_the_place_of_a_folder_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert not look_at(str(tmp_path / "link")).is_folder
