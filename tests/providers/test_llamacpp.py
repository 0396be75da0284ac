"""The probe of llama.cpp: against the real server, the faithful fakes, and everything that lies."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome, Stranger
from hived.providers.http import LARGE, LOOK_TIMEOUT, Http
from hived.providers.llamacpp import LlamaCpp
from hived.providers.reach import key_for
from hived_client.vocabulary.world import Endpoint, Model
from tests.providers.looking import KEY, PATIENCE, Looking, believing, looking
from tests.providers.looking import at as given
from tests.servers import llamacpp, strangers
from tests.servers.llamacpp_router import LlamaCppRouter
from tests.servers.loading import LlamaCppLoading
from tests.servers.loopback import HttpLoopback, Loopback, Reply, Request
from tests.servers.strangers import LIES, LyingLlamaCpp, Redirects

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace

# A real server, and each of many lies, is met on one backend; what differs between the two is met on both.
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])
MODELS = (Model(name="m", state="loaded", file="/m.gguf", loaded_context=512),)


def at(url: str, **more: object) -> Endpoint:
    return given("llamacpp", url, locality="device", **more)


@pytest.fixture
async def eye() -> AsyncIterator[Looking]:
    async with looking(LlamaCpp, LAB_KEY=KEY) as one:
        yield one


def states(outcome: Heard) -> dict[str, str | None]:
    return {model.name: model.state for model in outcome.models or ()}


# The real server.


@pytest.fixture(scope="module")
def real() -> Iterator[llamacpp.LlamaCpp]:
    pytest.importorskip("xllamacpp")
    extra = ("--threads", "1", "--parallel", "2")
    with llamacpp.LlamaCpp(context=1024, extra=extra) as server:
        yield server


async def test_a_real_server_says_all_that_a_call_needs(eye: Looking, real: llamacpp.LlamaCpp) -> None:
    found = await eye.heard(at(real.url))
    assert (found.state, found.mode, eye.cost) == ("ready", "single", 3)
    assert found.version is None  # the wheel was built outside git: "b0-unknown"
    (model,) = found.models or ()
    assert (model.name, model.state, model.file) == (llamacpp.ALIAS, "loaded", str(real.model))
    assert model.loaded_context == 512  # 1024 shared by two slots
    assert model.context
    assert model.context >= model.loaded_context
    assert model.size
    assert model.parameters
    assert model.quantization
    assert set(model.capabilities or ()) == {"completion", "tools"}


async def test_a_glance_at_a_real_server_costs_one_request_and_changes_nothing(
    eye: Looking, real: llamacpp.LlamaCpp
) -> None:
    endpoint = believing(at(real.url), await eye.heard(at(real.url)))
    found = await eye.heard(endpoint, thorough=False)
    assert eye.cost == 1
    assert believing(endpoint, found) == endpoint


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "b1"},
        {"models": ()},
        {"models": (Model(name="x", file="/other.gguf", loaded_context=512),)},
        {"models": (Model(name="x", loaded_context=512),)},
        {"state": "sleeping"},
    ],
)
async def test_a_glance_that_confirms_nothing_becomes_a_whole_look(
    eye: Looking, real: llamacpp.LlamaCpp, wrong: dict[str, object]
) -> None:
    endpoint = believing(at(real.url), await eye.heard(at(real.url)))
    found = await eye.heard(replace(endpoint, **wrong), thorough=False)
    assert eye.cost == 4
    assert believing(endpoint, found) == endpoint


def test_looking_never_wakes_a_sleeping_server() -> None:
    pytest.importorskip("xllamacpp")
    extra = ("--threads", "1", "--parallel", "1", "--sleep-idle-seconds", "1")

    async def watch(server: llamacpp.LlamaCpp) -> None:
        async with looking(LlamaCpp) as eye:
            endpoint = at(server.url)
            with anyio.fail_after(60.0):
                while endpoint.state != "sleeping":
                    endpoint = believing(endpoint, await eye.heard(endpoint))
                    await anyio.sleep(0.05)
            (model,) = endpoint.models or ()
            assert (model.state, model.name) == ("sleeping", llamacpp.ALIAS)
            until, seen, n = anyio.current_time() + 2.1, set(), 0  # two of its idle times
            while anyio.current_time() < until:
                n += 1
                seen.add((await eye.heard(endpoint, thorough=n % 3 == 0)).state)
                assert eye.cost == (3 if n % 3 == 0 else 1)
                await anyio.sleep(0.05)
            assert seen == {"sleeping"}
            # And a look would have told, had it been woken.
            assert await anyio.to_thread.run_sync(server.get_status, "/slots") == 200
            assert (await eye.heard(endpoint, thorough=False)).state == "ready"

    with llamacpp.LlamaCpp(extra=extra) as server:
        anyio.run(watch, server)


@on_asyncio
async def test_a_real_server_with_a_key(eye: Looking, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "key").write_text(KEY + "\n")
    extra = ("--threads", "1", "--parallel", "1", "--api-key-file", str(tmp_path / "key"))
    with llamacpp.LlamaCpp(extra=extra) as server:
        for ref in (None, "UNSET", "WRONG"):
            async with looking(LlamaCpp, WRONG="nonsense") as other:
                assert await other.look(at(server.url, key_ref=ref)) == Locked()
        locked = believing(at(server.url, key_ref="LAB_KEY"), Locked())
        found = await eye.heard(locked)
        assert (found.state, found.mode, states(found)) == ("ready", "single", {llamacpp.ALIAS: "loaded"})
        ready = believing(locked, found)
        assert (await eye.heard(ready, thorough=False), eye.cost) == (Heard(state="ready"), 1)


@on_trio
async def test_a_real_server_that_is_stopped_goes_on_and_is_killed(eye: Looking) -> None:
    pytest.importorskip("xllamacpp")
    with llamacpp.LlamaCpp() as server:
        ready = believing(at(server.url), await eye.heard(at(server.url)))
        server.stop_process()
        began = anyio.current_time()
        with anyio.fail_after(60.0):
            outcome = await eye.look(ready, thorough=False)
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "silent"
        assert anyio.current_time() - began >= LOOK_TIMEOUT - 0.1
        server.continue_process()
        assert believing(ready, await eye.look(ready)) == ready
        server.kill(signal.SIGKILL)
        for thorough in (True, False):
            assert await eye.look(ready, thorough=thorough) == NoAnswer(
                kind="refused", why="connection refused"
            )


@on_asyncio
async def test_a_real_server_from_its_start_is_refused_or_loading_and_then_ready(eye: Looking) -> None:
    pytest.importorskip("xllamacpp")
    with llamacpp.LlamaCpp(wait=False) as server, anyio.fail_after(60.0):
        while True:
            outcome = await eye.look(at(server.url))
            if isinstance(outcome, Heard) and outcome.state == "ready":
                break
            assert isinstance(outcome, NoAnswer) or outcome == Heard(state="loading")
            await anyio.sleep(0.01)


# One model, as the fake has it.


async def test_a_server_that_loads_says_so_for_one_request(eye: Looking) -> None:
    with LlamaCppLoading() as server:
        for _ in range(2):
            assert (await eye.look(at(server.url)), eye.cost) == (Heard(state="loading"), 1)
        server.finish()
        found = await eye.heard(at(server.url))
        assert (found.state, eye.cost) == ("ready", 3)
        ready = believing(at(server.url), found)
        server.sleep()
        asleep = await eye.heard(ready, thorough=False)
        assert (asleep.state, eye.cost) == ("sleeping", 4)
        sleeping = believing(ready, asleep)
        assert (await eye.heard(sleeping, thorough=False), eye.cost) == (Heard(state="sleeping"), 1)
        assert server.woken_by == []
        server.wake()
        assert believing(sleeping, await eye.heard(sleeping, thorough=False)) == replace(ready, since=1.0)


async def test_a_sleeping_server_with_a_key_is_confirmed_by_two_requests(eye: Looking) -> None:
    with LlamaCppLoading() as server:
        server.finish()
        server.sleep()
        server.require_key(KEY)
        found = await eye.heard(at(server.url, key_ref="LAB_KEY"))
        asleep = believing(at(server.url, key_ref="LAB_KEY"), found)
        assert (await eye.heard(asleep, thorough=False), eye.cost) == (Heard(state="sleeping"), 2)
        assert server.woken_by == []


async def test_only_three_questions_are_ever_asked(eye: Looking) -> None:
    with LlamaCppLoading() as server:
        server.finish()
        ready = believing(at(server.url), await eye.heard(at(server.url)))
        await eye.heard(ready, thorough=False)
        assert server.requests == [("GET", path) for path in ("/health", "/props", "/v1/models", "/props")]


# A router.


async def test_a_router_says_how_each_model_is_and_nothing_is_loaded_for_it(eye: Looking) -> None:
    with LlamaCppRouter() as server:
        found = await eye.heard(at(server.url))
        assert (found.state, found.mode, eye.cost) == ("ready", "router", 3)
        assert states(found) == {"tiny-a": "unloaded", "tiny-b": "unloaded"}
        server.load("tiny-b")
        router = believing(at(server.url), found)
        found = await eye.heard(router)
        assert (states(found), eye.cost) == ({"tiny-a": "unloaded", "tiny-b": "loaded"}, 4)
        (_, loaded) = found.models or ()
        assert loaded.loaded_context
        assert loaded.capabilities
        assert "completion" in loaded.capabilities
        assert loaded.file is not None
        router = believing(router, found)
        assert (believing(router, await eye.heard(router, thorough=False)), eye.cost) == (router, 1)
        server.sleep("tiny-b")
        for thorough in (True, False):
            found = await eye.heard(router, thorough=thorough)
            assert states(found) == {"tiny-a": "unloaded", "tiny-b": "sleeping"}
        assert [load.cause for load in server.loads] == ["test"]


async def test_a_load_that_fails_is_a_fault_of_that_model_only(eye: Looking) -> None:
    with LlamaCppRouter(models_max=2) as server:
        server.load("tiny-a")
        server.fail_load("tiny-b", exit_code=137)
        server.load("tiny-b")
        found = await eye.heard(at(server.url))
        assert states(found) == {"tiny-a": "loaded", "tiny-b": "failed"}
        problem = (found.models or ())[1].fault
        assert problem is not None
        assert (problem.code, problem.fields["exit_code"]) == ("model.failed", 137)


async def test_a_model_that_loads_or_is_downloaded_is_seen_on_its_way(eye: Looking) -> None:
    with LlamaCppRouter(load_seconds=30.0) as server:
        server.load("tiny-a", wait=False)
        server.start_download("user/repo:Q4")
        server.progress_download("user/repo:Q4", done=1, total=4)
        found = await eye.heard(at(server.url))
        assert states(found) == {"tiny-a": "loading", "tiny-b": "unloaded", "user/repo:Q4": "downloading"}


async def test_how_far_a_model_is_comes_from_the_events_for_as_long_as_they_come(eye: Looking) -> None:
    with LlamaCppRouter(load_seconds=30.0) as server:
        endpoint = at(server.url)
        told: list[None] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(eye.probe.push, endpoint, lambda: told.append(None))
            await anyio.to_thread.run_sync(server.wait_sse_clients, 1)
            server.start_download("user/repo:Q4")
            server.progress_download("user/repo:Q4", done=1, total=4)
            with anyio.fail_after(60.0):
                while len(told) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            progress = {m.name: m.progress for m in (await eye.heard(endpoint)).models or ()}
            assert progress == {"tiny-a": None, "tiny-b": None, "user/repo:Q4": 0.25}
            tasks.cancel_scope.cancel()
        progress = {m.name: m.progress for m in (await eye.heard(endpoint)).models or ()}
        assert progress["user/repo:Q4"] is None


@on_trio
async def test_of_many_loaded_models_only_some_are_asked(eye: Looking) -> None:
    names = tuple(f"m{n}" for n in range(20))
    with LlamaCppRouter(names, load_seconds=0.0, models_max=0) as server:
        for name in names:
            server.load(name, wait=False)
        for name in names:
            server.wait_status(name, "loaded")
        found = await eye.heard(at(server.url))
        assert eye.cost == 3 + 16
        assert len(found.models or ()) == 20
        assert {load.cause for load in server.loads} == {"test"}


async def test_a_name_of_a_model_cannot_become_part_of_a_question(eye: Looking) -> None:
    name = rb'"a&autoload=true#/../x?model=b c"'
    listing = b'{"data":[{"id":%s,"status":{"value":"loaded"}}]}' % name
    with LyingLlamaCpp(props=b'{"role":"router"}', models=listing) as server:
        await eye.heard(at(server.url))
        asked = [target for _, target in server.requests if target.startswith("/props?")]
        assert asked == ["/props?model=a%26autoload%3Dtrue%23%2F..%2Fx%3Fmodel%3Db%20c&autoload=false"]


async def test_what_a_router_says_is_heard_at_once_and_the_end_of_it_too(eye: Looking) -> None:
    with LlamaCppRouter() as server:
        router = believing(at(server.url), await eye.heard(at(server.url)))
        assert eye.probe.has_push(router)
        told, ended = anyio.Event(), anyio.Event()

        async def listen() -> None:
            await eye.probe.push(router, told.set)
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.to_thread.run_sync(server.wait_sse_clients, 1)
            server.load("tiny-a", wait=False)
            with anyio.fail_after(60.0):
                await told.wait()
            server.close_sse()
            with anyio.fail_after(60.0):
                await ended.wait()
            told = anyio.Event()
            tasks.start_soon(listen)
            await anyio.to_thread.run_sync(server.wait_sse_clients, 1)
            server.unload("tiny-a", wait=False)
            with anyio.fail_after(60.0):
                await told.wait()
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(server.wait_sse_clients, 0)


def test_only_a_router_is_listened_to() -> None:
    probe = LlamaCpp(Http(), {})
    assert not probe.has_push(at("http://127.0.0.1:1", mode="single"))
    assert not probe.has_push(at("http://127.0.0.1:1"))


# Keys.


class Notes:
    """Keeps the headers of every request."""

    heads: list[tuple[str, str | None]]

    def note(self, request: Request) -> None:
        self.heads.append((request.path, request.headers.get("authorization")))


class NotingRouter(LlamaCppRouter, Notes):
    def __init__(self) -> None:
        super().__init__()
        self.heads = []

    def answer(self, request: Request) -> Reply:
        self.note(request)
        return super().answer(request)


class NotingStranger(strangers.OpenAiCompatible, Notes):
    def __init__(self) -> None:
        super().__init__()
        self.heads = []

    def answer(self, request: Request) -> Reply:
        self.note(request)
        return super().answer(request)


BELIEFS: list[dict[str, object]] = [
    {},
    {"state": "ready", "mode": "single", "version": "b1", "models": MODELS},
    {"state": "sleeping", "mode": "single", "version": "b1", "models": MODELS},
    {"state": "ready", "mode": "router", "version": "b1", "models": MODELS},
    {"state": "unauthorised", "mode": "router"},
]


@on_trio
@pytest.mark.parametrize("belief", BELIEFS)
async def test_the_key_is_never_sent_to_whoever_has_the_port_now(
    eye: Looking, belief: dict[str, object]
) -> None:
    with NotingStranger() as server:
        endpoint = at(server.url, key_ref="LAB_KEY", **belief)
        for thorough in (True, False):
            assert isinstance(await eye.look(endpoint, thorough=thorough), Stranger)
        await eye.probe.push(endpoint, lambda: None)
        assert server.heads
        assert {key for _, key in server.heads} == {None}


async def test_a_router_gets_the_key_once_it_has_shown_what_it_is(eye: Looking) -> None:
    with NotingRouter() as server:
        server.require_key(KEY)
        endpoint = at(server.url, key_ref="LAB_KEY")
        router = believing(endpoint, await eye.heard(endpoint))
        await eye.heard(router, thorough=False)
        assert eye.cost == 2
        told = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(eye.probe.push, router, told.set)
            await anyio.to_thread.run_sync(server.wait_sse_clients, 1)
            tasks.cancel_scope.cancel()
        assert {path for path, key in server.heads if key is None} == {"/health"}
        assert {key for path, key in server.heads if path != "/health"} == {f"Bearer {KEY}"}


async def test_the_llamacpp_that_comes_back_after_a_gateway_gets_its_key(eye: Looking) -> None:
    endpoint = at("http://127.0.0.1:1", key_ref="LAB_KEY")
    gateway = believing(endpoint, Stranger(models=MODELS))
    with LlamaCppLoading() as server:
        server.finish()
        server.require_key(KEY)
        found = await eye.heard(replace(gateway, url=server.url))
        assert found.state == "ready"


@pytest.mark.parametrize(
    ("url", "ref", "key"),
    [
        ("http://127.0.0.1:1", "LAB_KEY", "KEY"),
        ("http://10.0.0.7:1", "LAB_KEY", "KEY"),
        ("https://api.example.com", "LAB_KEY", "KEY"),
        ("http://api.example.com", "LAB_KEY", None),
        ("http://8.8.8.8", "LAB_KEY", None),
        ("http://127.0.0.1:1", None, None),
        ("http://127.0.0.1:1", "UNSET", None),
        ("http://127.0.0.1:1", "EMPTY", None),
        ("http://127.0.0.1:1", "LINE", "KEY"),
    ],
)
def test_a_key_is_never_sent_in_the_clear_beyond_the_house(
    url: str, ref: str | None, key: str | None
) -> None:
    environment = {"LAB_KEY": "KEY", "EMPTY": "", "LINE": "KEY\r\n"}
    assert key_for(at(url, key_ref=ref), environment) == key


# Strangers and liars.


@on_trio
async def test_no_stranger_is_believed_and_none_takes_longer_than_its_time(eye: Looking) -> None:
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(strangers.AnswersEverything())
        huge = strangers.HugeBody()
        all_of_them: list[Loopback] = [
            strangers.AnswersEverything(),
            strangers.AnswersJsonEverything(),
            strangers.OpenAiCompatible(),
            strangers.Silent(),
            strangers.Dribble(),
            strangers.Resets(),
            strangers.HalfResponse(),
            huge,
            strangers.GzipBomb(),
            strangers.DeepJson(),
            Redirects(target.url),
        ]
        servers = [stack.enter_context(each) for each in all_of_them]
        believed: list[tuple[str, Outcome]] = []
        slow: list[str] = []

        async def ask(server: Loopback, belief: dict[str, object], thorough: bool) -> None:
            began = anyio.current_time()
            outcome = await eye.probe.look(at(server.url, **belief), thorough=thorough)
            if not isinstance(outcome, Stranger | NoAnswer):
                believed.append((repr(server), outcome))
            if anyio.current_time() - began > PATIENCE:
                slow.append(repr(server))

        async with anyio.create_task_group() as tasks:
            for server in servers:
                for belief in (BELIEFS[0], BELIEFS[1], BELIEFS[3]):
                    tasks.start_soon(ask, server, belief, not belief)
        assert (believed, slow) == ([], [])
        assert target.connections == 0
        assert huge.sent < 4 * LARGE


@pytest.mark.parametrize("stranger", [strangers.HugeBody, strangers.HalfResponse, strangers.Resets])
async def test_a_stream_of_events_that_is_none_just_ends(
    eye: Looking, stranger: Callable[[], HttpLoopback]
) -> None:
    told: list[int] = []
    with stranger() as server, anyio.fail_after(60.0):
        await eye.probe.push(at(server.url, mode="router"), lambda: told.append(1))
    assert told == []


SHOWN = {
    "honest": "m",
    "strings": "m",
    "negative": "m",
    "fraction": "m",
    "many": "m0",
    "same_name": "m",
}
"""Lies of which something can be used all the same: the name of the model."""


@on_asyncio
@pytest.mark.parametrize("lie", LIES)
async def test_no_lie_is_believed_or_breaks_the_look(eye: Looking, lie: str) -> None:
    with LyingLlamaCpp(lie) as server:
        outcome = await eye.look(at(server.url))
        assert isinstance(outcome, Heard | NoAnswer), outcome
        for thorough in (True, False):
            for belief in (BELIEFS[1], BELIEFS[3]):
                await eye.look(at(server.url, **belief), thorough=thorough)
    found = believing(at(server.url), outcome)
    msgspec.msgpack.encode(found)
    if isinstance(outcome, NoAnswer):
        assert lie not in SHOWN
        assert (found.state, found.models) == ("failed", None)
        return
    for model in found.models or ():
        assert model.name.isprintable()
        assert model.loaded_context in (None, 512)
        assert model.context in (None, 512)
        assert model.size in (None, 512)
    if lie in SHOWN:
        assert [model.name for model in found.models or ()] == [SHOWN[lie]]
    if lie != "honest":
        assert found.state == "ready"


async def test_what_says_of_itself_that_it_is_llamacpp_and_has_no_models_is_not_used(eye: Looking) -> None:
    with LyingLlamaCpp(models=b'{"object":"list","data":[]}') as server:
        outcome = await eye.look(at(server.url))
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "broken"
