"""Which kind an entry is of: by its name or by what it is like, hived's own kinds and those of plug-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hived.configuration.reading import Settings, read_settings
from hived_client.vocabulary.kinds import ProviderKind

TOY = ProviderKind(name="toy", title="Toy", prefixes=("toy", "toys"), litellm="openai", api_path="/v1")
URL = "http://127.0.0.1:7333"


def read(home: Path, providers: object, kinds: tuple[ProviderKind, ...] = (TOY,)) -> Settings:
    path = home / "configuration.json"
    path.write_text(json.dumps({"providers": providers}))
    return read_settings(str(path), {}, last_good=None, now=5.0, kinds=kinds)[0]


@pytest.mark.parametrize(
    ("name", "like", "provider"),
    [
        ("toy", None, "toy"),
        ("lab", "toy", "toy"),
        ("lab", "Toys", "toy"),
        ("lab", "hosted_vllm", "vllm"),
        ("lmstudio", None, "lm_studio"),
        ("toy", "ollama", "ollama"),
    ],
)
def test_an_entry_is_of_a_kind(home: Path, name: str, like: str | None, provider: str) -> None:
    entry = {"api_base": URL} | ({"like": like} if like is not None else {})
    settings = read(home, {name: entry})
    assert settings.problems == ()
    assert [(given.name, given.provider) for given in settings.given] == [(name, provider)]


def test_without_the_plug_in_it_is_of_no_kind_and_that_is_said(home: Path) -> None:
    settings = read(home, {"lab": {"like": "toy", "api_base": URL}}, kinds=())
    assert settings.given == ()
    (problem,) = settings.problems
    assert problem.code == "configuration.invalid"
    assert "'like' can be ollama" in problem.message
    (problem,) = read(home, {"lab": {"like": "zoo", "api_base": URL}}).problems
    assert problem.message.endswith(", toy.")


def test_a_broken_file_at_the_start_leaves_the_kinds_known(home: Path) -> None:
    path = home / "configuration.json"
    path.write_text("{")
    settings, configuration = read_settings(str(path), {}, last_good=None, now=5.0, kinds=(TOY,))
    assert (settings.given, configuration.state) == ((), "broken")
