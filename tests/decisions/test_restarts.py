from __future__ import annotations

import signal

import pytest

from hived.decisions.restarts import LONGEST, MOST, STEADY, Again, GaveUp, Stays, after_end


def test_each_start_waits_twice_as_long_until_it_is_given_up() -> None:
    delays = []
    count, after = 0, after_end(keep=True, code=1, broke=False, count=0, healthy=0.0)
    while isinstance(after, Again):
        delays.append(after.delay)
        count = after.count
        after = after_end(keep=True, code=1, broke=False, count=count, healthy=0.0)
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert after == GaveUp(MOST)
    assert max(delays) <= LONGEST


@pytest.mark.parametrize(
    ("healthy", "expected"), [(STEADY, Again(1.0, 1)), (STEADY - 0.1, GaveUp(MOST)), (0.0, GaveUp(MOST))]
)
def test_only_a_minute_of_health_begins_the_count_anew(healthy: float, expected: object) -> None:
    assert after_end(keep=True, code=1, broke=False, count=MOST, healthy=healthy) == expected


@pytest.mark.parametrize(
    ("code", "is_accident"),
    [
        (0, False),
        (-signal.SIGTERM, False),
        (128 + signal.SIGTERM, False),
        (-signal.SIGINT, False),
        (-signal.SIGHUP, False),
        (1, True),
        (-signal.SIGKILL, True),
        (-signal.SIGSEGV, True),
        (None, True),
    ],
)
def test_what_was_asked_to_end_stays_ended(code: int | None, is_accident: bool) -> None:
    after = after_end(keep=True, code=code, broke=False, count=0, healthy=5.0)
    assert after == (Again(1.0, 1) if is_accident else Stays())
    assert after_end(keep=False, code=code, broke=False, count=0, healthy=5.0) == Stays()


def test_what_broke_is_started_again_in_however_good_order_it_went() -> None:
    assert after_end(keep=True, code=0, broke=True, count=0, healthy=5.0) == Again(1.0, 1)
    assert after_end(keep=False, code=0, broke=True, count=0, healthy=5.0) == Stays()


def test_what_a_signal_asked_to_end_stays_ended_whatever_its_log_says() -> None:
    assert after_end(keep=True, code=-signal.SIGTERM, broke=True, count=0, healthy=5.0) == Stays()
