"""What a fake daemon answers in the tests of both clients."""

from __future__ import annotations

from typing import Any

from hived_client.doors.ask import Resolved
from hived_client.doors.frames import AFTER_HELLO, frame
from hived_client.doors.wire import Begun, Refreshed, Stopped
from hived_client.resolution import Refusal, Target
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Change, World
from tests.client.fake_daemon import Answer, event, failure, pack, progress, result

TARGET = Target(model="hosted_vllm/z", api_base="http://theirs/v1", endpoint="lab", provider="vllm", name="z")
CHANGES = [Change(event="endpoint.state", at=float(at), endpoint="lab") for at in range(3)]
BEGUN = Begun(endpoint="started", url="http://127.0.0.1:9931", pid=7)


def yes(params: Any) -> Any:
    """Say yes to a question."""
    return [result(Resolved(generation=2, target=TARGET, age=0.5))]


def no(params: Any) -> Any:
    """Say no to a question."""
    return [result(Resolved(generation=2, refusal=Refusal(fault=fault("server.down", title="T", url="u"))))]


def refreshed(params: Any) -> Any:
    """Say that it is done."""
    return [result(Refreshed(generation=42))]


def statistics(params: Any) -> Any:
    """Say some numbers."""
    return [result({"questions": 7})]


def silent(params: Any) -> Any:
    """Say nothing."""
    return []


def hangs_up(params: Any) -> Any:
    """Close the connection."""
    return [None]


def subscribed(params: Any) -> Any:
    """Say the World and its first changes in one write, then end."""
    first = {"generation": 1, "world": World(generation=1)}
    return [result(first), *(event(change.event, change) for change in CHANGES), None]


def lagged(params: Any) -> Any:
    """Say that the reader was too slow."""
    return [result({"generation": 1, "world": {}}), event("a.b", CHANGES[0]), failure(fault("lagged"))]


def started(params: Any) -> Any:
    """Say how a start goes, and that it is done."""
    return [progress("spawned"), progress("loading"), result(BEGUN)]


def not_started(params: Any) -> Any:
    """Say how a start goes, and that it failed."""
    return [progress("spawned"), failure(fault("start.ended", title="llama.cpp", why="", log="/l"))]


def stopped(params: Any) -> Any:
    """Say what was stopped."""
    return [result(Stopped(endpoints={"started": "ended"}))]


def nothing(params: Any) -> Any:
    """Say that it is done."""
    return [result({})]


EVERYTHING: dict[str, Answer] = {
    "resolve": yes,
    "refresh": refreshed,
    "reload": refreshed,
    "statistics": statistics,
    "subscribe": subscribed,
    "start": started,
    "stop": stopped,
    "retire": nothing,
}

GARBAGE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    frame(b""),
    frame(b"\x91" * 100_000),
    frame(b"\xc1\xc1"),
    (AFTER_HELLO + 1).to_bytes(4, "big"),
    frame(pack({"id": 0})),
]
