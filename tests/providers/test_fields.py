"""A field that cannot be is one that is missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.providers.fields import GREATEST, LONGEST_NAME, MOST_ITEMS, count, inner, items, share, text, texts


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (512, 512),
        (512.0, 512),
        (GREATEST, GREATEST),
        (0, None),
        (-1, None),
        (0.5, None),
        (GREATEST + 1, None),
        (10**4000, None),
        (-(10**4000), None),
        (math.inf, None),
        (-math.inf, None),
        (math.nan, None),
        (True, None),
        ("512", None),
        (None, None),
        ([], None),
    ],
)
def test_a_count_is_a_whole_number_above_zero(value: object, read: int | None) -> None:
    assert count(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0, 0.0),
        (1, 1.0),
        (0.25, 0.25),
        (-0.1, None),
        (1.1, None),
        (math.nan, None),
        (True, None),
        (10**4000, None),
    ],
)
def test_a_share_is_from_nothing_to_all(value: object, read: float | None) -> None:
    assert share(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("qwen3:8b", "qwen3:8b"),
        ("é 漢字 🙂", "é 漢字 🙂"),
        ("x" * LONGEST_NAME, "x" * LONGEST_NAME),
        ("x" * (LONGEST_NAME + 1), None),
        ("", None),
        ("a\x1b[2J", None),
        ("a\nb", None),
        ("a\u202eb", None),
        ("a\u2028b", None),
        ("a\ud800", None),
        ("\x7f", None),
        (5, None),
        (None, None),
    ],
)
def test_a_text_can_be_shown(value: object, read: str | None) -> None:
    assert text(value) == read


def test_lists_are_cut_and_what_does_not_belong_is_passed_over() -> None:
    assert list(items([{"a": 1}, 5, None, [{}], {"b": 2}])) == [{"a": 1}, {"b": 2}]
    assert list(items({"a": 1})) == []
    assert sum(1 for _ in items([{}] * (MOST_ITEMS + 1))) == MOST_ITEMS
    assert texts(["a", 1, "\n", "b"]) == ("a", "b")
    assert texts("ab") == ()


def test_a_path_that_breaks_off_leads_nowhere() -> None:
    assert inner({"a": {"b": 1}}, "a", "b") == 1
    assert inner({"a": [1]}, "a", "b") is None
    assert inner(None, "a") is None
    assert inner(5) == 5


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
    max_leaves=6,
)


@given(anything)
def test_nothing_makes_a_reader_fail(value: object) -> None:
    found = count(value)
    assert found is None or 0 < found <= GREATEST
    part = share(value)
    assert part is None or 0.0 <= part <= 1.0
    for one in (text(value), *texts(value)):
        assert one is None or one.encode()
    assert all(isinstance(one, dict) for one in items(value))
