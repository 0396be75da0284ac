"""The probe of vLLM: what it tells without a key, what it cannot tell, and whom it does not believe."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from hived.decisions.cadence import requests_at_rest
from hived.decisions.outcomes import Locked, NoAnswer, Stranger
from hived.providers.vllm import COUNTED, QUIET, Vllm
from hived_client.vocabulary.world import Endpoint, Model
from tests.providers.looking import KEY, NASTY, Looking, Says, at, believing, looking
from tests.servers import vllm
from tests.servers.loopback import Reply, Request

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace

LISTING = {"object": "list", "data": [{"id": "m", "owned_by": "vllm", "root": "m", "max_model_len": 512}]}
METRIC = b'vllm:num_requests_running{engine="0",model_name="m"} %s\n'
BELIEF: dict[str, object] = {
    "state": "ready",
    "version": "0.32.0",
    "mode": COUNTED,
    "models": (Model(name="m", state="loaded", context=512, loaded_context=512),),
}


class NotingVllm(vllm.Vllm):
    """Keeps the headers of every request."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[tuple[str, dict[str, str]]] = []

    def answer(self, request: Request) -> Reply:
        self.heads.append((request.path, request.headers))
        return super().answer(request)


@pytest.fixture
async def eye() -> AsyncIterator[Looking]:
    async with looking(Vllm, LAB_KEY=KEY, WRONG="nonsense") as one:
        yield one


def given(url: str, **more: object) -> Endpoint:
    return at("vllm", url, **more)


def lying(
    listing: object = LISTING,
    *,
    version: object = {"version": "0.32.0"},
    metrics: bytes = METRIC % b"0.0",
    health: int = 200,
) -> Says:
    return Says(
        {
            "/version": (200, json.dumps(version).encode()),
            "/health": (health, b""),
            "/v1/models": (200, json.dumps(listing).encode()),
            "/metrics": (200, metrics),
        }
    )


# What it tells.


async def test_a_server_says_all_that_it_can(eye: Looking) -> None:
    with vllm.Vllm(("qwen", "best"), root="Qwen/Qwen3-8B", max_model_len=40960) as server:
        server.add_adapter("sql", "/adapters/sql")
        found = await eye.heard(given(server.url))
        assert (found.state, found.version, found.mode, eye.cost) == ("ready", "0.32.0", COUNTED, 4)
        assert server.requests == [("GET", p) for p in ("/version", "/v1/models", "/health", "/metrics")]
        qwen, best, sql = found.models or ()
        assert qwen == Model(
            name="qwen",
            aliases=("Qwen/Qwen3-8B",),
            state="loaded",
            context=40960,
            loaded_context=40960,
            adapters=("sql",),
        )
        assert best == replace(qwen, name="best", adapters=())
        assert sql == Model(
            name="sql", file="/adapters/sql", state="loaded", context=40960, loaded_context=40960
        )
        assert believing(given(server.url), found).locality == "device"
        server.remove_adapter("sql")
        assert len((await eye.heard(given(server.url))).models or ()) == 2


async def test_a_glance_costs_two_requests_and_the_key_goes_with_the_second(eye: Looking) -> None:
    with NotingVllm() as server:
        server.require_key(KEY)
        ready = await eye.learnt(given(server.url, key_ref="LAB_KEY"))
        assert (ready.state, eye.cost) == ("ready", 5)
        server.heads.clear()
        assert await eye.learnt(ready, thorough=False) == ready
        assert [(path, "authorization" in headers) for path, headers in server.heads] == [
            ("/metrics", False),
            ("/v1/models", True),
        ]
        assert requests_at_rest(ready) == eye.cost == 2


@pytest.mark.parametrize("key", [None, KEY])
async def test_a_glance_sees_adapters_that_come_and_go_while_it_runs(eye: Looking, key: str | None) -> None:
    with vllm.Vllm() as server:
        server.require_key(key)
        endpoint = await eye.learnt(given(server.url, key_ref="LAB_KEY" if key else None))
        server.add_adapter("sql", "/adapters/sql")
        endpoint = await eye.learnt(endpoint, thorough=False)
        assert [model.name for model in endpoint.models or ()] == [vllm.ALIAS, "sql"]
        assert await eye.learnt(endpoint, thorough=False) == endpoint
        server.remove_adapter("sql")
        endpoint = await eye.learnt(endpoint, thorough=False)
        assert [model.name for model in endpoint.models or ()] == [vllm.ALIAS]


async def test_work_shows_as_busy_and_its_end_as_ready(eye: Looking) -> None:
    with vllm.Vllm() as server:
        ready = await eye.learnt(given(server.url))
        server.waiting = 1
        busy = await eye.learnt(ready, thorough=False)
        assert (busy.state, busy.models, eye.cost) == ("busy", ready.models, 3)
        server.running, server.waiting = 2, 0
        assert (await eye.learnt(given(server.url))).state == "busy"
        server.running = 0
        assert await eye.learnt(busy, thorough=False) == ready
        assert eye.cost == 2


@pytest.mark.parametrize("level", [1, 2])
async def test_sleep_is_seen_and_never_disturbed(eye: Looking, level: int) -> None:
    with vllm.Vllm(dev_mode=True) as server:
        ready = await eye.learnt(given(server.url))
        server.sleep(level)
        asleep = await eye.learnt(ready, thorough=False)
        assert asleep.state == "sleeping"
        assert [model.state for model in asleep.models or ()] == ["sleeping"]
        assert (await eye.learnt(asleep, thorough=False), eye.cost) == (asleep, 2)
        assert (await eye.learnt(asleep)) == asleep
        assert (server.woken_by, server.sleep_level) == ([], level)
        assert {method for method, _ in server.requests} == {"GET"}
        server.wake()
        assert await eye.learnt(asleep, thorough=False) == ready


async def test_without_statistics_it_is_known_by_its_list(eye: Looking) -> None:
    with vllm.Vllm(log_stats=False) as server:
        ready = await eye.learnt(given(server.url))
        assert (ready.state, ready.mode) == ("ready", QUIET)
        server.requests.clear()
        assert await eye.learnt(ready, thorough=False) == ready
        assert server.requests == [("GET", "/v1/models")]
        server.add_adapter("sql", "/a")
        assert len((await eye.learnt(ready, thorough=False)).models or ()) == 2
        server.require_key(KEY)
        keyed = await eye.learnt(replace(ready, key_ref="LAB_KEY"))
        server.requests.clear()
        assert await eye.learnt(keyed, thorough=False) == keyed
        assert server.requests == [("GET", "/version"), ("GET", "/v1/models")]


async def test_another_model_behind_the_same_port_is_noticed_by_a_glance(eye: Looking) -> None:
    with vllm.Vllm(("a",)) as first:
        ready, port = await eye.learnt(given(first.url)), first.port
    with vllm.Vllm(("b",), port=port):
        after = await eye.learnt(ready, thorough=False)
        assert ([model.name for model in after.models or ()], eye.cost) == (["b"], 2 + 4)


# Its health lies.


async def test_while_it_starts_it_refuses(eye: Looking) -> None:
    with vllm.Vllm(starting=True) as server:
        assert await eye.look(given(server.url)) == NoAnswer(kind="refused", why="connection refused")
        server.finish_start()
        assert (await eye.learnt(given(server.url))).state == "ready"


async def test_a_stopped_engine_cannot_be_told_from_a_running_one(eye: Looking) -> None:
    """Only a completion would show it, and looking must not generate: this is known and accepted."""
    with vllm.Vllm() as server:
        ready = await eye.learnt(given(server.url))
        server.stop_engine()
        for thorough in (True, False):
            assert await eye.learnt(ready, thorough=thorough) == ready


async def test_a_dead_engine_is_a_failure_until_the_process_is_gone(eye: Looking) -> None:
    with vllm.Vllm() as server:
        ready = await eye.learnt(given(server.url))
        server.running = 1
        server.kill_engine()
        for thorough in (True, False):
            failed = await eye.learnt(ready, thorough=thorough)
            assert (failed.state, failed.models) == ("failed", ready.models)
            assert failed.reason is not None
            assert (failed.reason.code, "its engine is dead" in failed.reason.message) == (
                "server.failed",
                True,
            )
        server.exit_process()
        gone = await eye.learnt(failed)
        assert (gone.state, [model.state for model in gone.models or ()]) == ("down", ["unloaded"])


# Keys.


async def test_who_has_no_key_learns_that_it_is_vllm_and_which(eye: Looking) -> None:
    with NotingVllm() as server:
        server.require_key(KEY)
        for ref in (None, "UNSET"):
            assert (await eye.look(given(server.url, key_ref=ref)), eye.cost) == (Locked(version="0.32.0"), 2)
        assert not any("authorization" in headers for _, headers in server.heads)
        for ref, cost in (("UNSET", 2), ("WRONG", 3)):
            locked = await eye.learnt(given(server.url, key_ref=ref))
            assert (locked.state, locked.version, eye.cost) == ("unauthorised", "0.32.0", cost)
            assert requests_at_rest(locked) >= cost


async def test_the_key_goes_to_the_models_only_and_only_after_the_refusal(eye: Looking) -> None:
    with NotingVllm() as server:
        server.require_key(KEY)
        assert (await eye.learnt(given(server.url, key_ref="LAB_KEY"))).state == "ready"
        sent = [(path, headers.get("authorization")) for path, headers in server.heads]
        assert sent == [
            ("/version", None),
            ("/v1/models", None),
            ("/v1/models", f"Bearer {KEY}"),
            ("/health", None),
            ("/metrics", None),
        ]
        assert not any("origin" in headers for _, headers in server.heads)


@pytest.mark.parametrize("belief", [{}, BELIEF, BELIEF | {"mode": QUIET}, {"state": "unauthorised"}])
async def test_the_key_is_never_sent_to_whoever_has_the_port_now(
    eye: Looking, belief: dict[str, object]
) -> None:
    refusals = (b'{"error":{"message":"no"}}', b'{"error":"Forbidden"}', b"Unauthorized", b"")
    versions = (b'{"version":"9"}',) * len(refusals) + (b"{}",)
    with lying() as server:
        for refusal, version in zip((*refusals, b""), versions, strict=True):
            told = {"/v1/models": (401, refusal), "/metrics": (404, b""), "/version": (200, version)}
            server.answers |= told
            for thorough in (True, False):
                outcome = await eye.look(given(server.url, key_ref="LAB_KEY", **belief), thorough=thorough)
                assert isinstance(outcome, Stranger), outcome
        assert server.keyed == []


async def test_gpustack_answers_as_vllm_does_but_for_one_word_and_gets_no_key(eye: Looking) -> None:
    with lying(version={"version": "2.2.3", "git_commit": "abc"}) as server:
        server.answers["/v1/models"] = (401, b'{"error":"Unauthorized"}')
        assert isinstance(await eye.look(given(server.url, key_ref="LAB_KEY")), Stranger)
        assert server.keyed == []


async def test_behind_somebody_elses_refusal_its_metrics_show_what_it_is(eye: Looking) -> None:
    with lying() as server:
        server.answers["/v1/models"] = (401, b"<html>")
        assert await eye.look(given(server.url)) == Locked(version="0.32.0")
        assert await eye.look(given(server.url, key_ref="LAB_KEY")) == Locked(version="0.32.0")
        assert server.keyed == ["/v1/models"]


# Strangers and liars.


@pytest.mark.parametrize("owner", ["localai", "docker", None, ["vllm"], 5])
async def test_a_version_alone_makes_no_vllm(eye: Looking, owner: object) -> None:
    listing = {"object": "list", "data": [{"id": "m", "owned_by": owner}]}
    with lying(listing) as server:
        outcome = await eye.look(given(server.url))
        assert isinstance(outcome, Stranger)
        assert [model.name for model in outcome.models or ()] == ["m"]
        assert eye.cost == 2
        usable = believing(given(server.url), outcome)
        assert (usable.state, usable.locality, usable.warnings[0].code) == (
            "ready",
            None,
            "server.other_dialect",
        )
        await eye.look(usable, thorough=False)
        assert eye.cost == 2


async def test_no_value_of_a_field_breaks_the_look(eye: Looking) -> None:
    good = {"id": "good", "owned_by": "vllm"}
    with lying() as server:
        for field in ("id", "root", "parent", "max_model_len", "owned_by"):
            cards = [{"id": f"m{n}", "owned_by": "vllm", field: value} for n, value in enumerate(NASTY)]
            listing = {"object": "list", "data": [good, *cards, *NASTY]}
            server.answers["/v1/models"] = (200, json.dumps(listing).encode())
            found = believing(given(server.url), await eye.heard(given(server.url)))
            msgspec.msgpack.encode(found)
            names = [model.name for model in found.models or ()]
            assert names[0] == "good"
            assert len(names) == (1 if field == "id" else 1 + len(NASTY))
            assert all(name.isprintable() for name in names)
        for owner in NASTY:
            listing = {"object": "list", "data": [good | {"owned_by": owner}]}
            server.answers["/v1/models"] = (200, json.dumps(listing).encode())
            assert isinstance(await eye.look(given(server.url)), Stranger)


@pytest.mark.parametrize(
    "metrics",
    [
        METRIC % b"NaN",
        METRIC % b"+Inf",
        METRIC % b"1e999",
        METRIC % b"-1",
        METRIC % (b"9" * 1000),
        b"vllm:num_requests_running",
        b"vllm:num_requests_running{" + b"x" * 100_000 + b"} 1.0\n",
        b"\xff\xfe\x00" * 1000,
        b"",
    ],
)
async def test_metrics_that_mean_nothing_are_unknown_and_not_zero(eye: Looking, metrics: bytes) -> None:
    with lying(metrics=metrics) as server:
        found = await eye.heard(given(server.url))
        ready = believing(given(server.url), found)
        assert (found.state, found.mode) == ("ready", QUIET)
        await eye.heard(ready, thorough=False)


@pytest.mark.parametrize(
    "listing", [[], {}, {"data": {}}, {"data": []}, {"data": [{"owned_by": "vllm"}]}, "words", None]
)
async def test_a_list_that_is_none_is_not_used(eye: Looking, listing: object) -> None:
    with lying(listing) as server:
        outcome = await eye.look(given(server.url))
        assert isinstance(outcome, NoAnswer), outcome
        assert outcome.kind == "broken"


async def test_an_adapter_of_itself_or_of_nobody_is_a_model(eye: Looking) -> None:
    cards = [
        {"id": "a", "owned_by": "vllm", "parent": "a", "max_model_len": 8},
        {"id": "b", "parent": "nobody", "max_model_len": None},
    ]
    with lying({"object": "list", "data": cards}) as server:
        found = await eye.heard(given(server.url))
        assert found.models == (
            Model(name="a", state="loaded", context=8, loaded_context=8),
            Model(name="b", state="loaded"),
        )


async def test_there_is_nothing_to_listen_to(eye: Looking) -> None:
    endpoint = given("http://127.0.0.1:1")
    assert not eye.probe.has_push(endpoint)
    told: list[int] = []
    await eye.probe.push(endpoint, lambda: told.append(1))
    assert (told, eye.http.requests) == ([], 0)
