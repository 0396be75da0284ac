"""What the doctor says of a daemon: machines as literals, from the healthy one to the one that hangs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hived.cli.doctor.daemon import Answers, check_daemon
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Daemon, World
from tests.cli.doctor.findings_of import only, seen

PLACES = Places(home="/h/.hive", runtime="/r", state="/s", socket="/r/v1/hived.sock")
DAEMON = Daemon(
    version="1.0", pid=7, started_at=0.0, managed_by="client", socket=PLACES.socket, id="i", boot="b"
)
KNOWN = Known(world=World(generation=3, daemon=DAEMON), verdict="fresh", age=0.1, places=PLACES)
WELL = Answers(
    hello=0.001,
    statistics={"supervisor": {"restarts": {}, "errors": {}}},
    descriptors=(30, 1024),
)


def known(**fields: Any) -> Known:
    return msgspec.structs.replace(KNOWN, **fields)


def answers(**fields: Any) -> Answers:
    return msgspec.structs.replace(WELL, **fields)


def other_daemon(**fields: Any) -> World:
    return World(generation=3, daemon=msgspec.structs.replace(DAEMON, **fields))


SILENT = fault("daemon.unresponsive", why="no hello within 1.5 s")
CASES: list[tuple[str, Known, Answers, list[str]]] = [
    ("a healthy one", KNOWN, WELL, []),
    ("none", known(verdict="absent", world=World(generation=0)), Answers(), ["warn hived.running"]),
    ("none, after one", known(verdict="stopped"), Answers(), ["warn hived.running"]),
    ("one that is late", KNOWN, answers(hello=0.9), ["warn hived.hello"]),
    ("one that hangs", known(verdict="stale"), Answers(problem=SILENT), ["fail daemon.unresponsive"]),
    (
        "one that somebody stopped",
        known(verdict="lagging"),
        Answers(problem=SILENT, is_stopped=True),
        ["fail hived.stopped"],
    ),
    (
        "another version",
        known(notes=(fault("daemon.other_version", version="1.0", ours="2.0", pid=7),)),
        WELL,
        ["warn daemon.other_version"],
    ),
    ("the code of before an upgrade", KNOWN, answers(has_our_code=False), ["warn hived.version"]),
    (
        "a snapshot that is not ours",
        known(world=World(generation=0), problem=fault("snapshot.foreign", path="/r/v1/snapshot", why="x")),
        WELL,
        ["fail snapshot.foreign"],
    ),
    (
        "parts that crashed",
        KNOWN,
        answers(statistics={"supervisor": {"restarts": {"jobs": 2}, "errors": {"jobs": "ValueError"}}}),
        ["warn hived.crashed"],
    ),
    ("no descriptors left", KNOWN, answers(descriptors=(900, 1024)), ["warn hived.descriptors"]),
    (
        "a disk that is full",
        known(world=other_daemon(problems=(fault("disk.full", path="/r"),))),
        WELL,
        ["fail disk.full"],
    ),
    (
        "a plug-in that is broken",
        known(
            world=other_daemon(
                broken_plugins=(fault("provider.plugin_broken", name="x", distribution="d", why="y"),)
            )
        ),
        WELL,
        ["warn provider.plugin_broken"],
    ),
    ("statistics of another shape", KNOWN, answers(statistics={"supervisor": [1]}), []),
]


@pytest.mark.parametrize(
    ("managed_by", "mend"),
    [
        ("systemd", "hived service restart"),
        ("launchd", "hived service restart"),
        ("client", "kill -9 7 && sleep 1 && hived serve"),
        ("foreground", "kill -9 7 && sleep 1 && hived serve"),
    ],
)
def test_one_that_hangs_is_replaced_by_whoever_looks_after_it(managed_by: str, mend: str) -> None:
    found = check_daemon(known(world=other_daemon(managed_by=managed_by)), answers(hello=None), "1.0")
    assert only(found, "daemon.unresponsive").fix == mend


@pytest.mark.parametrize(
    ("state", "answered", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_each_daemon_is_judged(state: Known, answered: Answers, expected: list[str]) -> None:
    findings = check_daemon(state, answered, "1.0")
    assert seen(findings) == expected
    assert all(each.fix for each in findings if each.level in ("warn", "fail"))


def test_one_that_is_held_is_told_how_to_go_on() -> None:
    found = only(check_daemon(KNOWN, Answers(is_stopped=True), "1.0"), "hived.stopped")
    assert found.fix == "kill -CONT 7"
