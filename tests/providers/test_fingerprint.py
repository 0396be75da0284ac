"""A port proves nothing: what answers is asked what it seems to be, once, without a key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from hived.decisions.outcomes import Stranger
from hived.providers.fields import MOST_ITEMS
from hived.providers.fingerprint import identify_stranger, is_llamacpp, openai_models
from hived.providers.http import Answer, Http
from tests.servers.loopback import HttpLoopback, Reply, Request
from tests.servers.strangers import AnswersEverything, HugeBody, OpenAiCompatible, Silent


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http()
    yield client
    await client.aclose()


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Answer(status=status, headers=headers, body=raw)


class Lists(HttpLoopback):
    """A listing of models of some owner."""

    def __init__(self, owner: object) -> None:
        super().__init__()
        self._listing = {"object": "list", "data": [{"id": "m", "owned_by": owner}, {"id": "n"}]}

    def answer(self, request: Request) -> Reply:
        body = msgspec.json.encode(self._listing)
        return Reply(headers=(("Content-Length", str(len(body))), ("Connection", "close")), body=body)


@pytest.mark.parametrize(
    ("server", "known"),
    [
        ("llama.cpp", True),
        (" LLAMA.CPP ", True),
        ("llama.cpp/1", False),
        ("uvicorn", False),
        ("", False),
    ],
)
def test_llamacpp_names_itself_in_every_answer(server: str, known: bool) -> None:
    assert is_llamacpp(answer({}, 503, server=server)) is known
    assert not is_llamacpp(answer({}))


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}, 200, ["a", "b"]),
        ({"object": "list", "data": []}, 200, []),
        ({"object": "list", "data": [{"id": 5}, {"id": "\n"}, "x", None, {}]}, 200, []),
        ({"object": "list", "data": [{"id": f"m{n}"} for n in range(MOST_ITEMS + 9)]}, 200, MOST_ITEMS),
        ({"object": "list", "data": {"id": "a"}}, 200, None),
        ({"object": "list"}, 200, None),
        ({"data": [{"id": "a"}]}, 200, None),
        ({"error": "Unexpected endpoint"}, 200, None),
        ({"object": "list", "data": [{"id": "a"}]}, 401, None),
        ([], 200, None),
        (b"<html>", 200, None),
        (b"", 200, None),
    ],
)
def test_only_a_listing_is_one(body: object, status: int, names: list[str] | int | None) -> None:
    models = openai_models(answer(body, status))
    found = None if models is None else [model.name for model in models]
    assert (len(found or ()) if isinstance(names, int) else found) == names


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("owner", "seems"),
    [
        ("vllm", " (it seems to be vLLM)"),
        ("library", " (it seems to be Ollama)"),
        ("organization_owner", " (it seems to be LM Studio)"),
        ("llamacpp", " (it seems to be llama.cpp)"),
        ("me", " (it seems to be nginx)"),
        (["vllm"], " (it seems to be nginx)"),
        (None, " (it seems to be nginx)"),
    ],
)
async def test_a_stranger_is_named_by_who_owns_its_models_else_by_its_header(
    http: Http, owner: object, seems: str
) -> None:
    with Lists(owner) as server:
        found = await identify_stranger(http, server.url, answer({}, server="nginx"), timeout=5.0)
        assert (found.seems, [model.name for model in found.models or ()]) == (seems, ["m", "n"])
        assert server.requests == [("GET", "/v1/models")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("header", "seems"),
    [("nginx/1.2", " (it seems to be nginx/1.2)"), ("\x1b[2J", ""), ("x" * 100, ""), ("", "")],
)
async def test_a_header_that_cannot_be_shown_names_nobody(http: Http, header: str, seems: str) -> None:
    with AnswersEverything() as server:
        found = await identify_stranger(http, server.url, answer({}, server=header), timeout=5.0)
        assert found == Stranger(seems=seems, models=None)


@pytest.mark.anyio
@pytest.mark.parametrize("stranger", [Silent, HugeBody])
async def test_a_stranger_that_does_not_answer_is_one_all_the_same(
    http: Http, stranger: type[Silent]
) -> None:
    with stranger() as server:
        assert await identify_stranger(http, server.url, answer({}), timeout=0.15) == Stranger()


@pytest.mark.anyio
async def test_a_gateway_is_of_use(http: Http) -> None:
    with OpenAiCompatible() as server:
        found = await identify_stranger(http, server.url, answer({}), timeout=5.0)
        assert [model.name for model in found.models or ()] == ["m"]
