"""Text by the columns that it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.cli.columns import bar, columns, cut, cut_middle, padded

texts = st.text(st.characters(categories=["L", "N", "P", "Mn", "So"]), max_size=30)


@pytest.mark.parametrize(
    ("text", "taken"), [("abc", 3), ("模型", 4), ("é", 1), ("e\u0301", 1), ("ｱ", 1), ("Ａ", 2), ("", 0)]
)
def test_a_text_takes_the_columns_that_a_terminal_gives_it(text: str, taken: int) -> None:
    assert columns(text) == taken


@given(texts, st.integers(1, 40))
def test_what_is_cut_fits_and_what_fits_is_not_cut(text: str, width: int) -> None:
    for cutting in (cut, cut_middle):
        short = cutting(text, width)
        assert columns(short) <= width
        assert (short == text) is (columns(text) <= width)
    assert columns(padded(cut(text, width), width)) == width


def test_a_name_keeps_its_beginning_and_its_end() -> None:
    assert cut_middle("mistralai/Mistral-Small-Instruct-2506", 17) == "mistrala…uct-2506"
    assert cut_middle("通义千问-模型:72b", 10) == "通义…:72b"
    assert cut("anything", 0) == cut_middle("anything", 0) == "anything"


def test_a_bar_is_drawn_with_what_can_be_written() -> None:
    assert bar(0.4, "utf-8") == "████░░░░░░"
    assert bar(0.4, "ascii") == "####------"
    assert (bar(-1.0, "ascii"), bar(7.0, "ascii")) == ("-" * 10, "#" * 10)
