"""Hive's own sections: the ones that name a local server are taken, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.configuration.hive import configured_by_hive, from_hive
from hived.decisions.configured import Configured
from hived_client.vocabulary.world import ConfiguredModel

COMPLETE = {
    "llm": {
        "provider": "ollama",
        "model": "qwen2.5:7b",
        "num_ctx": 16384,
        "api_base": "http://localhost:11434",
    },
    "worker_llm": {
        "provider": "hosted_vllm",
        "model": "mistral",
        "api_base": "http://localhost:8000/v1",
        "api_key_env_var": "LAB_KEY",
    },
    "vision_fallback": {
        "provider": "lm_studio",
        "api_base": "http://localhost:1234/v1",
        "api_key": "lm-studio",
    },
    "provider_library": {
        "phi": {"provider": "openai", "api_base": "http://localhost:8080/v1", "api_key": "x"}
    },
    "pipeline": {"stages": []},
    "gcu_enabled": True,
}


def test_every_section_that_names_a_local_server_is_taken() -> None:
    found = [(g.name, g.provider, g.url, g.origin, g.key_ref) for g in from_hive(COMPLETE)]

    assert found == [
        ("ollama", "ollama", "http://localhost:11434", "llm.api_base", None),
        ("vllm", "vllm", "http://localhost:8000", "worker_llm.api_base", "LAB_KEY"),
        ("lm_studio", "lm_studio", "http://localhost:1234", "vision_fallback.api_base", None),
        ("hive-phi", "openai_compatible", "http://localhost:8080", "provider_library.phi.api_base", None),
    ]


@pytest.mark.parametrize(
    "section",
    [
        {"provider": "openai", "api_base": "https://api.openai.com/v1"},
        {"provider": "openai", "model": "gpt"},
        {"provider": "anthropic", "api_base": "http://127.0.0.1:1"},
        {"provider": "ollama"},
        {"provider": "ollama", "api_base": "http://[::1"},
        {"provider": "ollama", "api_base": "http://user:secret@127.0.0.1"},
        {"provider": 1, "api_base": 2},
        [],
        None,
    ],
)
def test_what_is_no_local_server_is_left_to_hive(section: object) -> None:
    assert list(from_hive({"llm": section, "provider_library": {"x": section}})) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["llm", "worker_llm", "provider_library"]), JSON))
def test_no_document_makes_it_fail(document: dict[str, object]) -> None:
    assert all(found.url for found in from_hive(document))


def test_what_is_said_of_a_model_is_taken_with_its_address_or_without_one() -> None:
    document = {
        "llm": {
            "provider": "ollama",
            "model": " ollama/qwen2.5:7b ",
            "num_ctx": 16384,
            "max_context_tokens": 32000,
            "max_tokens": 8192,
        },
        "worker_llm": {"provider": "openai", "model": "phi3", "api_base": "http://127.0.0.1:8080/v1"},
        "provider_library": {"lab": {"provider": "vllm", "model": "mistral", "num_ctx": True}},
    }
    assert list(configured_by_hive(document)) == [
        Configured(
            provider="ollama",
            url=None,
            model=ConfiguredModel(
                model="ollama/qwen2.5:7b",
                num_ctx=16384,
                max_context_tokens=32000,
                max_tokens=8192,
                origin="llm",
            ),
        ),
        Configured(
            provider="openai_compatible",
            url="http://127.0.0.1:8080",
            model=ConfiguredModel(model="phi3", origin="worker_llm"),
        ),
        Configured(
            provider="vllm",
            url=None,
            model=ConfiguredModel(model="mistral", origin="provider_library.lab"),
        ),
    ]


@pytest.mark.parametrize(
    "section",
    [
        {"provider": "openai", "model": "gpt"},
        {"provider": "openai", "model": "gpt", "api_base": "https://api.openai.com/v1"},
        {"provider": "anthropic", "model": "x", "api_base": "http://127.0.0.1:1"},
        {"provider": "ollama"},
        {"provider": "ollama", "model": " "},
        {"provider": "ollama", "model": "a\x1b[2J"},
        {"provider": "ollama", "model": "\ud800"},
        {"provider": "ollama", "model": "x" * 5000},
        {"provider": "ollama", "model": "x", "api_base": "http://[::1"},
        {"provider": "ollama", "model": "x", "api_base": 1},
    ],
)
def test_what_says_nothing_of_a_local_model_is_passed_over(section: object) -> None:
    assert list(configured_by_hive({"llm": section})) == []


@pytest.mark.parametrize("number", [0, -1, 1.5, "9", True, None, 2**63, [1]])
def test_what_is_no_number_of_tokens_is_unknown(number: object) -> None:
    section = {"provider": "ollama", "model": "x", "num_ctx": number, "max_tokens": number}
    (found,) = configured_by_hive({"llm": section})
    assert (found.model.num_ctx, found.model.max_tokens) == (None, None)


@given(st.dictionaries(st.sampled_from(["llm", "worker_llm", "provider_library"]), JSON))
def test_no_document_makes_its_models_fail(document: dict[str, object]) -> None:
    assert all(found.model.model for found in configured_by_hive(document))
