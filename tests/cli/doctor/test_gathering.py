"""Facts that come late, break, or have a cure of their own."""

from __future__ import annotations

import threading

from hived.cli.doctor.gathering import Missing, gather
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import fault


def test_what_hangs_and_what_breaks_hides_nothing_else() -> None:
    held = threading.Event()
    problem = fault("runtime.unsafe", path="/x", why="y")

    def hang() -> object:
        return held.wait()

    def refuse() -> object:
        raise Unavailable(problem)

    facts = gather({"late": hang, "broken": lambda: 1 / 0, "refused": refuse, "well": lambda: 3}, seconds=0.2)
    held.set()
    assert facts == {
        "late": Missing("it took longer than 0.2 s"),
        "broken": Missing("the check broke (ZeroDivisionError: division by zero)"),
        "refused": Missing(problem.message, problem),
        "well": 3,
    }


def test_nothing_is_waited_for_once_everything_is_there() -> None:
    assert gather({}, seconds=3600.0) == {}
    assert gather({"a": lambda: None}, seconds=3600.0) == {"a": None}
