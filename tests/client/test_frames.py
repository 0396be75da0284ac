"""Frames: a length and that many bytes, however the stream is cut."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived_client.doors.frames import AFTER_HELLO, BEFORE_HELLO, FrameReader, TooLong, frame

bodies = st.lists(st.binary(max_size=40), max_size=6)


@given(bodies, st.lists(st.integers(0, 260), max_size=12))
def test_any_split_of_any_frames_gives_the_same_frames(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, sent))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    got = [body for a, b in pairwise(places) for body in reader.feed(stream[a:b])]
    assert got == sent
    assert reader.waiting == 0


@given(st.binary(min_size=1, max_size=40), st.data())
def test_half_a_frame_is_kept_until_the_rest_comes(body: bytes, data: st.DataObject) -> None:
    whole = frame(body)
    cut = data.draw(st.integers(0, len(whole) - 1))
    reader = FrameReader()
    assert reader.feed(whole[:cut]) == []
    assert reader.waiting == cut
    assert reader.feed(whole[cut:]) == [body]


def test_a_frame_of_no_bytes_is_a_frame() -> None:
    assert FrameReader().feed(frame(b"") * 3) == [b"", b"", b""]


@pytest.mark.parametrize("limit", [0, 1, BEFORE_HELLO, AFTER_HELLO])
def test_a_length_beyond_the_limit_is_refused_before_any_of_it_comes(limit: int) -> None:
    reader = FrameReader(limit)
    assert reader.feed(struct.pack(">I", limit)[:3]) == []
    with pytest.raises(TooLong) as error:
        FrameReader(limit).feed(struct.pack(">I", limit + 1))
    assert (error.value.length, error.value.limit) == (limit + 1, limit)


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    body = bytes(BEFORE_HELLO)
    assert FrameReader().feed(frame(body)) == [body]


def test_the_limit_may_be_raised_between_two_frames() -> None:
    reader = FrameReader(4)
    assert reader.feed(frame(b"1234")) == [b"1234"]
    reader.limit = 8
    assert reader.feed(frame(b"12345678")) == [b"12345678"]


def test_a_giant_frame_comes_through_in_small_pieces() -> None:
    body = bytes(AFTER_HELLO)
    whole = frame(body)
    reader = FrameReader(AFTER_HELLO)
    got = [each for at in range(0, len(whole), 65_536) for each in reader.feed(whole[at : at + 65_536])]
    assert got == [body]


def test_a_body_that_no_peer_would_take_is_not_framed() -> None:
    with pytest.raises(TooLong):
        frame(bytes(AFTER_HELLO + 1))


def test_the_repr_says_what_waits() -> None:
    reader = FrameReader()
    reader.feed(b"\0\0\0\5ab")
    assert "6 bytes" in repr(reader)
