"""The ladder names each product, its imitators included, by questions that do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import msgspec
import pytest

from hived.decisions.outcomes import NoAnswer, Stranger
from hived.providers.fingerprint import header_of, owner_of, phrase
from hived.providers.http import Answer, Http
from hived.providers.ladder import GENERIC, identify_stranger, name_product
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Endpoint
from tests.providers.looking import HOSTILE, NASTY, Says
from tests.servers.lm_studio import LmStudio
from tests.servers.loading import LlamaCppLoading
from tests.servers.loopback import HttpLoopback, Loopback
from tests.servers.products import PRODUCTS, Product
from tests.servers.strangers import (
    AnswersEverything,
    AnswersJsonEverything,
    HugeBody,
    OpenAiCompatible,
    Redirects,
    Silent,
)
from tests.servers.vllm import Vllm

pytestmark = pytest.mark.anyio

MOST_QUESTIONS = 18
"""Requests that a server may be asked before nobody knows it."""


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http()
    yield client
    await client.aclose()


@pytest.mark.parametrize("name", PRODUCTS)
async def test_every_product_is_named_by_harmless_questions(http: Http, name: str) -> None:
    wanted = name.removesuffix(" with a key").removesuffix(" of late")
    with Product(name) as server:
        assert await name_product(http, server.url, timeout=60.0) == wanted
        assert {method for method, _ in server.requests} == {"GET"}
        assert (server.harm, server.keys) == ([], [])
        assert len(server.requests) == len(set(server.requests)) <= MOST_QUESTIONS
        assert not any("?" in path for _, path in server.requests)


async def test_the_faithful_fakes_are_named_too(http: Http) -> None:
    servers: list[tuple[Callable[[], HttpLoopback], str, int]] = [
        (LlamaCppLoading, "llama.cpp", 1),
        (LmStudio, "LM Studio", 1),
        (Vllm, "vLLM", 11),
    ]
    for make, name, questions in servers:
        with make() as server:
            assert await name_product(http, server.url, timeout=60.0) == name
            assert len(server.requests) <= questions
    with LmStudio() as lm_studio:
        lm_studio.require_token("t")
        assert await name_product(http, lm_studio.url, timeout=60.0) == "LM Studio"
        assert lm_studio.loads == []
    with Vllm() as vllm:
        vllm.require_key("k")
        vllm.sleep()
        assert await name_product(http, vllm.url, timeout=60.0) == "vLLM"
        assert vllm.woken_by == []


async def test_a_localai_that_starts_is_one(http: Http) -> None:
    starting = b'{"status":"starting","reason":"startup preload in progress"}'
    with Says({"/readyz": (503, starting), "/": (200, b"Ollama is running")}) as server:
        assert await name_product(http, server.url, timeout=60.0) == "LocalAI"


@pytest.mark.parametrize(
    ("make", "name"),
    [(AnswersEverything, ""), (AnswersJsonEverything, ""), (OpenAiCompatible, GENERIC)],
)
async def test_who_answers_everything_is_nobody(
    http: Http, make: Callable[[], HttpLoopback], name: str
) -> None:
    with make() as server:
        assert await name_product(http, server.url, timeout=60.0) == name
        assert len(server.requests) <= MOST_QUESTIONS


async def test_no_hostile_server_is_named_or_takes_longer_than_its_time(http: Http) -> None:
    named: list[tuple[str, str]] = []

    async def ask(make: Callable[[], Loopback]) -> None:
        with make() as server:
            name = await name_product(http, server.url, timeout=0.3)
            if name:
                named.append((type(server).__name__, name))

    with anyio.fail_after(60.0):
        async with anyio.create_task_group() as tasks:
            for make in HOSTILE:
                tasks.start_soon(ask, make)
    assert named in ([], [("OpenAiCompatible", GENERIC)])


async def test_the_first_answer_that_is_none_ends_it(http: Http) -> None:
    with AnswersEverything() as target, Redirects(target.url) as server:
        assert await name_product(http, server.url, timeout=60.0) == ""
        assert (len(server.requests), target.connections) == (1, 0)
        port = server.port
    assert await name_product(http, f"http://127.0.0.1:{port}", timeout=60.0) == ""


def test_an_owner_that_is_no_text_owns_nothing() -> None:
    for value in NASTY:
        body = msgspec.json.encode({"data": [{"owned_by": value}]})
        assert owner_of(Answer(status=200, headers={}, body=body)) == ""
    body = msgspec.json.encode({"data": [{"owned_by": "vllm"}]})
    assert owner_of(Answer(status=200, headers={}, body=body)) == "vLLM"


def test_a_header_that_cannot_be_shown_says_nothing() -> None:
    shown = {"nginx": "nginx", "\x1b[2J": "", "x" * 100: "", "": ""}
    for written, name in shown.items():
        assert header_of(Answer(status=200, headers={"server": written}, body=b"")) == name
    assert (phrase("nginx"), phrase("")) == (" (it seems to be nginx)", "")


def stranger(url: str, **more: object) -> Endpoint:
    return msgspec.convert(
        {"name": "guess", "provider": "llamacpp", "url": url, "source": "default"} | more, Endpoint
    )


async def test_a_stranger_is_named_and_its_models_are_listed(http: Http) -> None:
    with OpenAiCompatible() as server:
        found = await identify_stranger(http, stranger(server.url), timeout=60.0)

        assert isinstance(found, Stranger)
        assert found.seems == phrase(GENERIC)
        assert [model.name for model in found.models or ()] == ["m"]


async def test_what_a_stranger_seemed_to_be_is_believed_while_it_stays_one(http: Http) -> None:
    seemed = fault("server.wrong", url="u", title="t", seems=" (it seems to be Jan)")
    with OpenAiCompatible() as server:
        same = stranger(server.url, state="wrong_server", reason=msgspec.to_builtins(seemed))

        found = await identify_stranger(http, same, timeout=60.0)

        assert isinstance(found, Stranger)
        assert found.seems == " (it seems to be Jan)"
        assert server.requests == [("GET", "/v1/models")]


async def test_who_has_gone_meanwhile_is_no_stranger(http: Http) -> None:
    with OpenAiCompatible() as server:
        gone = server.url
    found = await identify_stranger(http, stranger(gone), timeout=60.0)
    assert isinstance(found, NoAnswer)
    assert found.kind == "refused"


@pytest.mark.parametrize("kind", [Silent, HugeBody])
async def test_a_stranger_that_does_not_answer_is_one_all_the_same(
    http: Http, kind: Callable[[], Loopback]
) -> None:
    with kind() as server:
        assert await identify_stranger(http, stranger(server.url), timeout=0.15) == Stranger()


async def test_of_a_server_that_the_user_gave_silence_is_what_is_told(http: Http) -> None:
    with Silent() as server:
        given = stranger(server.url, source="configuration")
        found = await identify_stranger(http, given, timeout=0.15, name="Ollama")
    assert isinstance(found, NoAnswer)
    assert found.kind == "silent"
