"""How many tokens a turn needs, and whether the server read them all."""

from __future__ import annotations

from hived_client.agent.context import Meter, written
from hived_client.agent.words import Request


def prompt(size: int, max_tokens: int | None = None) -> Request:
    text = "x" * (size - written([{"role": "user", "content": ""}], []))
    return Request(messages=[{"role": "user", "content": text}], max_tokens=max_tokens)


def test_before_anybody_has_counted_a_token_has_three_bytes() -> None:
    assert Meter().prompt(prompt(3000)) == 1001


def test_an_answer_needs_room_too_and_a_long_one_no_more_than_that() -> None:
    meter = Meter()
    assert [meter.needs(prompt(3000, most)) - meter.prompt(prompt(3000)) for most in (None, 100, 8192)] == [
        1024,
        100,
        1024,
    ]


def test_it_learns_from_what_the_server_counted() -> None:
    meter = Meter()
    assert meter.learn(prompt(4500), 1000, 4096) is False
    assert meter.prompt(prompt(4500)) == 1001


def test_a_count_that_makes_no_sense_teaches_nothing() -> None:
    meter = Meter()
    for counted in (None, 0, 1, 10**9):
        meter.learn(prompt(3000), counted, None)
    assert meter.prompt(prompt(3000)) == 1001


def test_a_prompt_that_was_cut_is_noticed_at_the_first_turn_where_nothing_else_can_be() -> None:
    assert Meter().learn(prompt(80_000), 4096, 4096) is True


def test_and_later_by_what_was_learnt() -> None:
    meter = Meter()
    meter.learn(prompt(4500), 1000, 4096)
    assert meter.learn(prompt(27_000), 4000, 4096) is True
    assert meter.prompt(prompt(4500)) == 1001, "a prompt that was cut teaches nothing"


def test_a_prompt_that_fits_was_not_cut() -> None:
    meter = Meter()
    meter.learn(prompt(4500), 1000, 4096)
    assert meter.learn(prompt(18_000), 4000, 4096) is False
    assert meter.learn(prompt(18_000), 4000, None) is False


def test_a_conversation_that_grows_and_has_fewer_tokens_was_cut() -> None:
    meter = Meter()
    meter.learn(prompt(12_000), 3000, 4096)
    assert meter.learn(prompt(13_000), 1500, 4096) is True


def test_one_that_is_begun_anew_was_not() -> None:
    meter = Meter()
    meter.learn(prompt(12_000), 3000, 4096)
    assert meter.learn(prompt(2_000), 500, 4096) is False


def test_pictures_are_not_text() -> None:
    message = {"role": "user", "content": "", "images": ["A" * 10_000]}
    assert written([message], []) < 100
