"""What the configuration says of a model, in the call to it; and what else an answer knows."""

from __future__ import annotations

import msgspec
import pytest

from hived_client.resolution import DEFAULT_CONTEXT, Question, Refusal, Target, WorldCatalogue, answer
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import ConfiguredModel, Endpoint, Model, World
from tests.client.worlds import STARTED, endpoint, world


def said(model: str | None = "x", origin: str = "llm", **numbers: int) -> ConfiguredModel:
    return ConfiguredModel(model=model, origin=origin, **numbers)


def holding(provider: str, model: Model, *configured: ConfiguredModel) -> World:
    return world(msgspec.structs.replace(endpoint("lab", provider, model), configured=configured))


def yes(found: World, model: str = "lab/x", **more: object) -> Target:
    target = answer(WorldCatalogue(found), Question(model=model, **more))  # type: ignore[arg-type]
    assert isinstance(target, Target), target
    return target


def no(found: World, model: str = "lab/x", **more: object) -> Refusal:
    refusal = answer(WorldCatalogue(found), Question(model=model, **more))  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal), refusal
    return refusal


CONTEXTS = [
    # native, loaded, asked, configured -> num_ctx
    (None, None, None, 32_768, 32_768),
    (None, None, None, 4096, DEFAULT_CONTEXT),
    (8192, None, None, 32_768, 8192),
    (None, 32_768, None, 32_768, 32_768),
    (None, 65_536, 8192, 32_768, 65_536),
    (None, 8192, 4096, 32_768, 32_768),  # Hive calls with 32768: 8192 in between would load it twice
    (None, 8192, 40_000, 32_768, 40_000),
    (8192, 8192, None, 32_768, 8192),  # it holds all that it can: loading again would change nothing
    (None, 8192, 4096, 8192, 8192),
]


@pytest.mark.parametrize(("native", "loaded", "asked", "configured", "num_ctx"), CONTEXTS)
def test_what_is_configured_counts_and_a_model_is_not_loaded_twice(
    native: int | None, loaded: int | None, asked: int | None, configured: int, num_ctx: int
) -> None:
    model = Model(name="x", context=native, loaded_context=loaded)
    found = holding("ollama", model, said(num_ctx=configured))
    target = yes(found, context=asked)
    assert target.extra == {"num_ctx": num_ctx}
    # With what the call has loaded, the next one asks for the same.
    again = holding(
        "ollama", msgspec.structs.replace(model, loaded_context=num_ctx), said(num_ctx=configured)
    )
    assert yes(again, context=asked).extra == {"num_ctx": num_ctx}


SPELLINGS = [
    ("ollama", "x", True),
    ("ollama", "ollama/x", True),
    ("ollama", "OLLAMA/ollama_chat/x", True),
    ("ollama", "x:latest", True),
    ("ollama", "openai/x", True),
    ("ollama", "y", False),
    ("ollama", "org/x", False),
    ("vllm", "hosted_vllm/x", True),
    ("llamacpp", "openai/x", True),
    ("lm_studio", "lm_studio/X", True),
]


@pytest.mark.parametrize(("provider", "written", "means_it"), SPELLINGS)
def test_a_name_may_carry_prefixes(provider: str, written: str, means_it: bool) -> None:
    found = holding(provider, Model(name="x", aliases=("x:latest",)), said(written, max_tokens=77))
    assert (yes(found).facts.get("max_output_tokens") == 77) is means_it


def test_a_model_that_is_called_like_a_provider_is_meant_by_its_whole_name() -> None:
    both = msgspec.structs.replace(
        endpoint("lab", "lm_studio", "openai/gpt-oss-20b", "gpt-oss-20b"),
        configured=(said("openai/gpt-oss-20b", max_tokens=77),),
    )
    assert yes(world(both), "lab/openai/gpt-oss-20b").facts["max_output_tokens"] == 77
    assert "max_output_tokens" not in yes(world(both), "lab/gpt-oss-20b").facts


def test_several_sections_say_the_greatest_of_each_number() -> None:
    found = holding(
        "ollama",
        Model(name="x"),
        said(num_ctx=20_000, max_tokens=100),
        said(None, "providers.ollama", num_ctx=30_000),
        said(origin="worker_llm", num_ctx=10_000, max_tokens=200),
    )
    assert yes(found).extra == {"num_ctx": 30_000}
    assert yes(found).facts["max_output_tokens"] == 200


def test_no_answer_is_longer_than_the_context() -> None:
    found = holding("llamacpp", Model(name="x", loaded_context=512), said(max_tokens=8192))
    assert yes(found).facts["max_output_tokens"] == 512


WINDOWS = [
    # provider, native, loaded, configured -> hint or no warning
    ("llamacpp", None, 4096, 32_768, "llama-server --model FILE.gguf --ctx-size 32768"),
    ("vllm", None, 4096, 32_768, "vllm serve x --max-model-len 32768 --port 8080"),
    ("lm_studio", 16_384, 4096, 32_768, "lms load x --context-length 16384"),
    ("vllm", 4096, 4096, 32_768, "hived status"),
    ("ollama", None, 4096, 32_768, "hived resolve lab/x --context 32768"),
    ("llamacpp", None, 4096, 4096, None),
    ("llamacpp", None, None, 32_768, None),
]


@pytest.mark.parametrize(("provider", "native", "loaded", "configured", "hint"), WINDOWS)
def test_a_window_that_is_not_there_is_told_with_what_opens_it(
    provider: str, native: int | None, loaded: int | None, configured: int, hint: str | None
) -> None:
    model = Model(name="x", context=native, loaded_context=loaded, state="loaded")
    found = holding(provider, model, said(max_context_tokens=configured))
    warned = [w for w in yes(found).warnings if w.code == "context.configured_exceeds"]
    assert [w.hint for w in warned] == ([] if hint is None else [hint])
    assert all(w.message.startswith("llm of the configuration fills 32768 tokens") for w in warned)


# Where else, and what starts it

BESIDE = endpoint("beside", "vllm", "x", locality="lan")


def test_the_very_same_model_elsewhere_is_told_where_it_may_be_used() -> None:
    found = world(endpoint("lab", "ollama"), BESIDE)
    refusal = no(found)
    assert refusal.fault.code == "model.elsewhere"
    assert refusal.fault.message == "lab has no model 'x', but beside serves it."
    assert refusal.alternatives[0] == "beside/x"
    assert no(found, private=True).fault.code == "model.unknown"
    assert no(found, private="lan").fault.code == "model.elsewhere"
    down = msgspec.structs.replace(BESIDE, state="down")
    assert no(world(endpoint("lab", "ollama"), down)).fault.code == "model.unknown"


FILE = Model(name="x", file="/models/my x.gguf")
STARTS: list[tuple[str, Model, str]] = [
    ("ollama", Model(name="x"), "OLLAMA_HOST=127.0.0.1:8080 ollama serve"),
    ("llamacpp", FILE, "hived start llamacpp --model '/models/my x.gguf'"),
    ("llamacpp", Model(name="x"), "hived start llamacpp --model FILE.gguf"),
    ("vllm", Model(name="x"), "vllm serve x --host 127.0.0.1 --port 8080"),
    ("lm_studio", Model(name="x"), "lms server start --port 8080"),
]


@pytest.mark.parametrize(("provider", "model", "hint"), STARTS)
def test_a_server_that_is_down_is_started_with_the_model(provider: str, model: Model, hint: str) -> None:
    refusal = no(world(endpoint("lab", provider, model, state="down")))
    assert refusal.fault.code == "model.server_down"
    assert refusal.fault.hint == hint


def test_what_hived_started_is_started_again_as_it_was() -> None:
    refusal = no(world(endpoint("lab", "llamacpp", FILE, state="down", process=STARTED)))
    assert refusal.fault.hint == (
        "hived start llamacpp --model '/m/my x.gguf' --port 9001 -- --n-gpu-layers 5"
    )


@pytest.mark.parametrize(
    "reason",
    [
        fault("server.ended", title="T", url="u", why="", start="again"),
        fault("server.down", title="T", url="u", start="sudo systemctl start ollama"),
        fault("server.unwatched", title="T", url="u"),
    ],
)
def test_a_reason_that_says_more_is_kept(reason: object) -> None:
    down: Endpoint = endpoint("lab", "ollama", "x", state="down", reason=reason)  # type: ignore[arg-type]
    assert no(world(down)).fault is reason


# What to mind


@pytest.mark.parametrize(
    ("offload", "share"), [(None, None), (0.0, None), (0.62, "38 %"), (0.5, "50 %"), (1.0, None)]
)
def test_a_part_on_the_processor_is_told(offload: float | None, share: str | None) -> None:
    target = yes(world(endpoint("lab", "ollama", Model(name="x", offload=offload))))
    told = [w for w in target.warnings if w.code == "model.partly_on_cpu"]
    assert [w.fields["share"] for w in told] == ([] if share is None else [share])
    assert all(w.hint == "OLLAMA_HOST=127.0.0.1:8080 ollama ps" for w in told)


def test_a_model_without_tools_comes_with_the_command_that_gives_them() -> None:
    lacking = Model(name="org/x", capabilities=("completion",))
    hint = no(world(endpoint("lab", "vllm", lacking)), "lab/org/x", needs=("tools",)).fault.hint
    assert hint == "vllm serve org/x --enable-auto-tool-choice --tool-call-parser hermes --port 8080"
    assert (
        no(world(endpoint("lab", "vllm", lacking)), "lab/org/x", needs=("vision",)).fault.hint
        == "hived status"
    )
