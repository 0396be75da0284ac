"""The probe of Ollama: against the faithful fake, those that pass for it, and everything that lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from hived.decisions.cadence import requests_at_rest
from hived.decisions.outcomes import Heard, NoAnswer, Stranger
from hived.providers.ollama import MOST_SHOWN, TURNS, Ollama
from hived.providers.ollama_words import aliases_of, is_cloud, parameters_of
from hived_client.resolution import Question, Refusal, Target, WorldCatalogue, answer
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.providers.looking import Looking, believing, looking
from tests.providers.looking import at as given
from tests.servers import ollama, strangers
from tests.servers.emulators import EMULATORS, Emulator
from tests.servers.loopback import HttpLoopback, Loopback, Reply, Request, json_bytes

pytestmark = pytest.mark.anyio
replace = msgspec.structs.replace
WHOLE = 5
"""Requests of a whole look: three to know it by, two for its models."""
DIGEST = "a" * 64

# How many questions it takes is counted exactly: a stranger's log is not ours to fill. The rungs of the
# ladder ask for 14 places in all where none of them fits, as both of SGLang's are then asked for and vLLM's
# list is only where a version is; an Ollama is known at the seventh.
WHOLE_LADDER = 14
RUNGS_TO_OLLAMA = 7
QUESTIONS = {
    "LocalAI": 3 + 3 + 1,  # the three by which an Ollama is known, the rungs up to its own, its list
    "Lemonade": 3 + 5 + 1,
    "KoboldCpp": 3 + 2 + 1,
    "Docker Model Runner": 1 + 6 + 1,  # the first of the three already says that it is none
    "llama-swap": 1 + 7 + 1,
}
"""Requests of the first look at each."""


def at(url: str, **more: object) -> Endpoint:
    return given("ollama", url, locality="device", **more)


@pytest.fixture
async def eye() -> AsyncIterator[Looking]:
    async with looking(Ollama) as one:
        yield one


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Have a look wait for less than it does."""
    monkeypatch.setattr("hived.providers.reach.LOOK_TIMEOUT", 0.2)
    return 0.2


@pytest.fixture
def server() -> Iterator[ollama.Ollama]:
    with ollama.Ollama() as running:
        yield running
        assert [load for load in running.loads if load.cause != "test"] == []


def models(endpoint: Endpoint) -> dict[str, Model]:
    return {model.name: model for model in endpoint.models or ()}


def states(endpoint: Endpoint) -> dict[str, str | None]:
    return {model.name: model.state for model in endpoint.models or ()}


def ask(endpoint: Endpoint, model: str, **more: object) -> Target | Refusal:
    question = Question(model=model, **more)  # type: ignore[arg-type]
    return answer(WorldCatalogue(World(generation=0, endpoints=(endpoint,))), question)


# What it says.


async def test_a_whole_look_says_all_that_a_call_needs(eye: Looking, server: ollama.Ollama) -> None:
    digest = server.add(
        "llama3.2",
        size=2_019_393_189,
        parameter_size="3.2B",
        quantization="Q4_K_M",
        context_length=131_072,
        capabilities=("tools", "completion", "audio"),
    )
    server.load("llama3.2", size=1000, size_vram=600, context_length=8192)
    found = await eye.heard(at(server.url))
    assert eye.cost == WHOLE
    assert [path for _, path in server.requests] == [
        "/",
        "/api/version",
        "/api/status",
        "/api/tags",
        "/api/ps",
    ]
    assert found == Heard(
        state="ready",
        version="0.32.15",
        models=(
            Model(
                name="llama3.2:latest",
                aliases=("llama3.2",),
                state="loaded",
                digest=digest,
                size=2_019_393_189,
                quantization="Q4_K_M",
                parameters=3_200_000_000,
                context=131_072,
                loaded_context=8192,
                device="cpu+gpu",
                offload=0.6,
                memory=1000,
                capabilities=("completion", "tools"),
            ),
        ),
    )


async def test_an_empty_server_is_ready_and_has_no_models(eye: Looking, server: ollama.Ollama) -> None:
    assert (await eye.heard(at(server.url))).models == ()


@pytest.mark.parametrize("name", ["llama3.2", "LLAMA3.2:LATEST", "Llama3.2", "ollama/llama3.2:latest"])
async def test_a_model_is_found_without_its_tag_and_in_any_case(
    eye: Looking, server: ollama.Ollama, name: str
) -> None:
    server.add("llama3.2")
    found = ask(await eye.learnt(at(server.url)), f"ollama/{name}")
    assert isinstance(found, Target)
    assert (found.model, found.api_base) == ("ollama_chat/llama3.2:latest", server.url)
    assert found.extra == {"num_ctx": 2048}


SHARES: list[tuple[int, int, float | None, str | None]] = [
    (100, 100, 1.0, "gpu"),
    (100, 0, 0.0, "cpu"),
    (100, 48, 0.48, "cpu+gpu"),
    (0, 0, None, None),
    (0, 100, None, None),
    (100, 101, None, None),
    (100, -1, None, None),
]


async def test_the_share_on_an_accelerator_is_told_or_unknown(eye: Looking, server: ollama.Ollama) -> None:
    for n, (size, size_vram, *_) in enumerate(SHARES):
        server.add(f"m:{n}")
        server.load(f"m:{n}", size=size, size_vram=size_vram)
    found = models(await eye.learnt(at(server.url)))
    for n, (*_, offload, device) in enumerate(SHARES):
        model = found[f"m:{n}"]
        assert (model.state, model.offload, model.device) == ("loaded", offload, device)


async def test_a_cloud_model_is_on_the_internet_though_its_server_is_here(
    eye: Looking, server: ollama.Ollama
) -> None:
    server.add("gpt-oss:120b-cloud", remote=("https://ollama.com:443", "gpt-oss:120b"), size=400)
    server.add("stub:cloud")
    server.add("hidden", remote=("https://ollama.com:443", "x"), context_length=None, capabilities=None)
    server.add("own")
    endpoint = await eye.learnt(at(server.url))
    assert eye.cost == WHOLE + 1  # the own one is asked; nobody was asked to ask the cloud
    found = models(endpoint)
    assert found.pop("own:latest").locality is None
    assert {(model.locality, model.state, model.size) for model in found.values()} == {
        ("internet", None, None)
    }
    for name in found:
        refused = ask(endpoint, f"ollama/{name}", private=True)
        assert isinstance(refused, Refusal)
        assert refused.fault.code == "model.remote"
    assert isinstance(ask(endpoint, "ollama/own", private=True), Target)


async def test_what_runs_is_listed_though_its_file_is_deleted_until_it_ends(
    eye: Looking, server: ollama.Ollama
) -> None:
    server.add("m")
    server.load("m")
    server.remove("m")
    endpoint = await eye.learnt(at(server.url))
    assert states(endpoint) == {"m:latest": "loaded"}
    assert models(endpoint)["m:latest"].size is None
    server.unload("m")
    assert states(await eye.learnt(endpoint, thorough=False)) == {}
    assert eye.cost == 1


async def test_what_ran_before_a_pull_is_not_the_model_that_was_pulled(
    eye: Looking, server: ollama.Ollama
) -> None:
    server.add("m", digest=DIGEST)
    server.load("m")
    server.add("m", digest="b" * 64)
    endpoint = await eye.learnt(at(server.url))
    assert states(endpoint) == {"m:latest": "unloaded"}
    assert await eye.learnt(endpoint, thorough=False) == endpoint
    assert eye.cost == 1


async def test_a_killed_runner_is_believed_since_the_next_call_mends_it(
    eye: Looking, server: ollama.Ollama
) -> None:
    server.add("m")
    server.load("m")
    endpoint = await eye.learnt(at(server.url))
    server.kill_runner("m")
    assert await eye.learnt(endpoint) == endpoint
    assert isinstance(ask(endpoint, "ollama/m"), Target)


# Glances.


async def test_a_glance_costs_one_request_and_changes_nothing(eye: Looking, server: ollama.Ollama) -> None:
    server.add("m")
    server.load("m", size=10, size_vram=5)
    endpoint = await eye.learnt(at(server.url))
    server.requests.clear()
    for _ in range(2 * TURNS):
        assert await eye.learnt(endpoint, thorough=False) == endpoint
        assert eye.cost == 1
    paths = [path for _, path in server.requests]
    assert paths == (["/api/ps"] * (TURNS - 1) + ["/api/tags"]) * 2


async def test_a_glance_sees_what_was_loaded_and_unloaded(eye: Looking, server: ollama.Ollama) -> None:
    server.add("a")
    server.add("b")
    server.load("a", size=10, size_vram=10, context_length=4096)
    endpoint = await eye.learnt(at(server.url))
    server.unload("a")
    server.load("b", size=10, context_length=1024)
    after = await eye.learnt(endpoint, thorough=False)
    assert eye.cost == 1
    assert states(after) == {"a:latest": "unloaded", "b:latest": "loaded"}
    gone, come = after.models or ()
    assert (gone.loaded_context, gone.offload, gone.device, gone.memory) == (None, None, None, None)
    assert (come.loaded_context, come.offload, come.device) == (1024, 0.0, "cpu")
    assert come.capabilities == ("completion",)


async def test_a_glance_that_sees_a_new_model_run_becomes_a_whole_look(
    eye: Looking, server: ollama.Ollama
) -> None:
    endpoint = await eye.learnt(at(server.url))
    server.add("new")
    server.load("new")
    assert states(await eye.learnt(endpoint, thorough=False)) == {"new:latest": "loaded"}
    assert eye.cost == 1 + WHOLE + 1  # what it can do, once


@pytest.mark.parametrize("change", ["add", "remove", "again"])
async def test_a_model_that_comes_or_goes_unseen_is_known_within_a_few_glances(
    eye: Looking, server: ollama.Ollama, change: str
) -> None:
    server.add("m")
    endpoint = await eye.learnt(at(server.url))
    match change:
        case "add":
            server.add("n")
        case "remove":
            server.remove("m")
        case _:
            server.add("m", size=5)
    costs = []
    for _ in range(TURNS):
        endpoint = await eye.learnt(endpoint, thorough=False)
        costs.append(eye.cost)
    assert costs == [1] * (TURNS - 1) + [1 + WHOLE + (change != "remove")]
    assert endpoint == await eye.learnt(endpoint)


@pytest.mark.parametrize("wrong", [{"version": None}, {"models": None}])
async def test_a_glance_at_what_is_not_known_is_a_whole_look(
    eye: Looking, server: ollama.Ollama, wrong: dict[str, object]
) -> None:
    endpoint = await eye.learnt(at(server.url))
    await eye.look(replace(endpoint, **wrong), thorough=False)
    assert eye.cost == WHOLE


async def test_a_glance_at_what_has_taken_the_port_tells(eye: Looking, server: ollama.Ollama) -> None:
    endpoint = await eye.learnt(at(server.url))
    with strangers.OpenAiCompatible() as other:
        assert isinstance(await eye.look(replace(endpoint, url=other.url), thorough=False), Stranger)


# Models of which the list says too little.


async def test_models_of_an_older_list_are_asked_a_few_at_a_time_and_once(
    eye: Looking, server: ollama.Ollama
) -> None:
    for n in range(MOST_SHOWN + 2):
        server.add(f"m{n}", digest=f"{n:064x}", old=True, capabilities=("completion", "vision"))
    server.load(f"m{MOST_SHOWN + 1}")  # asked first
    endpoint = await eye.learnt(at(server.url))
    assert eye.cost == WHOLE + MOST_SHOWN
    known = {model.name for model in endpoint.models or () if model.capabilities is not None}
    assert len(known) == MOST_SHOWN
    assert f"m{MOST_SHOWN + 1}:latest" in known
    for _ in range(2 * TURNS):
        endpoint = await eye.learnt(endpoint, thorough=False)
        assert eye.cost == 1
    for model in endpoint.models or ():
        assert (model.context, model.capabilities) == (2048, ("completion", "vision"))
    assert await eye.learnt(endpoint) == endpoint
    assert eye.cost == WHOLE


async def test_tools_that_only_the_template_in_the_file_has_are_known(
    eye: Looking, server: ollama.Ollama
) -> None:
    """The list says ``completion`` of both; what it leaves out must not be taken for a no."""
    server.add("able", template=("tools",))
    server.add("unable")
    server.add("embed", capabilities=("embedding",))
    endpoint = await eye.learnt(at(server.url))
    assert {name: model.capabilities for name, model in models(endpoint).items()} == {
        "able:latest": ("completion", "tools"),
        "unable:latest": ("completion",),
        "embed:latest": ("embedding",),
    }
    assert eye.cost == WHOLE + 2  # an embedding model is not asked for tools
    assert isinstance(ask(endpoint, "ollama/able", needs={"tools"}), Target)
    refused = ask(endpoint, "ollama/unable", needs={"tools"})
    assert isinstance(refused, Refusal)
    assert refused.fault.code == "model.lacks"
    await eye.look(endpoint)
    assert eye.cost == WHOLE


async def test_a_model_that_says_nothing_of_itself_is_not_asked_again(eye: Looking) -> None:
    with Lying({"models": [{"name": "m:1", "size": 1, "digest": DIGEST}]}, shown=b"[") as liar:
        endpoint = await eye.learnt(at(liar.url))
        assert eye.cost == WHOLE + 1
        await eye.look(endpoint)
        assert eye.cost == WHOLE
        assert models(endpoint)["m:1"].capabilities is None


async def test_a_server_that_went_is_not_believed_whatever_the_glance_was_to_ask(eye: Looking) -> None:
    with ollama.Ollama() as server:
        for n in range(MOST_SHOWN + 1):
            server.add(f"m{n}", digest=f"{n:064x}", old=True)
        endpoint = await eye.learnt(at(server.url))
    for _ in range(TURNS):
        outcome = await eye.look(endpoint, thorough=False)
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "refused"


async def test_models_without_a_digest_are_not_asked(eye: Looking) -> None:
    with Lying({"models": [{"name": "m:1", "size": 1, "digest": "x"}]}) as liar:
        assert models(await eye.learnt(at(liar.url)))["m:1"].digest is None
        assert eye.cost == WHOLE


# What it is.


async def test_an_ollama_from_before_its_status_is_one(eye: Looking) -> None:
    with ollama.Ollama(status=False, version="0.5.1") as older:
        heard = await eye.heard(at(older.url))
        assert heard.version == "0.5.1"
        assert {method for method, _ in older.requests} == {"GET"}
        assert eye.cost == WHOLE + RUNGS_TO_OLLAMA  # once, and then it is believed
        await eye.heard(at(older.url, version=heard.version))
        assert eye.cost == WHOLE


@pytest.mark.parametrize("name", EMULATORS)
async def test_a_server_that_passes_for_ollama_is_told_apart(eye: Looking, name: str) -> None:
    with Emulator(name) as other:
        outcome = await eye.look(at(other.url))
        assert isinstance(outcome, Stranger), outcome
        assert outcome.seems == f" (it seems to be {name})"
        assert [model.name for model in outcome.models or ()] == ["m"]
        assert {method for method, _ in other.requests} == {"GET"}
        assert eye.cost == QUESTIONS[name]


@pytest.mark.parametrize("name", EMULATORS)
async def test_what_was_told_apart_is_believed(eye: Looking, name: str) -> None:
    with Emulator(name) as other:
        gateway = await eye.learnt(at(other.url))
        assert gateway.state == "ready"
        assert await eye.learnt(gateway, thorough=False) == gateway
        assert eye.cost == 2 == requests_at_rest(gateway)
        assert await eye.learnt(gateway) == gateway
        assert eye.cost <= 4  # what it says at each place where an Ollama speaks, and its list


async def test_an_ollama_in_a_strangers_place_is_known_at_a_glance(
    eye: Looking, server: ollama.Ollama
) -> None:
    with Emulator("LocalAI") as other:
        gateway = replace(await eye.learnt(at(other.url)), url=server.url)
    after = await eye.learnt(gateway, thorough=False)
    assert (after.state, after.version, after.warnings, after.models) == ("ready", "0.32.15", (), ())
    assert eye.cost == 1 + WHOLE


@pytest.mark.parametrize(
    "kind",
    [strangers.AnswersEverything, strangers.AnswersJsonEverything, strangers.OpenAiCompatible],
)
async def test_a_stranger_is_not_ollama_nor_one_of_those(eye: Looking, kind: type[HttpLoopback]) -> None:
    with kind() as other:
        outcome = await eye.look(at(other.url))
        assert isinstance(outcome, Stranger)
        assert "Ollama" not in outcome.seems
        assert eye.cost == 1 + WHOLE_LADDER + 1  # its greeting, who it may be, and what it serves
        await eye.look(believing(at(other.url), outcome))
        assert eye.cost == 2


@pytest.mark.parametrize(
    "table",
    [
        {"/": "Ollama is running\n", "/api/version": {"version": "1"}},
        {"/": "Ollama is running!", "/api/version": {"version": "1"}},
        {"/": "Ollama is running", "/api/version": {"version": "1", "commit": "x"}},
        {"/": "Ollama is running", "/api/version": {"version": 1}},
        {"/": "Ollama is running", "/api/version": "1"},
        {"/": "Ollama is running"},
        {"/": {"error": "Unexpected endpoint or method. (GET /)"}},
    ],
)
async def test_what_is_almost_ollama_is_a_stranger(eye: Looking, table: dict[str, object]) -> None:
    with Emulator(table=table) as other:
        assert isinstance(await eye.look(at(other.url)), Stranger)


async def test_lm_studio_is_not_taken_for_localai(eye: Looking) -> None:
    refusal = {"error": "Unexpected endpoint or method."}
    paths = ("/", "/api/version", "/api/extra/version", "/.well-known/localai.json", "/v1/health")
    listing = {"object": "list", "data": [{"id": "m", "owned_by": "organization_owner"}]}
    with Emulator(table={path: refusal | {"at": path} for path in paths} | {"/v1/models": listing}) as other:
        outcome = await eye.look(at(other.url))
        assert isinstance(outcome, Stranger)
        assert outcome.seems == " (it seems to be LM Studio)"


async def test_a_server_that_refuses_the_name_in_the_address_says_so(eye: Looking) -> None:
    with Emulator(table={"/": 403}) as other:
        outcome = await eye.look(at(other.url))
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "broken"
        assert "refuses the name" in outcome.why


# What does not answer.


async def test_a_server_that_starts_is_silent_and_then_ready(eye: Looking, impatient: float) -> None:
    with ollama.Ollama(starting=True) as server:
        with anyio.fail_after(60.0):
            outcome = await eye.look(at(server.url))
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "silent"
        server.finish_start()
        assert (await eye.heard(at(server.url))).state == "ready"


async def test_a_server_that_is_gone_is_refused(eye: Looking) -> None:
    with ollama.Ollama() as server:
        endpoint = await eye.learnt(at(server.url))
    for thorough in (True, False):
        outcome = await eye.look(endpoint, thorough=thorough)
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "refused"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "silence"),
    [
        (strangers.Resets, "broken"),
        (strangers.HalfResponse, "broken"),
        (strangers.HugeBody, "broken"),
        (strangers.GzipBomb, "broken"),
        (strangers.Dribble, "silent"),
    ],
)
async def test_a_broken_or_hostile_server_ends_the_look_soon(
    eye: Looking, impatient: float, kind: type[Loopback], silence: str
) -> None:
    with kind() as server:
        outcome = await eye.look(at(server.url))
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == silence


async def test_a_redirect_is_never_followed(eye: Looking, server: ollama.Ollama) -> None:
    server.add("m")
    with strangers.Redirects(server.url) as other:
        outcome = await eye.look(at(other.url))
        assert isinstance(outcome, NoAnswer)
        assert outcome.kind == "redirect"
    assert server.requests == []


# What lies.


class Lying(HttpLoopback):
    """Passes for Ollama; its lists are what the test says."""

    def __init__(self, tags: object, ps: object = None, *, shown: bytes = b"{}") -> None:
        super().__init__()
        self.told = {
            "/": b"Ollama is running",
            "/api/version": b'{"version":"0.32.15"}',
            "/api/status": b'{"cloud":{"disabled":false,"source":"none"}}',
            "/api/tags": tags if isinstance(tags, bytes) else json_bytes(tags),
            "/api/ps": json_bytes(ps if ps is not None else {"models": []}),
            "/api/show": shown,
        }
        self.shown: list[bytes] = []
        """What models say one after another, before they all say the same."""

    def answer(self, request: Request) -> Reply:
        asked = request.path == "/api/show" and self.shown
        body = self.shown.pop() if asked else self.told[request.path]
        return Reply(headers=(("Content-Length", str(len(body))),), body=body)


NOT_LISTS = [
    b"",
    b"[]",
    b"null",
    b"1",
    b"{}",
    b'{"models":{}}',
    b'{"models":null}',
    b"[" * 100_000,
    b"\xff",
    b"NaN",
]


async def test_a_list_that_is_none_is_said_to_be_broken(eye: Looking) -> None:
    with Lying(b"") as liar:
        for liar.told["/api/tags"] in NOT_LISTS:
            outcome = await eye.look(at(liar.url))
            assert isinstance(outcome, NoAnswer)
            assert (outcome.kind, "/api/tags" in outcome.why) == ("broken", True)


async def test_what_runs_must_be_a_list_too(eye: Looking) -> None:
    with Lying({"models": []}, ps={"models": 1}) as liar:
        outcome = await eye.look(at(liar.url))
        assert isinstance(outcome, NoAnswer)
        assert "/api/ps" in outcome.why


STRANGE: list[object] = [
    None,
    True,
    0,
    -1,
    0.5,
    1e300,
    10**30,
    "x" * 10_000,
    "\x1b[2J",
    "\u202e",
    [],
    {},
    [None],
    {"a": {}},
    ["x\n"],
]


async def test_no_field_can_hide_the_other_models_nor_raise(eye: Looking) -> None:
    keys = ("name", "model", "size", "digest", "details", "capabilities", "size_vram", "context_length")
    inner = ("parameter_size", "quantization_level", "context_length", "family")
    good: dict[str, object] = {"name": "good:1", "model": "good:1", "size": 7, "digest": DIGEST}
    entries: list[object] = list(STRANGE)
    for n, value in enumerate(STRANGE):
        entries += [{**good, "name": f"{key}:{n}", key: value} for key in keys]
        entries += [{**good, "name": f"d{key}:{n}", "details": {key: value}} for key in inner]
    with Lying({"models": [*entries, good]}, ps={"models": entries}) as liar:
        endpoint = await eye.learnt(at(liar.url))
        found = models(endpoint)
        assert found["good:1"].size == 7
        assert len(found) > len(STRANGE) * len(keys)
        msgspec.json.encode(endpoint)
        for model in found.values():
            assert model.name.isprintable()
            assert model.offload is None or 0 <= model.offload <= 1
            for number in (model.size, model.parameters, model.context, model.loaded_context):
                assert number is None or 0 < number <= 2**53
        await eye.heard(endpoint, thorough=False)


async def test_nothing_that_a_model_says_of_itself_can_raise(eye: Looking) -> None:
    listed = [{"name": f"m:{n}", "size": 1, "digest": f"{n:064x}"} for n in range(len(STRANGE))]
    with Lying({"models": listed}) as liar:
        said = [{"model_info": {"general.architecture": v, "x.context_length": v}} for v in STRANGE]
        said += [{"model_info": {"general.architecture": "x", "x.context_length": v}} for v in STRANGE]
        liar.shown = [json_bytes(each) for each in said]
        for _ in range(0, len(STRANGE), MOST_SHOWN):
            endpoint = await eye.learnt(at(liar.url))
        assert len(liar.shown) == len(said) - len(STRANGE)
        assert {model.context for model in endpoint.models or ()} == {None}


async def test_ten_thousand_models_are_listed_and_no_more(eye: Looking) -> None:
    tags = {"models": [{"name": f"m{n}:1", "size": 1} for n in range(20_000)]}
    with Lying(tags) as liar:
        assert len((await eye.heard(at(liar.url))).models or ()) == 10_000


async def test_an_answer_of_one_model_that_has_no_end_is_cut(eye: Looking) -> None:
    shown = b'{"license":"' + b"x" * (17 * 1024 * 1024) + b'"}'
    with Lying({"models": [{"name": "m:1", "size": 1, "digest": DIGEST}]}, shown=shown) as liar:
        endpoint = await eye.learnt(at(liar.url))
        assert list(models(endpoint)) == ["m:1"]
        await eye.look(endpoint)
        assert eye.cost == WHOLE


# Push.


async def test_a_new_manifest_is_told_within_300_ms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hived.providers.watching.ARMED", 100)
    eye = Looking(Ollama, {"OLLAMA_MODELS": str(tmp_path)})
    told = anyio.Event()
    took: list[float] = []

    def tell() -> None:
        nonlocal told
        told.set()
        told = anyio.Event()

    with ollama.Ollama(folder=tmp_path) as server:
        server.add("first")
        endpoint = await eye.learnt(at(server.url))
        assert eye.probe.has_push(endpoint)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(eye.probe.push, endpoint, tell)
            with anyio.fail_after(60.0):
                await told.wait()  # the watch has begun
            while not took or (took[-1] >= 0.3 and len(took) < 50):  # a machine that is busy is late, too
                name = f"model-{len(took)}"
                began = anyio.current_time()
                server.add(name)
                with anyio.fail_after(60.0):
                    await told.wait()
                took.append(anyio.current_time() - began)
                assert f"{name}:latest" in models(await eye.learnt(endpoint))
            tasks.cancel_scope.cancel()
    assert took[-1] < 0.3, took
    await eye.http.aclose()


async def test_there_is_push_only_for_this_device() -> None:
    eye = Looking(Ollama, {})
    assert eye.probe.has_push(at("http://127.0.0.1:11434"))
    assert not eye.probe.has_push(at("http://10.0.0.7:11434"))
    await eye.http.aclose()


# Words.


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("3.2B", 3_200_000_000),
        ("138K", 138_000),
        ("0.57B", 570_000_000),
        ("26B-A4B", 26_000_000_000),
        ("30.5B-A3.3B", 30_500_000_000),
        ("1.1T", 1_100_000_000_000),
        ("7b", 7_000_000_000),
        ("137", 137),
        ("8x7B", None),
        ("", None),
        ("0B", None),
        ("unknown", None),
        ("-1B", None),
        ("9999999999T", None),
        ("1e9", None),
        (7, None),
        (None, None),
    ],
)
def test_parameters_are_read_as_they_are_written(written: object, count: int | None) -> None:
    assert parameters_of(written) == count


@pytest.mark.parametrize(
    ("name", "told", "cloud"),
    [
        ("m:cloud", {}, True),
        ("m:120B-CLOUD", {}, True),
        ("m:latest", {"remote_host": "https://ollama.com"}, True),
        ("m:latest", {"remote_model": "m"}, True),
        ("cloud:latest", {}, False),
        ("m:cloudy", None, False),
        ("m:latest", {"remote_host": ""}, False),
    ],
)
def test_a_cloud_model_is_known_by_its_name_or_its_host(name: str, told: object, cloud: bool) -> None:
    assert is_cloud(name, told) is cloud


def test_only_the_tag_that_nobody_writes_is_left_out() -> None:
    assert aliases_of("user/m:LATEST") == ("user/m",)
    assert aliases_of("m:7b") == aliases_of(":latest") == ()
