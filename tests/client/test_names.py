"""How a model's name is read and matched."""

from __future__ import annotations

import pytest

from hived_client.vocabulary import names
from hived_client.vocabulary.kinds import (
    KINDS,
    ProviderKind,
    api_base,
    is_local_model,
    kind_named,
    kind_of_prefix,
    root_url,
)
from hived_client.vocabulary.names import find, near, parse
from hived_client.vocabulary.world import Model

SGLANG = ProviderKind(name="sglang", title="SGLang", prefixes=("SGLang",), litellm="openai", api_path="/v1")

# written, endpoints, prefix, model, kind
PARSED: list[tuple[str, tuple[str, ...], str, str, str | None]] = [
    ("ollama/llama3", (), "ollama", "llama3", "ollama"),
    ("OLLAMA/Llama3", (), "OLLAMA", "Llama3", "ollama"),
    ("ollama_chat/llama3", (), "ollama_chat", "llama3", "ollama"),
    ("ollama/ollama/llama3", (), "ollama", "llama3", "ollama"),
    ("ollama/Ollama_Chat/llama3", (), "ollama", "llama3", "ollama"),
    ("ollama_chat/ollama/llama3", ("ollama",), "ollama_chat", "llama3", "ollama"),
    ("hosted_vllm/org/m", (), "hosted_vllm", "org/m", "vllm"),
    ("lmstudio/m", (), "lmstudio", "m", "lm_studio"),
    ("llama.cpp/m", (), "llama.cpp", "m", "llamacpp"),
    ("  vllm/m  ", (), "vllm", "m", "vllm"),
    ("lab/m", ("lab",), "lab", "m", None),
    ("LAB/m", ("lab",), "LAB", "m", None),
    ("lab/lab/m", ("lab",), "lab", "m", None),
    ("ollama/m", ("ollama",), "ollama", "m", None),
    ("gpt/x", (), "gpt", "x", None),
    ("sglang/m", (), "sglang", "m", "sglang"),
    ("ollama/ollama/", (), "ollama", "ollama/", "ollama"),
]


@pytest.mark.parametrize(("written", "endpoints", "prefix", "model", "kind"), PARSED)
def test_a_name_is_cut_at_its_prefix(
    written: str, endpoints: tuple[str, ...], prefix: str, model: str, kind: str | None
) -> None:
    name = parse(written, endpoints, (SGLANG,))
    assert name is not None
    assert (name.prefix, name.model, name.kind.name if name.kind else None) == (prefix, model, kind)


@pytest.mark.parametrize("written", ["", "/", "llama3", "ollama/", "/llama3", "   "])
def test_a_name_without_prefix_or_model_is_none(written: str) -> None:
    assert parse(written, ()) is None


MODELS = (
    Model(name="first", aliases=("second", "Best"), file="/models/Third.Q4.gguf"),
    Model(name="second", file="/models/fourth.gguf"),
    Model(name="fifth.gguf"),
    Model(name="/models/sixth.gguf"),
    Model(name="third.q4"),
)


@pytest.mark.parametrize(
    ("wanted", "position"),
    [
        ("first", 0),
        ("FIRST", 0),
        ("best", 0),
        ("second", 1),  # a name wins over an alias
        ("third.q4.gguf", 0),
        ("third.q4", 4),  # a name wins over a stem
        ("fourth", 1),
        ("fourth.gguf", 1),
        ("fifth", 2),
        ("sixth", 3),
        ("sixth.gguf", 3),
        ("fir", None),
        ("", None),
    ],
)
def test_a_model_is_found_by_name_alias_file_or_stem(wanted: str, position: int | None) -> None:
    assert find(MODELS, wanted) == (None if position is None else MODELS[position])


@pytest.mark.parametrize("models", [None, ()])
def test_nothing_is_found_where_nothing_is(models: tuple[Model, ...] | None) -> None:
    assert find(models, "x") is None


def test_more_inventories_than_are_indexed_are_still_searched_right() -> None:
    inventories = [(Model(name=f"m{number}"),) for number in range(200)]
    for _ in range(2):
        for number, models in enumerate(inventories):
            assert find(models, f"M{number}") == models[0]
            assert find(models, f"m{number + 1}") is None


def test_an_inventory_that_changes_again_and_again_is_not_kept_every_time() -> None:
    """Each has 10,000 models, as many as hived reads of one server."""
    inventory = [Model(name=f"m{number}") for number in range(10_000)]
    small = (Model(name="x"),)
    for number in range(4):
        models = tuple(inventory)
        assert find(models, f"m{number}") is models[number]
        assert find(small, "x") is small[0]
    assert sum(len(models) for models, _ in names._INDEXES.values()) <= names._MOST_INDEXED
    assert {id(models), id(small)} <= set(names._INDEXES)


def test_names_that_look_alike_come_first() -> None:
    assert near("lama3", ["mistral", "Llama3", "phi"]) == ("Llama3",)
    many = [f"org/model-{number}" for number in range(4000)]
    assert near("org/model-399x", [*many, "Qwen3-Coder"], 1)[0].startswith("org/model-399")
    assert near("qwen3-codr", [*many, "Qwen3-Coder"], 1) == ("Qwen3-Coder",)
    assert near("", many) == ()


BASES = [
    ("ollama", "http://h:11434", "http://h:11434"),
    ("ollama", "http://h:11434/", "http://h:11434"),
    ("ollama", "http://h:11434/v1", "http://h:11434"),
    ("ollama", "http://h:11434/v1/", "http://h:11434"),
    ("vllm", "http://h:8000", "http://h:8000/v1"),
    ("vllm", "http://h:8000/v1", "http://h:8000/v1"),
    ("vllm", " http://h:8000/v1/ ", "http://h:8000/v1"),
    ("lm_studio", "http://h:1234//", "http://h:1234/v1"),
    ("llamacpp", "http://[::1]:8080", "http://[::1]:8080/v1"),
    ("openai_compatible", "https://h/api/v1", "https://h/api/v1"),
]


@pytest.mark.parametrize(("provider", "url", "base"), BASES)
def test_the_base_follows_the_rule_of_its_kind(provider: str, url: str, base: str) -> None:
    kind = kind_named(provider)
    assert kind is not None
    assert api_base(kind, url) == base
    assert api_base(kind, base) == base


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("url", ["", " ", "/", "/v1", "/v1/"])
def test_a_base_is_never_empty(kind: ProviderKind, url: str) -> None:
    assert root_url(url) == ""
    with pytest.raises(ValueError, match="needs the address"):
        api_base(kind, url)


@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix_means_its_kind_in_any_case(kind: ProviderKind) -> None:
    for prefix in kind.prefixes:
        assert kind_of_prefix(prefix.upper()) is kind
        assert is_local_model(f"{prefix}/x")
    assert kind_named(kind.name) is kind


def test_a_row_from_the_world_comes_before_our_own() -> None:
    assert kind_of_prefix("sglang") is None
    assert kind_of_prefix("sgLANG", (SGLANG,)) is SGLANG
    assert kind_named("sglang", (SGLANG,)) is SGLANG
    mine = ProviderKind(name="ollama", title="O", prefixes=("ollama",), litellm="openai", api_path="/v1")
    assert kind_of_prefix("ollama", (mine,)) is mine
    assert kind_named("ollama", (mine,)) is mine


@pytest.mark.parametrize(
    "model", ["gpt-4o", "openai/gpt-4o", "ollama", "ollama/", "", "/x", "anthropic/ollama/x"]
)
def test_what_is_not_local_is_not_local(model: str) -> None:
    assert not is_local_model(model)
