"""Ollama's names: what may be left out, what may be written, and that every way of it means one model.

The rules are written down here once more, as a reader of names that knows nothing of ours: host, namespace,
model and tag, each with what it is where it is left out, compared in any case.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived_client.resolution import Question, Refusal, Target, WorldCatalogue, answer
from hived_client.vocabulary.kinds import OLLAMA
from hived_client.vocabulary.names import find, full_name, is_name, short_name
from hived_client.vocabulary.world import Endpoint, Model, World

assert OLLAMA.registry is not None
REGISTRY = OLLAMA.registry
LETTERS = "abcXYZ019_"

Parts = tuple[str, str, str, str]


def parts(marks: str, *, longest: int = 12) -> st.SearchStrategy[str]:
    """Names as they may be: first a letter, a digit or ``_``."""
    rest = st.text(LETTERS + marks, max_size=longest - 1)
    return st.builds(str.__add__, st.sampled_from(LETTERS), rest)


HOSTS = st.one_of(st.just("registry.ollama.ai"), st.just("hf.co"), parts("-."), st.just("box:5000"))
NAMESPACES = st.one_of(st.just("library"), parts("-"))
MODELS = parts("-.")
TAGS = st.one_of(st.just("latest"), st.just("Q4_K_M"), parts("-.").filter(lambda tag: tag.lower() != "local"))
NAMES = st.tuples(HOSTS, NAMESPACES, MODELS, TAGS)


def shown(name: Parts) -> str:
    """Write a name as the server lists it."""
    host, namespace, model, tag = name
    usual_host = host.lower() == "registry.ollama.ai"
    if usual_host and namespace.lower() == "library":
        return f"{model}:{tag}"
    return f"{namespace}/{model}:{tag}" if usual_host else f"{host}/{namespace}/{model}:{tag}"


def ways(name: Parts) -> list[str]:
    """Write a name in every way in which it may be."""
    host, namespace, model, tag = name
    ends = [f":{tag}", f":{tag}:local"] + (["", ":local"] if tag.lower() == "latest" else [])
    begins = [f"{host}/{namespace}/", f"http://{host}/{namespace}/", f"https://{host}/{namespace}/"]
    if host.lower() == "registry.ollama.ai":
        begins.append(f"{namespace}/")
        begins += [""] if namespace.lower() == "library" else []
    return [f"{begin}{model}{end}" for begin in begins for end in ends]


def folded(name: Parts) -> Parts:
    host, namespace, model, tag = name
    return host.lower(), namespace.lower(), model.lower(), tag.lower()


def resolve(listed: tuple[str, ...], written: str) -> Target | Refusal:
    models = tuple(Model(name=name) for name in listed)
    url = "http://127.0.0.1:11434"
    endpoint = Endpoint(
        name="box", provider="ollama", url=url, source="configuration", state="ready", models=models
    )
    found = answer(WorldCatalogue(World(generation=1, endpoints=(endpoint,))), Question(model=written))
    assert isinstance(found, Target | Refusal)
    return found


@given(NAMES)
def test_every_way_of_a_name_is_listed_as_one(name: Parts) -> None:
    for way in ways(name):
        assert full_name(way, REGISTRY) == shown(name)
        assert is_name(way.removesuffix(":local"), REGISTRY), way
    assert full_name(short_name(shown(name), REGISTRY), REGISTRY) == shown(name)


@given(NAMES, st.sampled_from(["ollama", "ollama_chat", "Ollama", "box"]))
def test_every_way_of_a_name_is_called_by_the_one_that_is_listed(name: Parts, prefix: str) -> None:
    for way in ways(name):
        for case in (way, way.swapcase()):
            found = resolve((shown(name),), f"{prefix}/{case}")
            assert isinstance(found, Target), case
            assert found.model == f"ollama_chat/{shown(name)}"


@given(NAMES, NAMES)
def test_two_names_are_one_model_only_where_all_their_parts_are(one: Parts, other: Parts) -> None:
    same = folded(one) == folded(other)
    models = (Model(name=shown(other)),)
    assert all((find(models, way, "ollama") is not None) is same for way in ways(one))


@given(st.text(max_size=40))
def test_no_text_raises_and_what_is_no_name_is_not_pulled(text: str) -> None:
    full_name(text, REGISTRY)
    found = resolve((), f"ollama/{text}") if text.strip(" /") else None
    if isinstance(found, Refusal) and found.fault.code == "model.unknown":
        asked = str(found.fault.fields["model"])
        assert found.fault.hint.startswith("ollama pull ") is is_name(asked, REGISTRY)


# written, listed, what is called; or None
FOUND: list[tuple[str, str, bool]] = [
    ("x", "x:latest", True),
    ("X:LATEST", "x:latest", True),
    ("library/x", "x:latest", True),
    ("registry.ollama.ai/library/x", "x:latest", True),
    ("https://registry.ollama.ai/library/x:7b", "x:7b", True),
    ("registry.ollama.ai/user/m", "user/m:latest", True),
    ("hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M", True),
    ("HF.co/Org/Repo:q4_k_m", "hf.co/org/repo:Q4_K_M", True),
    ("hf.co/org/repo", "hf.co/org/repo:latest", True),
    ("box:5000/ns/m", "box:5000/ns/m:latest", True),
    ("ollama/x", "x:latest", True),
    ("ollama_chat/library/x", "x:latest", True),
    ("ollama/x", "ollama/x:latest", True),
    ("x:local", "x:latest", True),
    ("x", "x:7b", False),
    ("user/x", "x:latest", False),
    ("registry.ollama.ai/x", "x:latest", False),
    ("hf.co/library/x", "x:latest", False),
    ("library/x/y", "x/y:latest", False),
    ("hf.co/org/repo", "hf.co/org/repo:Q4_K_M", False),
    ("x:cloud", "x:latest", False),
]


@pytest.mark.parametrize(("written", "listed", "is_found"), FOUND)
@pytest.mark.parametrize("prefix", ["ollama", "ollama_chat"])
def test_a_name_means_what_it_means_to_ollama(written: str, listed: str, is_found: bool, prefix: str) -> None:
    found = resolve((listed,), f"{prefix}/{written}")
    assert isinstance(found, Target) is is_found


def test_other_servers_names_are_taken_as_they_are() -> None:
    models = (Model(name="x"), Model(name="y:latest"))
    for written in ("library/x", "registry.ollama.ai/library/x", "y", "x:latest"):
        assert find(models, written) is None
        assert find(models, written, "vllm") is None


@pytest.mark.parametrize(
    ("written", "pull"),
    [
        ("ollama/llama9", "ollama pull llama9"),
        ("ollama/registry.ollama.ai/library/x:7b", "ollama pull registry.ollama.ai/library/x:7b"),
        ("ollama_chat/hf.co/org/repo:Q4_K_M", "ollama pull hf.co/org/repo:Q4_K_M"),
        ("ollama/box:5000/ns/m", "ollama pull box:5000/ns/m"),
        ("ollama/a b", "hived status"),
        ("ollama/-x", "hived status"),
        ("ollama/x:", "hived status"),
        ("ollama/a.b/x", "hived status"),
        ("ollama/a/b/c/d", "hived status"),
        ("ollama/ünï", "hived status"),
        ("ollama/" + "x" * 81, "hived status"),
    ],
)
def test_only_what_may_exist_is_pulled(written: str, pull: str) -> None:
    found = resolve((), written)
    assert isinstance(found, Refusal)
    assert found.fault.hint == pull


@pytest.mark.parametrize(
    "written", ["lama3.2", "library/lama3.2", "registry.ollama.ai/library/llama3.2:1b", "llama3.2:3b"]
)
def test_a_name_that_is_nearly_right_is_offered_as_it_is_listed(written: str) -> None:
    found = resolve(("qwen3:8b", "llama3.2:latest", "nomic-embed-text:latest"), f"ollama/{written}")
    assert isinstance(found, Refusal)
    assert found.alternatives[0] == "box/llama3.2:latest"
