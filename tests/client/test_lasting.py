"""How long it has lasted, and how long it will."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived_client.vocabulary.faults import Value, fault
from hived_client.vocabulary.lasting import lasting, remaining

BASE = "llama.cpp at http://h is loading its model"


@pytest.mark.parametrize(
    ("since", "progress", "ending"),
    [
        (100.0, None, " (for 8 s so far)."),
        (100.0, 0.4, " (40 %, about 12 s more)."),
        (100.0, 0.01, " (1 %, for 8 s so far)."),
        (100.0, 1.0, " (100 %, about 0 s more)."),
        (None, 0.4, " (40 %)."),
        (None, None, "."),
        (107.5, None, "."),
        (500.0, None, "."),
        (-492.0, None, " (for 10 min so far)."),
        (-10692.0, 0.5, " (50 %, about 3 h more)."),
    ],
)
def test_the_sentence_has_the_time_in_it(since: float | None, progress: float | None, ending: str) -> None:
    told = fault("server.loading", title="llama.cpp", url="http://h", since=since, progress=progress)
    assert lasting(told, 108.0).message == BASE + ending


def test_the_numbers_are_in_the_fields() -> None:
    told = lasting(fault("model.loading", endpoint="e", model="m", since=100.0, progress=0.4), 108.0)
    assert told.fields["seconds"] == pytest.approx(8.0)
    assert told.fields["rest"] == pytest.approx(12.0)
    assert told.retryable


def test_a_fault_without_a_time_stays_as_it_is() -> None:
    told = fault("server.down", title="x", url="y")
    assert lasting(told, 1.0) is told


values = st.none() | st.text() | st.booleans() | st.integers() | st.floats()


@given(values, values, st.floats(0, 2e9))
def test_whatever_the_fields_hold_there_is_one_sentence(since: Value, progress: Value, now: float) -> None:
    told = lasting(fault("server.loading", title="t", url="u", since=since, progress=progress), now)
    assert told.message.endswith(".")
    assert "\n" not in told.message
    assert "nan" not in told.message


@given(st.floats(1.0, 1e6), st.floats(0.02, 1.0))
def test_the_rest_goes_as_fast_as_what_is_done(seconds: float, share: float) -> None:
    rest = remaining(seconds, share)
    assert rest is not None
    assert seconds / (seconds + rest) == pytest.approx(share)
