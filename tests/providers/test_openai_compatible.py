"""The probe of what only speaks OpenAI's dialect: it is asked for its models, and for nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from hived.decisions.cadence import requests_at_rest
from hived.decisions.outcomes import Heard, Locked, NoAnswer, Stranger
from hived.providers.openai_compatible import OpenAiCompatible
from hived_client.vocabulary.world import Endpoint, Model
from tests.providers.looking import KEY, NASTY, Looking, Says, at, believing, looking
from tests.servers.loading import LlamaCppLoading
from tests.servers.loopback import Reply, Request
from tests.servers.vllm import Vllm

pytestmark = pytest.mark.anyio

REFUSALS = (
    b'{"error":{"message":"no key"}}',
    b'{"error":"Unauthorized"}',
    b'{"detail":"Not authenticated"}',
    b'{"message":"who are you"}',
)


@pytest.fixture
async def eye() -> AsyncIterator[Looking]:
    async with looking(OpenAiCompatible, LAB_KEY=KEY, WRONG="nonsense") as one:
        yield one


def given(url: str, **more: object) -> Endpoint:
    return at("openai_compatible", url, **more)


def lists(*data: object, server: str = "") -> Says:
    listing = {"object": "list", "data": list(data)}
    return Says({"/v1/models": (200, json.dumps(listing).encode())}, server=server)


class Guarded(Says):
    """Refuses at its models whoever brings another key."""

    def __init__(self, refusal: bytes) -> None:
        super().__init__({"/v1/models": (200, b'{"object":"list","data":[{"id":"m"}]}')})
        self.refusal = refusal

    def answer(self, request: Request) -> Reply:
        allowed = super().answer(request)
        if request.headers.get("authorization") == f"Bearer {KEY}":
            return allowed
        headers = (("Content-Length", str(len(self.refusal))),)
        return Reply(status=401, headers=headers, body=self.refusal)


async def test_one_question_is_all_that_is_ever_asked(eye: Looking) -> None:
    with lists({"id": "a"}, {"id": "b"}) as server:
        ready = await eye.learnt(given(server.url))
        assert (ready.state, ready.models, eye.cost) == ("ready", (Model(name="a"), Model(name="b")), 1)
        assert await eye.learnt(ready, thorough=False) == ready
        assert server.requests == [("GET", "/v1/models")] * 2
        assert not any({"authorization", "origin"} & headers.keys() for _, headers in server.heads)
        assert requests_at_rest(ready) == 1


@pytest.mark.parametrize(
    ("owners", "header", "locality"),
    [
        (["vllm", "vllm"], "uvicorn", "device"),
        (["sglang"], "", "device"),
        (["llamacpp"], "", "device"),
        (["openai"], "llama.cpp", "device"),
        (["vllm", "openai"], "uvicorn", None),
        (["openai"], "uvicorn", None),
        ([["vllm"]], "", None),
        ([None], "", None),
        ([], "", None),
    ],
)
async def test_only_what_says_that_it_runs_its_models_is_on_this_device(
    eye: Looking, owners: list[object], header: str, locality: str | None
) -> None:
    data = [{"id": f"m{n}", "owned_by": owner} for n, owner in enumerate(owners)]
    with lists(*data, server=header) as server:
        assert (await eye.learnt(given(server.url, locality="device"))).locality == locality


async def test_real_kinds_are_of_use_through_the_common_dialect(eye: Looking) -> None:
    with Vllm(max_model_len=4096) as server:
        (model,) = (await eye.heard(given(server.url))).models or ()
        assert (model.name, model.context, model.loaded_context) == ("tiny-random", 4096, 4096)
    with LlamaCppLoading() as loading:
        assert await eye.look(given(loading.url)) == Heard(state="loading")
        loading.finish()
        (model,) = (await eye.heard(given(loading.url))).models or ()
        assert (model.loaded_context, model.context) == (512, 2048)


async def test_what_some_tell_of_a_model_is_read(eye: Looking) -> None:
    with lists({"id": "a", "context_length": 8192}, {"id": "b", "max_model_len": 512}) as server:
        a, b = (await eye.heard(given(server.url))).models or ()
        assert (a.context, a.loaded_context) == (8192, None)
        assert (b.context, b.loaded_context) == (512, 512)


# Keys.


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_the_key_is_sent_once_a_server_of_this_dialect_asks_for_one(
    eye: Looking, refusal: bytes
) -> None:
    with Guarded(refusal) as server:
        for ref in (None, "UNSET", "WRONG"):
            assert await eye.look(given(server.url, key_ref=ref)) == Locked()
        server.heads.clear()
        ready = await eye.learnt(given(server.url, key_ref="LAB_KEY"))
        assert (ready.state, eye.cost) == ("ready", 2)
        assert ["authorization" in headers for _, headers in server.heads] == [False, True]
        assert await eye.learnt(ready, thorough=False) == ready
        assert eye.cost == 2 == requests_at_rest(ready)


async def test_a_key_that_is_not_needed_stays_at_home(eye: Looking) -> None:
    with lists({"id": "a"}) as server:
        await eye.heard(given(server.url, key_ref="LAB_KEY"))
        assert server.keyed == []


@pytest.mark.parametrize("refusal", [b"<html>log in</html>", b"", b"[]", b'"no"', b'{"status":"no"}'])
async def test_a_login_page_gets_no_key(eye: Looking, refusal: bytes) -> None:
    with Guarded(refusal) as server:
        outcome = await eye.look(given(server.url, key_ref="LAB_KEY"))
        assert isinstance(outcome, Stranger)
        assert server.keyed == []


# Everything else.


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (503, b'{"error":{"message":"Loading model"}}', Heard(state="loading", forwards=True)),
        (503, b'{"status":"starting","reason":"x"}', Heard(state="loading", forwards=True)),
        (503, b'{"error":"overloaded"}', NoAnswer(kind="failed", why="/v1/models has status 503")),
        (503, b"<html>starting", NoAnswer(kind="failed", why="/v1/models has status 503")),
        (502, b"{}", NoAnswer(kind="failed", why="/v1/models has status 502")),
        (404, b"{}", Stranger(seems=" (it seems to be nginx)")),
        (200, b'{"status":"ok"}', Stranger(seems=" (it seems to be nginx)")),
        (200, b'{"object":"list","data":null}', Stranger(seems=" (it seems to be nginx)")),
    ],
)
async def test_what_is_no_list_says_how_the_server_is(
    eye: Looking, status: int, body: bytes, outcome: object
) -> None:
    with Says({"/v1/models": (status, body)}, server="nginx") as server:
        assert await eye.look(given(server.url)) == outcome


async def test_no_value_of_a_field_breaks_the_look_or_hides_another_model(eye: Looking) -> None:
    with lists() as server:
        for field in ("id", "owned_by", "meta", "max_model_len", "context_length"):
            entries = [{"id": f"m{n}", field: value} for n, value in enumerate(NASTY)]
            data = [*entries, *NASTY, {"id": "good"}]
            server.answers["/v1/models"] = (200, json.dumps({"object": "list", "data": data}).encode())
            found = await eye.heard(given(server.url))
            msgspec.msgpack.encode(believing(given(server.url), found))
            names = [model.name for model in found.models or ()]
            assert names[-1] == "good"
            assert len(names) == (1 if field == "id" else 1 + len(NASTY))
            assert all(name.isprintable() for name in names)


async def test_there_is_nothing_to_listen_to(eye: Looking) -> None:
    endpoint = given("http://127.0.0.1:1")
    assert not eye.probe.has_push(endpoint)
    told: list[int] = []
    await eye.probe.push(endpoint, lambda: told.append(1))
    assert (told, eye.http.requests) == ([], 0)
