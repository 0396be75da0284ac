"""What the stress suite judges by: it must find the wrong answer, and the leak."""

from __future__ import annotations

import pytest

from tests.stress.figures import slope
from tests.stress.judging import wrong_answers
from tests.stress.truth import Answer, Fits, Lost, Timeline, judge

TIMELINE = Timeline()
TIMELINE.add("up", 0.0, 0.0)
TIMELINE.add("down", 10.0, 10.1)
TIMELINE.add("up", 20.0, 20.5)

FITS = Fits(TIMELINE, "http://a", {"yes": ("up",), "server.down": ("down",), "server.wrong": ("web",)})


@pytest.mark.parametrize(
    ("said", "asked", "answered", "bound", "right"),
    [
        ("yes", 1.0, 1.1, 0.0, True),
        ("yes", 10.05, 10.06, 0.0, True),  # it was just going
        ("yes", 10.2, 10.3, 0.0, False),
        ("yes", 10.2, 10.3, 0.2, True),
        ("yes", 13.0, 13.1, 2.0, False),
        ("yes", 19.9, 20.1, 0.0, True),  # it came while the question was answered
        ("server.down", 9.0, 9.9, 5.0, False),  # nobody can know what is yet to come
        ("server.down", 9.9, 10.0, 0.0, True),
        ("server.down", 20.4, 20.4, 0.0, True),
        ("server.down", 20.6, 20.7, 0.0, False),
        ("server.wrong", 1.0, 1.1, 60.0, False),
        ("internal", 1.0, 1.1, 60.0, False),
    ],
)
def test_an_answer_is_judged_by_what_was_true(
    said: str, asked: float, answered: float, bound: float, right: bool
) -> None:
    answer = Answer("blocking", "a/m", "file", asked, answered, said, "http://a", ())
    assert (judge(answer, FITS, bound=bound) == "") is right


def test_a_yes_that_leads_elsewhere_is_wrong() -> None:
    answer = Answer("blocking", "a/m", "file", 1.0, 1.1, "yes", "http://b", ())
    assert judge(answer, FITS, bound=0.0) == "a yes that leads to http://b"


def test_what_was_true_between_is_every_state_that_touches_it() -> None:
    assert TIMELINE.states(9.0, 9.5) == {"up"}
    assert TIMELINE.states(9.0, 10.0) == {"up", "down"}
    assert TIMELINE.states(12.0, 19.0) == {"down"}


def test_what_was_lost_of_an_interval_is_what_of_it_nobody_ran() -> None:
    lost = Lost()
    lost.add(10.0, 12.0)
    lost.add(20.0, 20.5)
    assert lost.seconds(0.0, 9.0) == 0.0
    assert lost.seconds(11.0, 30.0) == 1.5
    assert lost.seconds(10.5, 11.0) == 0.5


@pytest.mark.parametrize(("paused", "wrong"), [(0.0, 1), (2.0, 0)])
def test_what_the_machine_has_lost_makes_no_answer_wrong(paused: float, wrong: int) -> None:
    lost, runs = Lost(), Timeline()
    runs.add("runs", 0.0, 0.0)
    lost.add(10.5, 10.5 + paused)
    late = Answer("blocking", "a/m", "file", 13.0, 13.1, "yes", "http://a", ())
    assert len(wrong_answers([late], {"a/m": FITS}, runs, bound=2.5, after=0.0, lost=lost)) == wrong


def test_a_slope_is_a_minute_s_growth() -> None:
    assert slope([(0.0, 5.0), (30.0, 5.0), (60.0, 5.0)]) == 0.0
    assert slope([(0.0, 0.0), (30.0, 50.0), (60.0, 100.0)]) == pytest.approx(100.0)
