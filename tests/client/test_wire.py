"""Hello, requests and replies, from friends and from strangers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived_client.doors.frames import AFTER_HELLO, BEFORE_HELLO, FrameReader, frame
from hived_client.doors.session import HELLO, Session
from hived_client.doors.wire import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Hello,
    Nothing,
    Progress,
    Refreshed,
    Reply,
    Request,
    ResolveParams,
    error_of,
    model_or_path,
    read_change,
    read_reply,
    read_result,
    read_welcome,
    request_body,
)
from hived_client.errors import Refused, Unavailable
from hived_client.resolution import Question
from hived_client.vocabulary.faults import CATALOGUE, fault
from hived_client.vocabulary.world import Change
from tests.client.worlds import questions

pack = msgspec.msgpack.encode

GOLDEN_HELLO = bytes.fromhex(
    "86a5686976656401a36d696e01a36d617801a776657273696f6ea5302e312e30a86665617475726573"
    "92a5776f726c64a77265736f6c7665a477616e7490"
)
GOLDEN_WELCOME = bytes.fromhex(
    "89a375736501a776657273696f6ea5302e312e30a8666561747572657391a5776f726c64a96461656d6f6e5f6964"
    "a26161a7626f6f745f6964a26262a370696407aa737461727465645f6174cb3ff8000000000000aa67656e6572617469"
    "6f6e2aaa6d616e616765645f6279aa666f726567726f756e64"
)

WELCOME: dict[str, Any] = {
    "use": 1,
    "version": "0.1.0",
    "features": ["world"],
    "daemon_id": "aa",
    "boot_id": "bb",
    "pid": 7,
    "started_at": 1.5,
    "generation": 42,
    "managed_by": "foreground",
}

NONSENSE = [
    b"",
    b"\xc1",
    b"\xc0",
    b"\x80",
    b"\x91" * 100_000,
    b"\x81\xa1x" + b"\x91" * 100_000,
    b"\x81\xa2id" + b"\x91" * 100_000,
    b"\x82\xa2id\x01\xa5fault" + b"\x81\xa1x" * 50_000,
    b"\xdf\xff\xff\xff\xff",
    b"\xa3\xff\xfe\xfd",
    b"\x81\xa2\xff\xff\x01",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    bytes(range(256)),
]


def unavailable(code: str, call: Any, *args: Any) -> Unavailable:
    with pytest.raises(Unavailable) as error:
        call(*args)
    assert error.value.code == code
    return error.value


def test_the_first_hello_that_was_ever_sent_is_still_understood() -> None:
    assert msgspec.msgpack.decode(GOLDEN_HELLO, type=Hello) == Hello(
        hived=1, min=1, max=1, version="0.1.0", features=("world", "resolve"), want=()
    )


def test_the_first_welcome_that_was_ever_sent_is_still_understood() -> None:
    found = read_welcome(GOLDEN_WELCOME)
    assert msgspec.to_builtins(found) == WELCOME | {"features": ("world",)}
    assert pack(WELCOME) == GOLDEN_WELCOME


def test_our_hello_has_the_frozen_words_and_fits_before_hello() -> None:
    (body,) = FrameReader(BEFORE_HELLO).feed(HELLO)
    words = msgspec.msgpack.decode(body)
    assert list(words) == ["hived", "min", "max", "version", "features", "want"]
    assert (words["hived"], words["min"], words["max"]) == (1, PROTOCOL_MIN, PROTOCOL_MAX)


@given(
    st.builds(Hello, hived=st.just(1), min=st.integers(0, 99), max=st.integers(0, 99), version=st.text("a.0"))
)
def test_any_hello_comes_back_whole_with_words_of_the_future(hello: Hello) -> None:
    words = msgspec.to_builtins(hello) | {"future": {"deep": [1, None]}}
    assert msgspec.msgpack.decode(pack(words), type=Hello) == hello


def test_words_of_the_future_in_a_welcome_are_passed_over() -> None:
    assert read_welcome(pack(WELCOME | {"future": [{}]})).pid == 7


@pytest.mark.parametrize("use", [-1, 0, PROTOCOL_MAX + 1, 99])
def test_a_protocol_that_was_not_offered_is_refused(use: int) -> None:
    error = unavailable("protocol.unsupported", read_welcome, pack(WELCOME | {"use": use, "version": "9.9"}))
    assert "9.9" in error.message
    assert "?" not in error.message


def test_a_newer_daemon_that_cannot_talk_to_us_says_so() -> None:
    problem = fault("protocol.unsupported", version="9.9", min=3, max=4, ours=1)
    error = unavailable("protocol.unsupported", read_welcome, pack(Reply(id=0, fault=problem)))
    assert error.hint == "pip install --upgrade PATH/TO/HIVED"


@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_a_welcome_that_makes_no_sense_is_broken(body: bytes) -> None:
    unavailable("protocol.broken", read_welcome, body)


@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_a_reply_that_makes_no_sense_is_broken(body: bytes) -> None:
    unavailable("protocol.broken", read_reply, body)


@pytest.mark.parametrize("body", [each for each in NONSENSE if each], ids=range(len(NONSENSE) - 1))
def test_a_result_or_event_that_makes_no_sense_is_broken(body: bytes) -> None:
    unavailable("protocol.broken", read_result, Reply(id=1, result=msgspec.Raw(body)), Refreshed)
    unavailable("protocol.broken", read_change, Reply(id=1, body=msgspec.Raw(body)))
    unavailable("protocol.broken", read_change, Reply(id=1))


@pytest.mark.parametrize(
    ("whole", "read"),
    [
        (GOLDEN_WELCOME, read_welcome),
        (pack(Reply(id=1, result=msgspec.Raw(b"\x80"), fault=fault("internal", method="x"))), read_reply),
        (
            pack(Change(event="endpoint.state", at=1.0, endpoint="lab", before="down", after="ready")),
            lambda body: read_change(Reply(id=1, body=msgspec.Raw(body))),
        ),
    ],
)
def test_a_message_cut_at_any_byte_is_broken(whole: bytes, read: Any) -> None:
    read(whole)
    for length in range(len(whole)):
        unavailable("protocol.broken", read, whole[:length])


@given(questions, st.integers(0, 2**32), st.booleans())
def test_any_request_comes_back_whole(question: Question, number: int, fresh: bool) -> None:
    params = ResolveParams(question=question, fresh=fresh)
    request = msgspec.msgpack.decode(request_body(number, "resolve", params), type=Request)
    assert (request.id, request.method) == (number, "resolve")
    assert msgspec.msgpack.decode(request.params, type=ResolveParams) == params


def test_a_model_file_is_named_wherever_the_caller_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert model_or_path("llamacpp", "m.gguf") == f"{gone}/m.gguf"
    with pytest.raises(Refused) as error:
        model_or_path("llamacpp", "b\udcff.gguf")
    assert (error.value.code, error.value.hint) == ("params.invalid", "hived start --help")
    assert "b?.gguf is no UTF-8" in error.value.message
    gone.rmdir()
    with pytest.raises(Refused) as error:
        model_or_path("llamacpp", "m.gguf")
    assert error.value.code == "start.no_file"


@pytest.mark.parametrize("question", [Question(model="a/\udcff"), Question(model="a/b", context=2**70)])
def test_a_question_that_no_message_can_carry_is_refused(question: Question) -> None:
    with pytest.raises(Refused) as error:
        request_body(1, "resolve", ResolveParams(question=question))
    assert error.value.code == "params.invalid"


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_fault_travels_and_becomes_an_error(code: str) -> None:
    reply = read_reply(pack(Reply(id=1, fault=fault(code, why="x"))))
    with pytest.raises((Refused, Unavailable)) as error:
        read_result(reply, Nothing)
    assert error.value.fault == fault(code, why="x")
    assert type(error_of(fault(code))) is type(error.value)


def test_a_fault_that_only_a_newer_daemon_knows_is_still_an_error() -> None:
    body = pack({"id": 1, "fault": {"code": "new.fault", "message": "New.", "data": {"a": [1]}}})
    with pytest.raises(Refused, match="New"):
        read_result(read_reply(body), Nothing)


def test_no_result_is_nil() -> None:
    assert read_result(Reply(id=1), None) is None
    assert read_reply(pack({"id": 1, "result": None})).id == 1
    unavailable("protocol.broken", read_result, Reply(id=1), Refreshed)


# The conversation


@given(st.lists(st.integers(0, 400), max_size=6))
def test_a_conversation_is_understood_however_it_is_cut(cuts: list[int]) -> None:
    stream = frame(GOLDEN_WELCOME) + b"".join(
        frame(pack(Reply(id=n, event="progress", body=msgspec.Raw(pack(Progress(stage="s", message="m"))))))
        for n in range(3)
    )
    places = [0, *sorted({min(cut, len(stream)) for cut in cuts if cut}), len(stream)]
    session = Session()
    got = [r for a, b in pairwise(places) if a < b for r in session.feed(stream[a:b])]
    assert [reply.id for reply in got] == [0, 1, 2]
    assert session.welcome is not None


def test_requests_are_numbered() -> None:
    session = Session()
    numbers = [session.request("statistics", Nothing())[0] for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert "3 requests" in repr(session)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n",
        (AFTER_HELLO + 1).to_bytes(4, "big"),
        frame(b""),
        frame(b"\x91" * 100_000),
    ],
)
def test_what_is_no_conversation_is_broken(data: bytes) -> None:
    unavailable("protocol.broken", Session().feed, data)
