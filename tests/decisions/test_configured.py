"""What is configured finds its endpoint, and what of it is not there is told."""

from __future__ import annotations

import msgspec
import pytest

from hived.decisions.configured import Configured, attach, is_in_use, missing_models
from hived.decisions.expected import Given
from hived.decisions.transitions import expect, problems
from hived.decisions.unspecified import is_to_listen, unspecified
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import OLLAMA
from hived_client.vocabulary.world import CALLABLE, ConfiguredModel, Endpoint, State, World
from tests.client.worlds import STATES, endpoint, world


def said(model: str | None = "x", origin: str = "llm") -> ConfiguredModel:
    return ConfiguredModel(model=model, origin=origin)


def about(url: str | None, provider: str = "ollama") -> Configured:
    return Configured(provider=provider, url=url, model=said())


ENDPOINTS = (
    endpoint("lab", "vllm", url="http://10.0.0.7:8000"),
    endpoint("gpu", "ollama", url="http://gpu:11434"),
    endpoint("ollama", "ollama", url="http://127.0.0.1:11434", source="default"),
)


@pytest.mark.parametrize(
    ("configured", "name"),
    [
        (about("http://localhost:11434"), "ollama"),
        (about("http://10.0.0.7:8000", "openai_compatible"), "lab"),
        (about(None), "gpu"),
        (about(None, "vllm"), "lab"),
        (about(None, "lm_studio"), None),
        (about("http://10.0.0.9:1"), None),
    ],
)
def test_a_section_is_about_its_address_or_the_first_of_its_provider(
    configured: Configured, name: str | None
) -> None:
    found = attach(ENDPOINTS, [configured, configured])
    assert [each.name for each in found if each.configured] == ([] if name is None else [name])
    assert sum(len(each.configured) for each in found) == (0 if name is None else 2)


def test_a_world_takes_it_in_and_forgets_it() -> None:
    before = expect(World(generation=0), attach(ENDPOINTS, [about(None)]))
    assert [len(each.configured) for each in before.endpoints] == [0, 1, 0]
    after = expect(before, ENDPOINTS)
    assert [len(each.configured) for each in after.endpoints] == [0, 0, 0]
    assert after.generation > before.generation


def wanting(*configured: ConfiguredModel, state: State = "ready", unlearnt: bool = False) -> Endpoint:
    url = "http://127.0.0.1:11434"
    some = endpoint("ollama", "ollama", "llama3", url=url, state=state, source="default", unlearnt=unlearnt)
    return msgspec.structs.replace(some, configured=configured)


@pytest.mark.parametrize(
    ("configured", "told"),
    [
        ([said("ollama/qwen3:8b")], ["qwen3:8b"]),
        ([said("qwen3"), said("ollama/qwen3", "worker_llm")], ["qwen3"]),
        ([said("ollama/llama3")], []),
        ([said("LLAMA3")], []),
        ([said("qwen3", "provider_library.old")], []),
        ([said(None, "providers.ollama")], []),
    ],
)
def test_a_model_that_the_next_run_wants_and_is_not_there_is_a_problem(
    configured: list[ConfiguredModel], told: list[str]
) -> None:
    found = problems(world(wanting(*configured)))
    assert [each.code for each in found] == ["model.unknown"] * len(told)
    assert [each.hint for each in found] == [f"ollama pull {name}" for name in told]


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_missed_at_a_server_that_does_not_answer(state: State) -> None:
    assert bool(list(missing_models(wanting(said("qwen3"), state=state), OLLAMA))) is (state in CALLABLE)
    assert not list(missing_models(wanting(said("qwen3"), state=state, unlearnt=True), OLLAMA))


def test_a_default_port_that_the_next_run_needs_is_no_guess() -> None:
    down = msgspec.structs.replace(wanting(said(), state="down"), reason=fault("server.down"))
    assert is_in_use(down)
    assert [each.code for each in problems(world(down))] == ["server.down"]
    kept = msgspec.structs.replace(down, configured=(said("x", "provider_library.old"),))
    assert not is_in_use(kept)
    assert problems(world(kept)) == ()


def test_a_hole_is_a_problem_of_a_guessed_server_too() -> None:
    old = msgspec.structs.replace(wanting(), version="0.17.0")
    assert [each.code for each in problems(world(old))] == ["server.vulnerable"]


@pytest.mark.parametrize(
    ("url", "listens"),
    [
        ("0.0.0.0", True),
        ("http://0.0.0.0:11434", True),
        ("[::]:8000", True),
        ("http://:11434", True),
        ("http://127.0.0.1", False),
        ("localhost:1", False),
        ("http://[::1]:1", False),
        ("gpu", False),
    ],
)
def test_an_address_to_listen_is_told_from_one_to_call(url: str, listens: bool) -> None:
    assert is_to_listen(url) is listens


def test_it_is_told_where_it_was_written_and_what_mends_it() -> None:
    variable = Given(
        name="llamacpp",
        provider="llamacpp",
        url="http://127.0.0.1:1",
        source="environment",
        origin="LLAMA_ARG_HOST and LLAMA_ARG_PORT",
        listens="0.0.0.0",
    )
    entry = msgspec.structs.replace(variable, source="configuration", origin="llm.api_base")
    plain = msgspec.structs.replace(variable, listens="")
    first, second = unspecified([variable, entry, plain], "/c.json")
    assert first.hint == "export LLAMA_ARG_HOST=127.0.0.1"
    assert second.hint == "vi /c.json"
    assert second.message.startswith("/c.json: llm.api_base is 0.0.0.0, ")
