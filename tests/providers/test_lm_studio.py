"""The probe of LM Studio: three levels of its API, errors inside 200, and models that are loaded twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import anyio
import msgspec
import pytest

from hived.decisions.cadence import requests_at_rest
from hived.decisions.outcomes import Locked, NoAnswer, Stranger
from hived.providers import lm_studio as module
from hived.providers.lm_studio import CLOSED, LmStudio, _read, parameters
from hived_client.resolution import Question, Refusal, Target, WorldCatalogue, answer
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.providers.looking import KEY, NASTY, Looking, Says, at, believing, looking
from tests.servers import lm_studio
from tests.servers.lm_studio import EMBEDDER, GEMMA, QWEN, Level, Listener, Stored, usual_models
from tests.servers.lm_studio_home import install, store
from tests.servers.loopback import Reply, Request

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace

BELIEF: dict[str, object] = {"state": "ready", "mode": "v1", "models": (Model(name="m"),)}


class NotingLmStudio(lm_studio.LmStudio):
    """Keeps the headers of every request."""

    def __init__(self, *, level: Level = "v1") -> None:
        super().__init__(level=level)
        self.heads: list[tuple[str, dict[str, str]]] = []

    def answer(self, request: Request) -> Reply:
        self.heads.append((request.path, request.headers))
        return super().answer(request)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose LM Studio has the usual models, and was never linked."""
    install(tmp_path, usual_models())
    return tmp_path


@pytest.fixture
async def eye(home: Path) -> AsyncIterator[Looking]:
    async with looking(LmStudio, HOME=str(home), LAB_KEY=KEY, WRONG="nonsense") as one:
        yield one


def given(url: str, **more: object) -> Endpoint:
    return at("lm_studio", url, **more)


def lying(listing: object, *, greeting: object = {"lmstudio": True}, level: str = "v1") -> Says:
    unknown = b'{"error":"Unexpected endpoint or method. (GET /x)"}'
    answers = dict.fromkeys(("/lms-status", "/api/v1/models", "/api/v0/models", "/v1/models"), (200, unknown))
    path = {"v1": "/api/v1/models", "v0": "/api/v0/models", "openai": "/v1/models"}[level]
    body = listing if isinstance(listing, bytes) else json.dumps(listing).encode()
    return Says(answers | {"/lmstudio-greeting": (200, json.dumps(greeting).encode()), path: (200, body)})


# What it tells.


async def test_the_newest_level_tells_all_of_a_model(eye: Looking) -> None:
    with lm_studio.LmStudio() as server:
        server.load(GEMMA, context=8192)
        found = await eye.heard(given(server.url))
        assert (found.state, found.version, found.mode, eye.cost) == ("ready", "0.4.25", "v1", 3)
        gemma, qwen, embedder = found.models or ()
        assert gemma == Model(
            name=GEMMA,
            state="loaded",
            size=17_990_911_801,
            quantization="Q4_K_M",
            parameters=26_000_000_000,
            context=262144,
            loaded_context=8192,
            capabilities=("completion", "tools", "vision"),
        )
        assert (qwen.state, qwen.loaded_context) == ("unloaded", None)
        assert qwen.capabilities == ("completion", "tools", "thinking")
        assert (embedder.name, embedder.capabilities, embedder.parameters) == (EMBEDDER, ("embedding",), None)
        assert server.loads == [(GEMMA, "test")]


async def test_each_instance_can_be_called_by_its_own_name(eye: Looking) -> None:
    with lm_studio.LmStudio() as server:
        server.load(GEMMA, context=8192)
        server.load(GEMMA, context=32768)
        server.load(QWEN, context=4096, name="worker")
        server.load(QWEN, context=2048, name="helper")
        found = await eye.heard(given(server.url))
        loaded = {m.name: m.loaded_context for m in found.models or () if m.state == "loaded"}
        # What asks for qwen by its key may get either of the two: the smaller is what it can count on.
        assert loaded == {GEMMA: 8192, f"{GEMMA}:2": 32768, QWEN: 2048, "worker": 4096, "helper": 2048}
        sizes = {m.name: m.size for m in found.models or ()}
        assert sizes[f"{GEMMA}:2"] == sizes[GEMMA]


async def test_the_middle_level_tells_less(eye: Looking) -> None:
    with lm_studio.LmStudio(level="v0", tells_status=False) as server:
        server.load(QWEN, context=8192)
        found = await eye.heard(given(server.url))
        assert (found.version, found.mode, eye.cost) == (None, "v0", 4)
        gemma, qwen, embedder = found.models or ()
        assert (gemma.state, gemma.capabilities) == ("unloaded", ("completion", "tools", "vision"))
        assert qwen == Model(
            name=QWEN,
            state="loaded",
            quantization="Q4_K_M",
            context=40960,
            loaded_context=8192,
            capabilities=("completion", "tools"),
        )
        assert embedder.capabilities == ("embedding",)


async def test_the_oldest_level_tells_names_and_nothing_else(eye: Looking) -> None:
    with lm_studio.LmStudio(level="openai") as server:
        found = await eye.heard(given(server.url))
        assert (found.mode, eye.cost) == ("openai", 5)
        assert found.models == (Model(name=GEMMA), Model(name=QWEN), Model(name=EMBEDDER))


@pytest.mark.parametrize("level", ["v1", "v0", "openai"])
@pytest.mark.parametrize("jit", [True, False])
async def test_a_glance_costs_one_request_at_every_level(eye: Looking, level: Level, jit: bool) -> None:
    with lm_studio.LmStudio(level=level, jit=jit) as server:
        ready = await eye.learnt(given(server.url))
        assert ready.state == "ready"
        assert (await eye.learnt(ready, thorough=False), eye.cost) == (ready, 1)
        assert requests_at_rest(ready) == 1
        server.load(QWEN)
        after = await eye.learnt(ready, thorough=False)
        assert eye.cost == 1
        expected = "loaded" if level != "openai" else None
        assert [model.state for model in after.models or () if model.name == QWEN] == [expected]
        assert server.loads == [(QWEN, "test")]


async def test_an_update_is_seen_by_a_glance_that_no_longer_fits(eye: Looking) -> None:
    with lm_studio.LmStudio() as server:
        ready = await eye.learnt(given(server.url))
        server.level = "v0"
        older = await eye.learnt(ready, thorough=False)
        assert (older.mode, eye.cost) == ("v0", 1 + 4)


async def test_a_model_that_is_said_to_be_elsewhere_is_kept_from_private_questions(
    eye: Looking, home: Path
) -> None:
    here, there = Stored("a/here"), Stored("a/there", device="studio-mac")
    install(home, (here, there))
    with lm_studio.LmStudio((here, there), marks_devices=True) as server:
        endpoint = await eye.learnt(given(server.url))
        assert [(model.name, model.locality) for model in endpoint.models or ()] == [
            ("a/here", None),
            ("a/there", "internet"),
        ]
        catalogue = WorldCatalogue(World(generation=1, endpoints=(endpoint,)))
        refused = answer(catalogue, Question(model="lab/a/there", private=True))
        assert isinstance(refused, Refusal)
        assert refused.fault.code == "model.remote"
        assert not isinstance(answer(catalogue, Question(model="lab/a/here", private=True)), Refusal)


# Where a model runs.


def private(endpoint: Endpoint, model: str, how: bool | Literal["lan"] = True) -> Target | Refusal:
    """Ask for a model that no other device may run."""
    found = answer(
        WorldCatalogue(World(generation=1, endpoints=(endpoint,))),
        Question(model=f"lab/{model}", private=how),
    )
    assert isinstance(found, Target | Refusal)
    return found


@pytest.mark.parametrize("level", ["v1", "v0", "openai"])
async def test_what_is_not_on_this_disk_may_be_a_linked_devices(
    eye: Looking, home: Path, level: Level
) -> None:
    here, there = Stored(QWEN, size=5_000_000_000), Stored("openai/gpt-oss-20b", device="studio-mac")
    install(home, (here, there))
    with lm_studio.LmStudio((here, there), level=level) as server:
        endpoint = await eye.learnt(given(server.url))
        assert [model.unplaced is None for model in endpoint.models or ()] == [True, False]
        assert isinstance(private(endpoint, QWEN), Target)
        for how in (True, "lan"):
            refused = private(endpoint, there.key, how)
            assert isinstance(refused, Refusal)
            assert refused.fault.code == "model.maybe_linked"
            assert "it is not in the models folder of this device" in refused.fault.message
            assert refused.fault.hint == "lms get openai/gpt-oss-20b"
        target = private(endpoint, there.key, False)
        assert isinstance(target, Target)
        assert target.locality is None
        assert await eye.learnt(endpoint, thorough=False) == endpoint
        assert (eye.cost, server.loads) == (1, [])


async def test_a_model_that_comes_to_this_disk_is_this_devices(eye: Looking, home: Path) -> None:
    there = Stored("openai/gpt-oss-20b", size=12_000_000_000)
    with lm_studio.LmStudio((there,)) as server:
        endpoint = await eye.learnt(given(server.url))
        assert isinstance(private(endpoint, there.key), Refusal)
        install(home, (*usual_models(), there))
        assert isinstance(private(await eye.learnt(endpoint, thorough=False), there.key), Target)


async def test_where_lm_link_is_in_use_no_model_is_certainly_this_devices(eye: Looking, home: Path) -> None:
    install(home, usual_models(), link="on")
    with lm_studio.LmStudio() as server:
        endpoint = await eye.learnt(given(server.url))
        refused = private(endpoint, QWEN)
        assert isinstance(refused, Refusal)
        assert (refused.fault.code, refused.fault.hint) == ("model.maybe_linked", "lms link disable")
        install(home, usual_models(), link="off")
        assert isinstance(private(await eye.learnt(endpoint), QWEN), Target)


async def test_where_this_disk_says_nothing_a_private_question_is_refused(tmp_path: Path) -> None:
    for environment in ({}, {"HOME": str(tmp_path / "nobody")}):
        async with looking(LmStudio, **environment) as eye:
            with lm_studio.LmStudio() as server:
                endpoint = await eye.learnt(given(server.url))
                refused = private(endpoint, QWEN)
                assert isinstance(refused, Refusal)
                assert "cannot be read" in refused.fault.message
                assert refused.fault.hint.startswith("ls -ld " if environment else "lms link disable")
                assert isinstance(private(endpoint, QWEN, False), Target)


async def test_every_instance_is_where_its_model_is(eye: Looking) -> None:
    with lm_studio.LmStudio() as server:
        server.load(QWEN, name="worker")
        server.load(QWEN)
        found = await eye.heard(given(server.url))
        assert {model.name for model in found.models or ()} > {QWEN, "worker", f"{QWEN}:2"}
        assert [model.name for model in found.models or () if model.unplaced is not None] == []


async def test_of_the_disk_of_another_device_nothing_is_asked(home: Path) -> None:
    async with looking(LmStudio) as eye:
        with lm_studio.LmStudio() as server:
            listing = await eye.http.get(f"{server.url}/api/v1/models", limit=1 << 20, timeout=1.0)
            assert [m.unplaced for m in _read("v1", listing, None) or ()] == [None] * 3


# An app that is open without its server.


async def test_an_open_app_whose_server_is_not_started_is_told_from_one_that_is_not_there(
    eye: Looking, home: Path, unused_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    with Listener() as listener:
        install(home, listener=listener.port)
        endpoint = await eye.learnt(given(url))
        assert eye.cost == 2
        assert (endpoint.state, endpoint.reason and endpoint.reason.code) == ("down", "server.closed")
        assert endpoint.reason is not None
        assert endpoint.reason.hint == f"lms server start --port {unused_port}"
        assert listener.requests == [("GET", "/lmstudio-greeting")]
    endpoint = await eye.learnt(endpoint)
    assert endpoint.reason is not None
    assert (endpoint.state, endpoint.reason.code) == ("down", "server.down")


async def test_its_listener_is_sought_where_it_may_be_and_strangers_are_not_believed(
    eye: Looking, home: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = given(f"http://127.0.0.1:{unused_port}")
    with Listener() as listener, Says({"/lmstudio-greeting": (200, b'{"error":"Unexpected"}')}) as other:
        monkeypatch.setattr("hived.providers.disk_lm_studio.LISTENER_PORTS", (unused_port, listener.port))
        assert await eye.look(endpoint) == NoAnswer(kind="closed", why=CLOSED)
        monkeypatch.setattr("hived.providers.disk_lm_studio.LISTENER_PORTS", (other.port, listener.port))
        outcome = await eye.look(endpoint)
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "refused"
        assert len(listener.requests) == 1
    async with looking(LmStudio, HOME=str(home / "nobody")) as elsewhere:
        assert isinstance(await elsewhere.look(endpoint), NoAnswer)
        assert elsewhere.cost == 1  # whoever has no LM Studio is not searched for one


async def test_a_default_port_is_not_where_it_is_closed_if_it_serves_at_another(
    eye: Looking, home: Path, unused_port: int
) -> None:
    endpoint = given(f"http://127.0.0.1:{unused_port}")
    with Listener() as listener:
        folder = install(home, listener=listener.port)
        for port, guessed, kind in (
            (unused_port, True, "closed"),
            (unused_port + 1, False, "closed"),
            (unused_port + 1, True, "refused"),
        ):
            (folder / ".internal" / "http-server-config.json").write_text(json.dumps({"port": port}))
            outcome = await eye.look(replace(endpoint, source="default") if guessed else endpoint)
            assert isinstance(outcome, NoAnswer)
            assert outcome.kind == kind


# What is written.


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("26B-A4B", 26_000_000_000),
        ("0.6B", 600_000_000),
        ("137M", 137_000_000),
        ("7b", 7_000_000_000),
        ("1T", 10**12),
        ("many", None),
        ("9" * 100 + "B", None),
        ("8Bit", None),
        (8, None),
        (None, None),
    ],
)
def test_parameters_are_read_as_they_are_written(written: object, number: int | None) -> None:
    assert parameters(written) == number


# Errors inside 200.


async def test_whoever_has_no_token_learns_that_it_is_lm_studio(eye: Looking) -> None:
    with NotingLmStudio() as server:
        for quietly, cost in ((False, 2), (True, 4)):
            server.require_token(KEY, quietly=quietly)
            for ref in (None, "UNSET", "WRONG"):
                assert (await eye.look(given(server.url, key_ref=ref)), eye.cost) == (Locked(), cost)
            found = await eye.heard(given(server.url, key_ref="LAB_KEY"))
            assert (found.state, found.mode) == ("ready", "v1")


async def test_a_refusal_inside_200_is_one(eye: Looking) -> None:
    with lying({"error": {"type": "invalid_request", "code": "invalid_api_key", "message": "no"}}) as server:
        assert await eye.look(given(server.url)) == Locked()


async def test_a_server_without_models_is_ready_and_empty(eye: Looking) -> None:
    for level in ("v1", "v0", "openai"):
        with lm_studio.LmStudio((), level=level) as server:
            found = await eye.heard(given(server.url))
            assert (found.state, found.models, found.mode) == ("ready", (), level)


@pytest.mark.parametrize(
    "listing",
    [
        {"error": "Something broke"},
        {"models": "none"},
        {"models": [1, 2]},
        {"models": [{"name": "m"}]},
        {"models": [{"key": "m"}], "error": {"message": "half"}},
        [],
        b"",
        b"<html>",
    ],
)
async def test_what_is_no_list_is_not_taken_for_one(eye: Looking, listing: object) -> None:
    with lying(listing) as server:
        outcome = await eye.look(given(server.url))
        assert isinstance(outcome, NoAnswer), outcome
        assert outcome.kind == "broken"


# Keys and strangers.


async def test_the_token_goes_to_the_lists_only_and_after_a_greeting_each_time(eye: Looking) -> None:
    with NotingLmStudio() as server:
        server.require_token(KEY)
        ready = await eye.learnt(given(server.url, key_ref="LAB_KEY"))
        assert await eye.learnt(ready, thorough=False) == ready
        assert eye.cost == 2 == requests_at_rest(ready)
        sent = [(path, "authorization" in headers) for path, headers in server.heads]
        assert sent == [
            ("/lmstudio-greeting", False),
            ("/api/v1/models", True),
            ("/lms-status", False),
            ("/lmstudio-greeting", False),
            ("/api/v1/models", True),
        ]
        assert not any("origin" in headers for _, headers in server.heads)


@pytest.mark.parametrize("belief", [{}, BELIEF, {"state": "unauthorised"}])
@pytest.mark.parametrize("greeting", [{}, {"lmstudio": "true"}, {"lmstudio": 1}, {"error": "x"}, [], None])
async def test_the_key_is_never_sent_to_whoever_has_the_port_now(
    eye: Looking, belief: dict[str, object], greeting: object
) -> None:
    with lying({"models": [{"key": "m"}]}, greeting=greeting) as server:
        for thorough in (True, False):
            outcome = await eye.look(given(server.url, key_ref="LAB_KEY", **belief), thorough=thorough)
            assert isinstance(outcome, Stranger), outcome
        assert server.keyed == []


NEWEST = (
    "key",
    "type",
    "quantization",
    "size_bytes",
    "params_string",
    "loaded_instances",
    "max_context_length",
    "capabilities",
    "device_identifier",
)
MIDDLE = (
    "id",
    "type",
    "state",
    "quantization",
    "max_context_length",
    "loaded_context_length",
    "capabilities",
)


@pytest.mark.parametrize(("level", "fields"), [("v1", NEWEST), ("v0", MIDDLE)])
async def test_no_value_of_a_field_breaks_the_look_or_hides_another_model(
    eye: Looking, level: str, fields: tuple[str, ...]
) -> None:
    name, plural = ("key", "models") if level == "v1" else ("id", "data")
    good = {name: "good", "state": "loaded", "loaded_instances": [{"id": "good"}]}
    values = (*NASTY, [{"id": value} for value in NASTY])
    with lying({}, level=level) as server:
        for field in fields:
            entries = [{**good, name: f"m{n}", field: value} for n, value in enumerate(values)]
            listing = {plural: [*entries, *NASTY, good]}
            server.answers[f"/api/{level}/models"] = (200, json.dumps(listing).encode())
            found = await eye.heard(given(server.url, mode=level, state="ready"), thorough=False)
            assert eye.cost == 1
            msgspec.msgpack.encode(believing(given(server.url), found))
            names = {model.name for model in found.models or ()}
            assert "good" in names, field
            assert len(names) >= (1 if field == name else 1 + len(values)), field
            assert all(each.isprintable() for each in names)


async def test_a_stopped_server_is_down(eye: Looking) -> None:
    with lm_studio.LmStudio() as server:
        ready = await eye.learnt(given(server.url))
    for thorough in (True, False):
        assert (await eye.learnt(ready, thorough=thorough)).state == "down"


# Push.


async def test_a_model_that_comes_to_the_folder_is_told_and_then_known(
    eye: Looking, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hived.providers.watching.ARMED", 50)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    new = Stored("openai/gpt-oss-20b", size=12_000_000_000)
    folder = install(home, usual_models())
    told, count = anyio.Event(), 0

    def tell() -> None:
        nonlocal told, count
        count += 1
        told.set()
        told = anyio.Event()

    with lm_studio.LmStudio() as server:
        assert not eye.probe.has_push(given(server.url))  # until it is known where the folder is
        endpoint = await eye.learnt(given(server.url))
        assert eye.probe.has_push(endpoint)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(eye.probe.push, endpoint, tell)
            with anyio.fail_after(60.0):
                await told.wait()  # the watch has begun
                server.stored[new.key] = new
                store(folder, new)
                await told.wait()
            assert new.key in {model.name for model in (await eye.learnt(endpoint)).models or ()}
            tasks.cancel_scope.cancel()
        assert eye.http.requests < 20


async def test_a_folder_that_is_named_anew_ends_the_watch_over_the_old_one(
    eye: Looking, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOVED", 0.01)
    folder = install(home, usual_models())
    with lm_studio.LmStudio() as server:
        endpoint = await eye.learnt(given(server.url))
        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(eye.probe.push, endpoint, lambda: None)
                (home / "other").mkdir()
                (folder / "settings.json").write_text(json.dumps({"downloadsFolder": str(home / "other")}))
                await eye.learnt(endpoint)


async def test_only_a_folder_of_this_device_is_watched(eye: Looking, home: Path) -> None:
    with lm_studio.LmStudio() as server:
        await eye.learnt(given(server.url))
    assert eye.probe.has_push(given("http://127.0.0.1:1"))
    assert not eye.probe.has_push(given("http://10.0.0.7:1"))
