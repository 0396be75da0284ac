"""The plug-in in Hive: what a provider is made of, what is called, and what Hive hears of it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from hived_client.agent.hive import install, uninstall
from hived_client.agent.hive_calls import Attended
from hived_client.agent.hive_mapping import _as_url
from hived_client.doors import sync
from hived_client.doors.paths import Places
from hived_client.doors.sync import Client
from hived_client.errors import CallFailed, NotReady
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.client.agent.hive_stand_in import COMMITS, LiteLlm, hive, litellm
from tests.client.publishing import publish
from tests.servers.loopback import HttpLoopback, Reply, Request
from tests.servers.ollama import Ollama
from tests.servers.strangers import Redirects

OLLAMA, LAB = "http://127.0.0.1:11434", "http://10.0.0.7:8000"
WORLD = World(
    generation=1,
    endpoints=(
        Endpoint(
            name="ollama",
            provider="ollama",
            url=OLLAMA,
            source="default",
            locality="device",
            state="ready",
            models=(Model(name="llama3:latest", context=32768, loaded_context=24000, state="loaded"),),
            slot=0,
        ),
        Endpoint(
            name="lab",
            provider="vllm",
            url=LAB,
            source="configuration",
            locality="lan",
            state="ready",
            models=(Model(name="mistral", loaded_context=8192),),
            key_ref="LAB_KEY",
            slot=1,
        ),
        Endpoint(
            name="llamacpp",
            provider="llamacpp",
            url="http://127.0.0.1:8099",
            source="configuration",
            locality="device",
            state="down",
            reason=fault("server.down", title="llama.cpp", url="http://127.0.0.1:8099"),
            models=(Model(name="phi3"),),
            slot=2,
        ),
    ),
)


@pytest.fixture(params=COMMITS)
def commit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stands_in(monkeypatch: pytest.MonkeyPatch) -> LiteLlm:
    return litellm(monkeypatch)


@pytest.fixture(autouse=True)
def own_places(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client of this process looks at the test's files, and there is no other Hive's configuration."""
    for name in ("HOME", "HIVED_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, environment[name])
    for name in ("OLLAMA_API_BASE", "HOSTED_VLLM_API_BASE", "LM_STUDIO_API_BASE", "LAB_KEY", "HIVED_STRICT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "framework.config", raising=False)
    with Client() as client:
        monkeypatch.setattr(sync, "shared", client)
        yield


@pytest.fixture
def module(commit: str, stands_in: LiteLlm, where: Places) -> types.ModuleType:
    """Hive's module with hived plugged in, beside a daemon that knows WORLD."""
    made = hive(commit, stands_in)
    assert install(made)
    publish(where, WORLD)
    return made


def configured(monkeypatch: pytest.MonkeyPatch, **sections: Any) -> None:
    """Give Hive a configuration."""
    settings = types.ModuleType("framework.config")
    settings.__dict__["get_hive_config"] = lambda: sections
    settings.__dict__["get_api_base"] = lambda: "https://chatgpt.example/codex"
    settings.__dict__["get_api_key"] = lambda: "sk-subscription"
    monkeypatch.setitem(sys.modules, "framework.config", settings)


# What a provider is made of.


def test_a_local_model_is_named_addressed_and_given_its_context(module: types.ModuleType) -> None:
    provider = module.LiteLLMProvider(model="ollama/llama3")
    assert (provider.model, provider.api_base) == ("ollama_chat/llama3:latest", OLLAMA)
    assert (provider.api_key, provider.extra_kwargs) == (None, {"num_ctx": 24000})
    lab = module.LiteLLMProvider("vllm/mistral")
    assert (lab.model, lab.api_base) == ("hosted_vllm/mistral", f"{LAB}/v1")
    assert "num_ctx" not in lab.extra_kwargs


def test_an_endpoints_own_name_is_a_prefix_too(module: types.ModuleType) -> None:
    assert module.LiteLLMProvider(model="lab/mistral").api_base == f"{LAB}/v1"


def test_its_facts_are_told_to_litellm(module: types.ModuleType, stands_in: LiteLlm) -> None:
    module.LiteLLMProvider(model="ollama/llama3")
    facts = stands_in.model_cost["ollama_chat/llama3:latest"]
    assert facts["max_input_tokens"] == 24000
    assert facts["supports_function_calling"] is True


@pytest.mark.parametrize("model", ["gpt-4o", "anthropic/claude-x", "groq/llama3", "unheard/of"])
def test_a_cloud_model_is_left_alone(module: types.ModuleType, stands_in: LiteLlm, model: str) -> None:
    provider = module.LiteLLMProvider(model, "sk-cloud", "https://cloud.example", temperature=0.5)
    assert (provider.model, provider.api_key) == (model, "sk-cloud")
    assert (provider.api_base, provider.extra_kwargs) == ("https://cloud.example", {"temperature": 0.5})
    assert provider.complete() == "cloud"
    assert stands_in.to_the_cloud[0]["api_key"] == "sk-cloud"
    assert stands_in.model_cost == {}


def test_what_breaks_in_hived_leaves_a_cloud_model_as_it_was_and_a_local_one_at_home(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> Any:
        raise RuntimeError("hived is broken")

    monkeypatch.setattr("hived_client.doors.files.Files.look", broken)
    assert module.LiteLLMProvider("unheard/of").model == "unheard/of"
    assert module.LiteLLMProvider("gpt-4o").complete() == "cloud"
    phi = module.LiteLLMProvider("lm_studio/phi3")
    assert (phi.model, phi.api_base) == ("lm_studio/phi3", "http://127.0.0.1:1234/v1")


@pytest.mark.parametrize("breaks", ["hived", "Hive's configuration"])
def test_what_breaks_sends_no_local_model_to_the_place_of_a_cloud_model(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    def broken(*args: object, **kwargs: object) -> Any:
        raise RuntimeError("it is broken")

    configured(
        monkeypatch,
        llm={"provider": "groq", "api_base": "https://groq.example/v1", "api_key": "sk-groq"},
    )
    if breaks == "hived":
        monkeypatch.setattr("hived_client.doors.files.Files.look", broken)
    else:
        monkeypatch.setattr(sys.modules["framework.config"], "get_hive_config", broken)
    provider = module.LiteLLMProvider("lm_studio/phi3", "sk-groq", "https://groq.example/v1")
    assert provider.api_base == "http://127.0.0.1:1234/v1"
    assert provider.api_key != "sk-groq"


@pytest.mark.parametrize(
    ("model", "called", "base"),
    [
        ("ollama/x", "ollama_chat/x", "http://127.0.0.1:11434"),
        ("OLLAMA/ollama/x", "ollama_chat/x", "http://127.0.0.1:11434"),
        ("vllm/x", "hosted_vllm/x", "http://127.0.0.1:8000/v1"),
        ("hosted_vllm/x", "hosted_vllm/x", "http://127.0.0.1:8000/v1"),
        ("lm_studio/x", "lm_studio/x", "http://127.0.0.1:1234/v1"),
        ("llamacpp/x", "openai/x", "http://127.0.0.1:8080/v1"),
    ],
)
def test_nothing_is_known_and_a_local_model_has_an_address_all_the_same(
    commit: str, stands_in: LiteLlm, model: str, called: str, base: str
) -> None:
    made = hive(commit, stands_in)
    install(made)
    provider = made.LiteLLMProvider(model=model)
    assert (provider.model, provider.api_base) == (called, base)


def test_where_no_address_is_possible_there_is_no_provider(commit: str, stands_in: LiteLlm) -> None:
    made = hive(commit, stands_in)
    install(made)
    with pytest.raises(NotReady):
        made.LiteLLMProvider(model="openai_compatible/x")


def test_what_the_caller_gives_wins(module: types.ModuleType) -> None:
    provider = module.LiteLLMProvider("ollama/llama3", num_ctx=4096)
    assert provider.extra_kwargs == {"num_ctx": 4096}
    provider = module.LiteLLMProvider("vllm/x", "sk-own", "http://192.168.1.5:9000", num_ctx=4096)
    assert (provider.model, provider.api_base) == ("hosted_vllm/x", "http://192.168.1.5:9000/v1")
    assert (provider.api_key, provider.extra_kwargs) == ("sk-own", {})


def test_litellms_own_variable_is_the_callers_word(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_STUDIO_API_BASE", "http://192.168.1.6:1234/v1")
    assert module.LiteLLMProvider("lm_studio/x").api_base == "http://192.168.1.6:1234/v1"


def test_an_address_that_hived_watches_is_called_as_what_is_there(module: types.ModuleType) -> None:
    provider = module.LiteLLMProvider("hosted_vllm/phi3", api_base="http://localhost:8099/v1")
    assert (provider.model, provider.api_base) == ("openai/phi3", "http://127.0.0.1:8099/v1")


def test_what_hive_has_for_another_provider_reaches_neither_address_nor_server(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(
        monkeypatch,
        llm={"provider": "groq", "api_base": "https://groq.example/v1", "api_key": "sk-groq"},
    )
    provider = module.LiteLLMProvider("ollama/llama3", "sk-groq", "https://groq.example/v1/")
    assert (provider.api_base, provider.api_key) == (OLLAMA, None)
    configured(monkeypatch, llm={"provider": "openai", "use_codex_subscription": True})
    provider = module.LiteLLMProvider("ollama/llama3", "sk-subscription", "https://chatgpt.example/codex")
    assert (provider.api_base, provider.api_key) == (OLLAMA, None)


def test_what_hive_has_for_the_very_provider_is_used(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"provider": "hosted_vllm", "api_base": "http://192.168.1.5:9000/v1", "api_key": "sk-mine"}
    configured(monkeypatch, llm=mine, worker_llm={"provider": "groq", "api_key": "sk-groq"})
    provider = module.LiteLLMProvider("vllm/x", "sk-mine", "http://192.168.1.5:9000/v1")
    assert (provider.api_base, provider.api_key) == ("http://192.168.1.5:9000/v1", "sk-mine")


def test_a_key_is_read_where_it_is_used(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "sk-lab")
    assert module.LiteLLMProvider("vllm/mistral").api_key == "sk-lab"


def test_a_model_that_cannot_be_called_is_said_once_and_made_all_the_same(
    module: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "hived"):
        provider = module.LiteLLMProvider("llamacpp/phi3")
    assert provider.api_base == "http://127.0.0.1:8099/v1"
    (record,) = caplog.records
    assert "llama.cpp is not running at http://127.0.0.1:8099" in record.message
    assert "→ hived start llamacpp" in record.message


def test_strict_makes_that_an_error(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVED_STRICT", "1")
    with pytest.raises(NotReady, match=r"llama\.cpp is not running"):
        module.LiteLLMProvider("llamacpp/phi3")
    assert module.LiteLLMProvider("gpt-4o").model == "gpt-4o"


def test_a_mistake_of_the_callers_is_hives_to_say(module: types.ModuleType) -> None:
    with pytest.raises(TypeError):
        module.LiteLLMProvider("ollama/llama3", "key", "base", "pool", "resolver", "what is this")
    assert module.LiteLLMProvider().model == "gpt-4o-mini"


# Another model later, which only the newer Hive can.


def test_another_model_brings_its_own_context_and_takes_it_away(stands_in: LiteLlm, where: Places) -> None:
    module = hive("54fd8db4e", stands_in)
    install(module)
    publish(where, WORLD)
    provider = module.LiteLLMProvider("ollama/llama3")
    provider.reconfigure("gpt-4o", "sk-cloud")
    assert (provider.model, provider.extra_kwargs) == ("gpt-4o", {})
    assert provider.complete() == "cloud"
    provider.reconfigure("ollama/llama3")
    assert (provider.api_base, provider.extra_kwargs) == (OLLAMA, {"num_ctx": 24000})
    provider.reconfigure("vllm/mistral")
    assert (provider.api_base, provider.extra_kwargs) == (f"{LAB}/v1", {})


def test_a_key_that_hive_would_fetch_for_another_provider_is_not_fetched(
    stands_in: LiteLlm, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(monkeypatch, llm={"provider": "groq", "api_key": "sk-groq", "api_keys": ["sk-groq", "sk-2"]})
    module = hive("54fd8db4e", stands_in)
    install(module)
    publish(where, WORLD)
    provider = module.LiteLLMProvider(
        "ollama/llama3", "sk-groq", api_keys=["sk-groq", "sk-2"], api_key_resolver=lambda: "sk-groq"
    )
    assert (provider.api_key, provider._api_key_resolver) == (None, None)


# In and out.


def test_it_is_installed_once_and_goes_without_a_trace(commit: str, stands_in: LiteLlm) -> None:
    module = hive(commit, stands_in)
    before = dict(vars(module.LiteLLMProvider))
    install(module)
    wrapped = module.LiteLLMProvider.__init__
    assert install(module)
    assert module.LiteLLMProvider.__init__ is wrapped
    assert isinstance(module.litellm, Attended)
    assert module.litellm.provider_list is stands_in.provider_list
    module.litellm.drop_params = True
    assert stands_in.__dict__["drop_params"] is True
    uninstall(module)
    uninstall(module)
    assert dict(vars(module.LiteLLMProvider)) == before
    assert vars(module)["litellm"] is stands_in


def test_a_hive_without_litellm_is_left_alone(commit: str, stands_in: LiteLlm) -> None:
    module = hive(commit, stands_in)
    vars(module)["litellm"] = None
    assert not install(module)
    assert not install(types.ModuleType("framework.llm.litellm"))


# What is called.


def ready(url: str, *, state: Any = "ready", provider: str = "ollama") -> World:
    reason = fault("server.down", title="Ollama", url=url, start="ollama serve") if state == "down" else None
    return World(
        generation=1,
        endpoints=(
            Endpoint(
                name="ollama",
                provider=provider,
                url=url,
                source="configuration",
                locality="device",
                state=state,
                reason=reason,
                models=(Model(name="llama3:latest", context=32768),),
                slot=0,
            ),
        ),
    )


@pytest.fixture
def plugged(commit: str, stands_in: LiteLlm, where: Places) -> Callable[[World], Any]:
    """Plug hived in beside a daemon that knows a World; return a provider."""

    def make(world: World, model: str = "ollama/llama3", **kwargs: Any) -> Any:
        made = hive(commit, stands_in)
        install(made)
        publish(where, world)
        return made.LiteLLMProvider(model, **kwargs)

    return make


def test_a_call_reaches_the_server_with_its_context_in_every_way(plugged: Callable[..., Any]) -> None:
    with Ollama() as server:
        server.add("llama3", context_length=32768)
        provider = plugged(ready(server.url))
        assert provider.complete()["message"]["content"]
        assert asyncio.run(provider.acomplete())["message"]["content"]
        pieces = asyncio.run(provider.stream())
        assert json.loads(pieces[-1])["done"] is True
        assert server.requests == [("POST", "/api/chat")] * 3


class Remembers(HttpLoopback):
    """Says yes, and keeps the headers."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[dict[str, str]] = []

    def answer(self, request: Request) -> Reply:
        self.headers.append(request.headers)
        return Reply(headers=(("content-type", "application/json"), ("content-length", "2")), body=b"{}")


def test_no_key_but_the_servers_own_is_sent(
    plugged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(monkeypatch, llm={"provider": "groq", "api_key": "sk-groq"})
    with Remembers() as server:
        provider = plugged(ready(server.url), api_key="sk-groq")
        provider.api_key = "sk-groq"  # as a resolver of Hive's would
        provider.complete()
        mine = plugged(ready(server.url), api_key="sk-mine")
        mine.complete()
    assert [each.get("authorization") for each in server.headers] == [None, "Bearer sk-mine"]


def test_a_server_on_the_internet_is_called_by_litellms_own_client_and_without_anothers_key(
    plugged: Callable[..., Any], stands_in: LiteLlm
) -> None:
    (endpoint,) = ready("http://203.0.113.5:11434").endpoints
    far = msgspec.structs.replace(endpoint, locality="internet")
    provider = plugged(World(generation=1, endpoints=(far,)))
    provider.api_key = "sk-groq"  # as a resolver of Hive's would
    assert provider.complete() == "cloud"
    (kwargs,) = stands_in.to_the_cloud
    assert kwargs["api_base"] == "http://203.0.113.5:11434"
    assert {"api_key", "client"}.isdisjoint(kwargs)


def test_no_proxy_is_used_and_no_redirect_followed(
    plugged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Remembers() as elsewhere, Redirects(elsewhere.url) as server:
        provider = plugged(ready(server.url))
        for call in (provider.complete, lambda: asyncio.run(provider.stream())):
            with pytest.raises(CallFailed) as caught:
                call()
            assert caught.value.code == "server.redirects"
        assert elsewhere.headers == []


def test_a_server_that_is_known_to_be_down_is_not_called(
    plugged: Callable[..., Any], unused_port: int, stands_in: LiteLlm
) -> None:
    provider = plugged(ready(f"http://127.0.0.1:{unused_port}", state="down"))
    began = time.monotonic()
    for call in (provider.complete, lambda: asyncio.run(provider.stream())):
        with pytest.raises(NotReady, match="Ollama is not running") as caught:
            call()
        assert not isinstance(caught.value, OSError), "Hive would take it for something that passes"
    assert time.monotonic() - began < 20.0
    assert stands_in.to_the_cloud == []


def test_a_server_that_only_the_caller_knows_and_that_is_gone(
    plugged: Callable[..., Any], unused_port: int
) -> None:
    provider = plugged(World(generation=1), api_base=f"http://127.0.0.1:{unused_port}")
    for call in (provider.complete, lambda: asyncio.run(provider.acomplete())):
        with pytest.raises(NotReady, match="Ollama is not running"):
            call()


class Stalls(HttpLoopback):
    """Says something, and then nothing, until it is gone."""

    def answer(self, request: Request) -> Reply:
        def body() -> Iterator[bytes]:
            yield b'{"message":{"content":"He"},"done":false}\n'
            self.closing.wait()
            raise OSError("gone")

        headers = (("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked"))
        return Reply(headers=headers, body=body())


def test_a_server_that_dies_in_the_middle_of_its_answer(plugged: Callable[..., Any]) -> None:
    with ExitStack() as stack:
        provider = plugged(ready(stack.enter_context(Stalls()).url))
        pieces: list[str] = []

        async def talk() -> None:
            attended = type(provider).complete.__globals__["litellm"]
            response = await attended.acompletion(**provider._kwargs(stream=True))
            assert response.model == "stands-in"
            async for piece in response:
                pieces.append(piece)
                await asyncio.to_thread(stack.close)

        with pytest.raises(NotReady, match="Ollama is not running"):
            asyncio.run(talk())
    assert len(pieces) == 1


def test_a_server_that_has_died_meanwhile_is_said_to_be_gone(plugged: Callable[..., Any]) -> None:
    with Ollama() as server:
        server.add("llama3")
        provider = plugged(ready(server.url))
    with pytest.raises(NotReady, match="Ollama is not running"):
        asyncio.run(provider.stream())
    with pytest.raises(NotReady, match="Ollama is not running"):
        provider.complete()


def test_what_hived_knows_nothing_of_is_litellms_error(plugged: Callable[..., Any]) -> None:
    with Ollama() as server:
        server.add("other")  # the file says that llama3 is there
        provider = plugged(ready(server.url))
        for call in (provider.complete, lambda: asyncio.run(provider.stream())):
            with pytest.raises(ConnectionError, match="not found") as caught:
                call()
            assert caught.value.__cause__ is not caught.value


# Room for what is said.


def test_a_model_that_is_loaded_too_small_gets_the_room_that_hive_needs_and_keeps_it(
    plugged: Callable[..., Any], where: Places
) -> None:
    with Numbers() as server:
        small = Model(name="llama3:latest", context=32768, loaded_context=4096, state="loaded")
        (endpoint,) = ready(server.url).endpoints
        world = World(generation=1, endpoints=(msgspec.structs.replace(endpoint, models=(small,)),))
        provider = plugged(world)
        for words in (10, 30_000, 10, 200_000):
            publish(where, world)
            provider.say(words)
        assert server.seen == [4096, 16384, 16384, 32768]
        mine = plugged(world, num_ctx=2048)
        mine.say(30_000)
        assert server.seen[-1] == 2048


class Counts(HttpLoopback):
    """Reads no more than half of its context, and says how much that was."""

    def answer(self, request: Request) -> Reply:
        asked = json.loads(request.body)
        counted = min(len(request.body) // 4, asked["options"]["num_ctx"] // 2)
        said = {"message": {"content": "x"}, "done": True, "prompt_eval_count": counted}
        body = json.dumps(said).encode() + b"\n"
        return Reply(
            headers=(("content-type", "application/json"), ("content-length", str(len(body)))), body=body
        )


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream"])
def test_a_prompt_that_was_cut_is_told_once_with_what_mends_it(
    plugged: Callable[..., Any], caplog: pytest.LogCaptureFixture, way: str
) -> None:
    def call(letters: int) -> None:
        provider.text = "x" * letters
        answer = getattr(provider, way)()
        if way != "complete":
            asyncio.run(answer)

    with Counts() as server:
        provider = plugged(ready(server.url), num_ctx=2048)
        call(3_000)
        assert caplog.messages == []
        for _ in range(2):
            call(40_000)
    [said] = caplog.messages
    assert "Ollama read 1024 of some" in said
    assert "the context of 'llama3:latest' is 2048" in said
    assert "→ hived resolve ollama/llama3:latest --context" in said


class Numbers(HttpLoopback):
    """Says yes, and keeps the contexts that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def answer(self, request: Request) -> Reply:
        self.seen.append(json.loads(request.body)["options"]["num_ctx"])
        return Reply(headers=(("content-type", "application/json"), ("content-length", "2")), body=b"{}")


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("http://gpu:11434", "http://gpu:11434"),
        ("localhost:11434", "http://localhost:11434"),
        ("/", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_that_a_variable_has_is_one_that_can_be_called(
    written: str | None, called: str | None
) -> None:
    assert _as_url(written) == called
