"""How many requests a server works on, out of its metrics."""

from __future__ import annotations

import msgspec
import pytest

from hived.providers.counting import Counting, gauge
from hived.providers.llamacpp import LlamaCpp
from hived.providers.lm_studio import LmStudio
from hived.providers.ollama import Ollama
from hived.providers.vllm import QUIET, Vllm
from hived_client.vocabulary.requests import Requests
from tests.providers.looking import KEY, Says, at, looking
from tests.servers import llamacpp, vllm
from tests.servers.loopback import json_bytes

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("page", "count"),
    [
        (b"x 3\n", 3),
        (b'# TYPE x gauge\nx{engine="0"} 1.0\nx{engine="1"} 2e0\r\n', 3),
        (b"x 0.0\n", 0),
        (b"xy 3\ny 3\n", None),
        (b"", None),
        (b"x -3\n", None),
        (b"x 1e999\n", None),
        (b"x ...\n", None),
        (b"x " + b"9" * 40 + b"\n", None),
    ],
)
def test_a_gauge_is_summed_over_its_labels(page: bytes, count: int | None) -> None:
    assert gauge(page, "x") == count


async def test_vllm_tells_unless_it_was_told_not_to_count() -> None:
    with vllm.Vllm() as server:
        async with looking(Vllm) as eye:
            endpoint = await eye.learnt(at("vllm", server.url))
            server.running, server.waiting = 3, 2
            assert isinstance(eye.probe, Counting)
            before = eye.http.requests
            assert await eye.probe.count_requests(endpoint) == Requests(running=3, waiting=2)
            assert eye.http.requests - before == 1
            quiet = msgspec.structs.replace(endpoint, mode=QUIET)
            assert await eye.probe.count_requests(quiet) is None
            assert eye.http.requests - before == 1


METRICS = b"llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n"


async def test_llamacpp_tells_where_it_was_started_with_metrics_and_is_asked_once_where_not() -> None:
    said = {"/health": (200, json_bytes({"status": "ok"})), "/metrics": (200, METRICS)}
    async with looking(LlamaCpp, LAB_KEY=KEY) as eye:
        assert isinstance(eye.probe, Counting)
        with Says(said, server="llama.cpp") as server:
            single = at("llamacpp", server.url, mode="single", state="ready", since=1.0)
            assert await eye.probe.count_requests(single) == Requests(running=2, waiting=1)
            before = len(server.requests)
            router = msgspec.structs.replace(single, mode="router")
            assert await eye.probe.count_requests(router) is None
            assert len(server.requests) == before
        with Says(said | {"/metrics": (501, b"{}")}, server="llama.cpp") as server:
            single = at("llamacpp", server.url, mode="single", state="ready", since=1.0)
            for _ in range(5):
                assert await eye.probe.count_requests(single) is None
            assert [path for _, path in server.requests] == ["/metrics"]
            again = msgspec.structs.replace(single, since=2.0)
            await eye.probe.count_requests(again)
            assert len(server.requests) == 2
        with Says(said) as stranger:
            keyed = at("llamacpp", stranger.url, mode="single", state="ready", key_ref="LAB_KEY")
            assert await eye.probe.count_requests(keyed) is None
            assert [path for _, path in stranger.requests] == ["/health"]


async def test_the_others_do_not_tell() -> None:
    for make in (Ollama, LmStudio):
        async with looking(make) as eye:
            assert not isinstance(eye.probe, Counting)


@pytest.mark.slow
async def test_the_real_llamacpp_tells_and_is_not_kept_busy_by_it() -> None:
    with llamacpp.LlamaCpp() as server:
        async with looking(LlamaCpp) as eye:
            endpoint = await eye.learnt(at("llamacpp", server.url))
            assert isinstance(eye.probe, Counting)
            assert await eye.probe.count_requests(endpoint) == Requests(running=0, waiting=0)
