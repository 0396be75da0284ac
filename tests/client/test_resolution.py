"""The question and its answer, by literals."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from hived_client.errors import Refused
from hived_client.resolution import (
    DEFAULT_CONTEXT,
    Question,
    Refusal,
    Target,
    WorldCatalogue,
    alternatives,
    answer,
    bind,
    concerned,
)
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import KINDS, ProviderKind
from hived_client.vocabulary.world import CALLABLE, Endpoint, Locality, Model, Process, State, World
from tests.client.worlds import MODEL_STATES, STARTED, STATES, endpoint, questions, world, worlds


def ask(
    found: World,
    model: str,
    *,
    context: int | None = None,
    needs: tuple[str, ...] = (),
    private: bool | str = False,
) -> Target | Refusal:
    question = Question(model=model, context=context, needs=needs, private=private)
    return answer(WorldCatalogue(found), question)


def yes(found: World, model: str, **more: Any) -> Target:
    target = ask(found, model, **more)
    assert isinstance(target, Target), target
    return target


def no(found: World, model: str, **more: Any) -> Refusal:
    refusal = ask(found, model, **more)
    assert isinstance(refusal, Refusal), refusal
    return refusal


# Prefix → LiteLLM

MAPPING = [
    ("ollama", "ollama/x", "ollama_chat/x", "http://h:1", None),
    ("ollama", "ollama_chat/x", "ollama_chat/x", "http://h:1", None),
    ("ollama", "OLLAMA/X", "ollama_chat/x", "http://h:1", None),
    ("ollama", "ollama/ollama/x", "ollama_chat/x", "http://h:1", None),
    ("vllm", "vllm/x", "hosted_vllm/x", "http://h:1/v1", "sk-no-key-required"),
    ("vllm", "hosted_vllm/x", "hosted_vllm/x", "http://h:1/v1", "sk-no-key-required"),
    ("lm_studio", "lm_studio/x", "lm_studio/x", "http://h:1/v1", "sk-no-key-required"),
    ("llamacpp", "llamacpp/x", "openai/x", "http://h:1/v1", "sk-no-key-required"),
    ("openai_compatible", "openai_compatible/x", "openai/x", "http://h:1/v1", "sk-no-key-required"),
    ("unheard_of", "some/x", "openai/x", "http://h:1/v1", "sk-no-key-required"),
]


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/v1", "http://h:1/v1/"])
@pytest.mark.parametrize(("provider", "written", "model", "base", "key"), MAPPING)
def test_each_prefix_is_called_as_litellm_wants(
    provider: str, written: str, model: str, base: str, key: str | None, url: str
) -> None:
    target = yes(world(endpoint("some", provider, "x", url=url)), written)
    assert (target.model, target.api_base, target.api_key, target.name) == (model, base, key, "x")
    kwargs = target.completion_kwargs()
    assert kwargs.pop("num_ctx", None) == (DEFAULT_CONTEXT if provider == "ollama" else None)
    assert kwargs == {"model": model, "api_base": base} | ({"api_key": key} if key else {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("url", ["", " ", "/v1"])
def test_an_endpoint_without_an_address_is_never_called(kind: ProviderKind, url: str) -> None:
    assert no(world(endpoint("lab", kind.name, "x", url=url)), "lab/x").fault.code == "server.unreachable"


def test_a_kind_that_travels_in_the_world_is_used() -> None:
    kind = ProviderKind(name="sglang", title="S", prefixes=("sglang",), litellm="openai", api_path="/api")
    found = world(endpoint("some", "sglang", "x", url="http://h"), kinds=(kind,))
    assert yes(found, "SGLang/x").api_base == "http://h/api"


# Which endpoint

LOADED, UNLOADED = Model(name="x", state="loaded"), Model(name="x", state="unloaded")
RANKS: list[tuple[str, Endpoint, Endpoint]] = [
    (
        "given before guessed",
        endpoint("a", "vllm", "x", source="environment"),
        endpoint("b", "vllm", "x", source="default"),
    ),
    (
        "given before guessed, although it is down",
        endpoint("a", "vllm", "x", state="down"),
        endpoint("b", "vllm", "x", source="default"),
    ),
    ("ready before not", endpoint("a", "vllm", UNLOADED), endpoint("b", "vllm", LOADED, state="down")),
    ("loaded before unloaded", endpoint("a", "vllm", LOADED), endpoint("b", "vllm", UNLOADED)),
    ("unknown is as good as loaded", endpoint("a", "vllm", Model(name="x")), endpoint("b", "vllm", UNLOADED)),
    (
        "who has it before who has not",
        endpoint("a", "vllm", "x", source="default"),
        endpoint("b", "vllm", "y"),
    ),
    (
        "a started one is not a guess",
        endpoint("a", "vllm", "x", source="started"),
        endpoint("b", "vllm", "x", source="default"),
    ),
]


@pytest.mark.parametrize(("first", "second"), [row[1:] for row in RANKS], ids=[row[0] for row in RANKS])
def test_a_provider_picks_the_best_of_its_endpoints(first: Endpoint, second: Endpoint) -> None:
    for order in ((first, second), (second, first)):
        found = ask(world(*order), "vllm/x")
        assert found.endpoint == "a"


def test_a_tie_is_a_fault_whose_alternatives_work() -> None:
    found = world(endpoint("a", "vllm", "x"), endpoint("b", "vllm", "x"), endpoint("c", "vllm", UNLOADED))
    refusal = no(found, "vllm/x")
    assert refusal.fault.code == "model.ambiguous"
    assert refusal.alternatives == ("a/x", "b/x")
    assert refusal.fault.hint == "hived resolve a/x"
    assert [yes(found, each).endpoint for each in refusal.alternatives] == ["a", "b"]


def test_the_endpoint_with_the_very_name_wins_a_tie() -> None:
    found = world(endpoint("gpu", "ollama", "x"), endpoint("ollama", "ollama", "x"))
    assert yes(found, "ollama/x").endpoint == "ollama"
    assert yes(found, "gpu/x").endpoint == "gpu"


def test_a_prefix_that_is_an_endpoints_name_too_means_all_of_the_provider() -> None:
    found = world(endpoint("ollama", "ollama", "x", state="down"), endpoint("gpu", "ollama", "x", "y"))
    assert yes(found, "ollama/x").endpoint == "gpu"
    assert yes(found, "ollama/y").endpoint == "gpu"
    assert concerned(WorldCatalogue(found), Question(model="ollama/x")) == ("ollama", "gpu")


def test_an_endpoint_named_as_another_provider_is_only_itself() -> None:
    found = world(endpoint("ollama", "vllm", "x"), endpoint("gpu", "ollama", "y"))
    assert yes(found, "ollama/x").model == "hosted_vllm/x"
    elsewhere = no(found, "ollama/y")
    assert (elsewhere.fault.code, elsewhere.fault.hint) == ("model.elsewhere", "hived resolve gpu/y")
    assert elsewhere.alternatives[0] == "gpu/y"
    assert yes(found, "ollama_chat/y").endpoint == "gpu"


def test_endpoints_that_differ_in_case_are_told_apart() -> None:
    found = world(endpoint("Lab", "vllm", "x"), endpoint("lab", "vllm", "x"))
    assert yes(found, "Lab/x").endpoint == "Lab"
    assert yes(found, "lab/x").endpoint == "lab"
    assert no(found, "LAB/x").fault.code == "model.ambiguous"


def test_a_model_whose_name_repeats_the_prefix_is_found_by_its_whole_name() -> None:
    found = world(endpoint("qwen", "lm_studio", "qwen/qwen3", "ollama/qwen3"))
    assert yes(found, "qwen/qwen/qwen3").name == "qwen/qwen3"
    assert yes(found, "lm_studio/qwen/qwen3").name == "qwen/qwen3"
    assert yes(world(endpoint("qwen", "vllm", "qwen3")), "qwen/qwen/qwen3").name == "qwen3"


# Why not

STATE_CODES: dict[State, str] = {
    "down": "server.down",
    "unreachable": "server.unreachable",
    "starting": "server.starting",
    "loading": "server.loading",
    "failed": "server.failed",
    "unauthorised": "server.unauthorised",
    "wrong_server": "server.wrong",
    "unknown": "server.not_seen_yet",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("model", ["x", "missing"])
def test_every_state_is_either_called_or_has_its_fault(state: State, model: str) -> None:
    found = world(endpoint("lab", "vllm", "x", state=state), endpoint("other", "vllm", "x"))
    if state in CALLABLE and model == "x":
        assert yes(found, "lab/x").state == state
    else:
        refusal = no(found, f"lab/{model}")
        known_down = state == "down" and model == "x"
        code = "model.server_down" if known_down else STATE_CODES.get(state, "model.unknown")
        assert refusal.fault.code == code
        assert refusal.endpoint == "lab"
        assert "?" not in refusal.fault.message
        assert "other/x" in refusal.alternatives


def test_the_reason_that_was_found_says_more_than_the_state() -> None:
    reason = fault("server.dns", host="h", url="http://h")
    assert (
        no(world(endpoint("lab", "vllm", "x", state="unreachable", reason=reason)), "lab/x").fault is reason
    )


def test_a_server_that_wants_a_key_says_where_it_is_looked_for() -> None:
    assert (
        no(world(endpoint("lab", "vllm", "x", state="unauthorised", key_ref="K")), "lab/x").fault.hint
        == "export K=…"
    )
    unnamed = no(world(endpoint("lab", "vllm", "x", state="unauthorised")), "lab/x").fault
    assert unnamed.hint == "set providers.lab.api_key_env_var in ~/.hive/configuration.json"


@pytest.mark.parametrize("state", [None, *MODEL_STATES])
def test_every_state_of_a_model_is_called_or_has_its_fault(state: Any) -> None:
    found = world(endpoint("lab", "vllm", Model(name="x", state=state)))
    code = {"loading": "model.loading", "downloading": "model.downloading", "failed": "model.failed"}.get(
        state
    )
    if code:
        assert no(found, "lab/x").fault.code == code
    else:
        warned = [w.code for w in yes(found, "lab/x").warnings]
        assert warned == {"unloaded": ["model.unloaded"], "sleeping": ["model.sleeping"]}.get(state, [])


NOTHING_KNOWN = [
    ("x", "model.unnamed"),
    ("", "model.unnamed"),
    ("/x", "model.unnamed"),
    ("ollama/x", "provider.nowhere"),
    ("nobody/x", "provider.unknown"),
]


@pytest.mark.parametrize(("model", "code"), NOTHING_KNOWN)
def test_an_empty_world_says_no_with_the_right_fault(model: str, code: str) -> None:
    assert no(world(), model).fault.code == code


def test_inventories_that_were_never_learnt_are_not_a_no() -> None:
    assert no(world(endpoint("lab", "vllm", unlearnt=True)), "lab/x").fault.code == "model.unverified"
    assert no(world(endpoint("lab", "vllm")), "lab/x").fault.code == "model.unknown"


# Alternatives


def test_alternatives_are_callable_and_the_likeliest_first() -> None:
    found = world(
        endpoint("a", "vllm", "mistral", "llama-3.1-8b"),
        endpoint("b", "ollama", "llama3"),
        endpoint("c", "ollama", "llama3", state="down"),
        endpoint("d", "ollama", Model(name="llama3x", state="failed")),
    )
    names = alternatives(WorldCatalogue(found), Question(model="lab/Llama3"), "Llama3")
    assert names[0] == "b/llama3"
    assert set(names) == {"a/mistral", "a/llama-3.1-8b", "b/llama3"}
    assert all(isinstance(ask(found, name), Target) for name in names)
    assert no(found, "llama3").alternatives[0] == "b/llama3"
    assert len(alternatives(WorldCatalogue(found), Question(model="lab/x"), "x", 2)) == 2


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ({}, {"lab/near", "lab/cloud", "lab/small", "gpu/far"}),
        ({"private": True}, {"lab/near", "lab/small"}),
        ({"private": "lan"}, {"lab/near", "lab/small", "gpu/far"}),
        ({"context": 8192}, {"lab/near", "lab/cloud", "gpu/far"}),
        ({"needs": ("tools",)}, {"lab/near", "lab/small", "gpu/far"}),
    ],
)
def test_what_the_question_could_not_be_asked_of_is_no_alternative(
    asked: dict[str, Any], offered: set[str]
) -> None:
    served = (
        Model(name="near", context=8192, capabilities=("tools",)),
        Model(name="cloud", locality="internet", capabilities=("completion",)),
        Model(name="small", context=2048),
    )
    far = endpoint("gpu", "vllm", "far", url="http://10.0.0.7:8000", locality="lan", slot=1)
    found = world(endpoint("lab", "ollama", *served), far)
    assert set(no(found, "lab/missing", **asked).alternatives) == offered


# Privacy

PLACES: list[Locality | None] = ["device", "lan", "internet", None]


@pytest.mark.parametrize("private", [False, True, "lan"])
@pytest.mark.parametrize("of_model", PLACES)
@pytest.mark.parametrize("of_endpoint", PLACES)
def test_a_private_question_stays_near(of_endpoint: Any, of_model: Any, private: bool | str) -> None:
    allowed = {True: {"device"}, "lan": {"device", "lan"}}.get(private)
    near = allowed is None or {of_endpoint, of_model or of_endpoint} <= allowed
    found = world(endpoint("lab", "ollama", Model(name="x", locality=of_model), locality=of_endpoint))
    if near:
        assert yes(found, "lab/x", private=private).locality == (of_model or of_endpoint)
    else:
        refusal = no(found, "lab/x", private=private)
        assert refusal.fault.code == "model.remote"
        assert "None" not in refusal.fault.message


@pytest.mark.parametrize("private", ["LAN", "", "device", 0, None])
def test_a_privacy_that_is_not_understood_means_this_device(private: Any) -> None:
    assert (
        no(world(endpoint("lab", "vllm", "x", locality="lan")), "lab/x", private=private).fault.code
        == "model.remote"
    )


def test_a_private_question_takes_the_endpoint_it_may_use() -> None:
    found = world(endpoint("gpu", "ollama", "x", locality="lan"), endpoint("here", "ollama", UNLOADED))
    assert yes(found, "ollama/x").endpoint == "gpu"
    assert yes(found, "ollama/x", private=True).endpoint == "here"


# Context

M = Model
CONTEXTS = [
    # provider, native, loaded, asked -> context, num_ctx or a fault's code
    ("ollama", None, None, None, DEFAULT_CONTEXT, DEFAULT_CONTEXT),
    ("ollama", None, 4096, None, 4096, 4096),
    ("ollama", None, 4096, 4096, 4096, 4096),
    ("ollama", None, 4096, 8192, DEFAULT_CONTEXT, DEFAULT_CONTEXT),
    ("ollama", None, 32768, 20000, 32768, 32768),
    ("ollama", None, None, 20000, 20000, 20000),
    ("ollama", 8192, None, None, 8192, 8192),
    ("ollama", 8192, 4096, 8192, 8192, 8192),
    ("ollama", 8192, 4096, 8193, "context.exceeds_native", None),
    ("llamacpp", 8192, 4096, None, 4096, None),
    ("llamacpp", 8192, 4096, 4096, 4096, None),
    ("llamacpp", 8192, 4096, 4097, "context.exceeds_loaded", None),
    ("llamacpp", 8192, None, 8193, "context.exceeds_native", None),
    ("vllm", None, None, 9, None, None),
    ("lm_studio", 8192, None, 4096, None, None),
    ("vllm", None, None, None, None, None),
    ("vllm", None, 4096, 5000, "context.exceeds_loaded", None),
]


@pytest.mark.parametrize(("provider", "native", "loaded", "asked", "context", "num_ctx"), CONTEXTS)
def test_the_context_is_what_was_asked_and_fits(
    provider: str,
    native: int | None,
    loaded: int | None,
    asked: int | None,
    context: Any,
    num_ctx: int | None,
) -> None:
    found = world(endpoint("lab", provider, Model(name="x", context=native, loaded_context=loaded)))
    if isinstance(context, str):
        assert no(found, "lab/x", context=asked).fault.code == context
    else:
        target = yes(found, "lab/x", context=asked)
        assert target.context == context
        assert target.extra == ({} if num_ctx is None else {"num_ctx": num_ctx})
        assert target.facts.get("max_input_tokens") == context
        unsure = [each.code for each in target.warnings if each.code.startswith("context.")]
        assert unsure == (["context.unsure"] if asked is not None and context is None else [])


def test_too_small_a_context_comes_with_the_command_that_mends_it() -> None:
    found = world(endpoint("lab", "llamacpp", Model(name="x", loaded_context=4), process=STARTED))
    assert no(found, "lab/x", context=9).fault.hint == (
        "hived stop llamacpp-9001 && "
        "hived start llamacpp --model '/m/my x.gguf' --port 9001 --ctx-size 9 -- --n-gpu-layers 5"
    )
    studio = Process(pid=None, command=("lms",), log="l", name="lm_studio", provider="lm_studio")
    found = world(endpoint("lab", "lm_studio", Model(name="x", loaded_context=4), process=studio))
    assert no(found, "lab/x", context=9).fault.hint == "lms load x --context-length 9"
    found = world(endpoint("lab", "llamacpp", Model(name="x", loaded_context=4)))
    assert no(found, "lab/x", context=9).fault.hint.startswith("llama-server")


# Needs

NEEDS = [
    (("tools", "vision"), ("tools",), None, []),
    (("tools",), ("tools", "vision"), "model.lacks", []),
    ((), ("tools",), "model.lacks", []),
    (None, ("tools",), None, ["model.tools_unsure"]),
    (None, ("vision",), None, ["model.unsure"]),
    (None, (), None, []),
]


@pytest.mark.parametrize(("offered", "needs", "code", "warned"), NEEDS)
def test_what_is_needed_is_there_or_unsure(
    offered: tuple[str, ...] | None, needs: tuple[str, ...], code: str | None, warned: list[str]
) -> None:
    found = world(endpoint("lab", "vllm", Model(name="x", capabilities=offered)))
    if code:
        assert no(found, "lab/x", needs=needs).fault.code == code
    else:
        assert [each.code for each in yes(found, "lab/x", needs=needs).warnings] == warned


def test_facts_are_in_the_shape_of_litellm_and_say_only_what_is_known() -> None:
    facts = yes(world(endpoint("lab", "vllm", Model(name="x"))), "lab/x").facts
    assert "max_tokens" not in facts
    assert "supports_function_calling" not in facts
    rich = Model(name="x", loaded_context=4096, capabilities=("tools",))
    facts = yes(world(endpoint("lab", "vllm", rich)), "lab/x").facts
    assert (facts["max_tokens"], facts["supports_function_calling"], facts["supports_vision"]) == (
        4096,
        True,
        False,
    )
    assert facts["litellm_provider"] == "hosted_vllm"
    only = Model(name="x", capabilities=("embedding",))
    assert yes(world(endpoint("lab", "vllm", only)), "lab/x").facts["mode"] == "embedding"


# Keys


def test_a_key_is_the_callers_and_is_never_shown() -> None:
    target = yes(world(endpoint("lab", "vllm", "x", key_ref="LAB_KEY")), "lab/x")
    assert target.api_key == "sk-no-key-required"
    assert bind(target, {}).api_key == "sk-no-key-required"
    assert bind(target, {"LAB_KEY": ""}).api_key == "sk-no-key-required"
    assert [warning.code for warning in bind(target, {}).warnings] == ["key.missing"]
    bound = bind(target, {"LAB_KEY": "sk-secret", "OTHER": "sk-other"})
    assert bound.warnings == ()
    assert bound.completion_kwargs()["api_key"] == "sk-secret"
    for shown in (repr(bound), str(bound), repr(bound.shown()), msgspec.json.encode(bound.shown()).decode()):
        assert "sk-secret" not in shown
    assert bound.shown().api_key == "***"
    assert target.shown().key_ref == "LAB_KEY"


def test_a_placeholder_is_no_secret() -> None:
    target = yes(world(endpoint("lab", "vllm", "x")), "lab/x")
    assert bind(target, {"LAB_KEY": "sk-secret"}) is target
    assert target.shown() is target


# Any World, any question


@given(worlds, questions)
def test_an_answer_is_given_for_any_world_and_question(found: World, question: Question) -> None:
    result = answer(WorldCatalogue(found), question)
    by_name = {each.name: each for each in found.endpoints}
    if isinstance(result, Refusal):
        assert result.fault.message
        return
    served = by_name[result.endpoint]
    assert served.state in CALLABLE
    assert result.api_base not in ("", "/v1")
    assert result.model
    if question.private is not False:
        models = [m for m in served.models or () if m.name == result.name]
        allowed = {"device", "lan"} if question.private == "lan" else {"device"}
        assert served.locality in allowed
        assert result.locality in allowed
        assert any((m.locality or served.locality) in allowed for m in models)


@given(worlds, questions)
def test_an_answer_travels(found: World, question: Question) -> None:
    result = answer(WorldCatalogue(found), question)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=type(result)) == result
    assert msgspec.json.decode(msgspec.json.encode(result), type=type(result)) == result


def test_four_thousand_models_are_searched_and_named() -> None:
    found = world(
        *(endpoint(f"e{n}", "vllm", *(f"org/model-{m}-on-{n}" for m in range(500)), slot=n) for n in range(8))
    )
    assert yes(found, "vllm/org/model-499-on-7").endpoint == "e7"
    assert yes(found, "e3/ORG/MODEL-0-ON-3").name == "org/model-0-on-3"
    assert no(found, "e3/org/model-0-on-4x").alternatives[0].startswith("e4/org/model-")
    assert no(found, "e3/org/model-0-on-4").alternatives[0] == "e4/org/model-0-on-4"


def test_one_capability_may_be_given_as_plain_text() -> None:
    assert Question.of("a/b", context=None, needs="tools", private=False).needs == ("tools",)
    assert Question.of("a/b", context=None, needs={"vision", "tools"}, private=False).needs == (
        "tools",
        "vision",
    )


def test_no_capability_may_be_given_as_none() -> None:
    assert Question.of("a/b", context=None, needs=None, private=False) == Question(model="a/b")


@pytest.mark.parametrize("needs", [5, True, [None], {b"tools"}, ["tools", 5]])
def test_what_names_no_capability_is_refused(needs: Any) -> None:
    with pytest.raises(Refused) as error:
        Question.of("a/b", context=None, needs=needs, private=False)
    assert error.value.code == "question.invalid"
    assert "capable" in error.value.message


@pytest.mark.parametrize(
    ("model", "context"),
    [("x" * 4097, None), ("a/\x1b[2J", None), ("a/\udcff", None), (None, None), (b"a/b", None)]
    + [("a/b", context) for context in (0, -1, 4096.5, "9", 2**63)],
)
def test_what_no_question_can_be_is_refused_with_its_reason(model: Any, context: Any) -> None:
    with pytest.raises(Refused) as error:
        Question.of(model, context=context, needs=(), private=False)
    assert error.value.code == "question.invalid"


@pytest.mark.parametrize("private", [0, 1, None, "", "LAN", "device", ["lan"]])
def test_what_is_neither_private_nor_not_is_refused(private: Any) -> None:
    with pytest.raises(Refused) as error:
        Question.of("a/b", context=None, needs=(), private=private)
    assert error.value.code == "question.invalid"
    for fine in (True, False, "lan"):
        assert Question.of("a/b", context=None, needs=(), private=fine).private is fine
