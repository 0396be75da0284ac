"""Plug-ins are somebody else's code: each that cannot be used is reported, and hides no other."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hived.providers.base import Provider, ProviderKind
from hived.providers.http import Http
from hived.providers.plugins import Entry, Found, find_plugins, installed
from tests.providers.plugin_folder import add_plugin, toy

KIND = ProviderKind(name="toy", title="Toy", prefixes=("toy",), litellm="openai", api_path="/v1")


class Toy:
    provider = "toy"

    def __init__(self, http: object = None, environment: object = None) -> None: ...
    async def look(self, endpoint: object, *, thorough: bool) -> Any: ...
    def has_push(self, endpoint: object) -> bool:
        return False

    async def push(self, endpoint: object, told: object) -> None: ...


class Mute:
    provider = "toy"

    def __init__(self, http: object = None, environment: object = None) -> None: ...


GOOD = Provider(kind=KIND, probe=Toy)


def raising(error: BaseException) -> Callable[..., Any]:
    def load(*arguments: object) -> Any:
        raise error

    return load


def entry(provider: object, name: str = "toy", distribution: str = "hived-toy") -> Entry:
    load = provider if callable(provider) and not isinstance(provider, type) else lambda: provider
    return Entry(name=name, distribution=distribution, load=load)


def found(*entries: Entry, timeout: float = 5.0) -> Found:
    return find_plugins(Http(), {}, timeout=timeout, entries=entries)


def why(result: Found) -> list[str]:
    assert all(problem.code == "provider.plugin_broken" for problem in result.problems)
    return [str(problem.fields["why"]) for problem in result.problems]


def kind(**changed: object) -> Provider:
    return Provider(kind=msgspec.structs.replace(KIND, **changed), probe=Toy)


def test_a_good_one_is_ready_to_be_used() -> None:
    result = found(entry(GOOD))
    assert result.problems == ()
    (plugin,) = result.plugins
    assert (plugin.kind, plugin.distribution, plugin.shelf) == (KIND, "hived-toy", None)
    assert plugin.probe.provider == "toy"


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        (
            raising(ModuleNotFoundError("No module named 'toylib'")),
            "ModuleNotFoundError (No module named 'toylib')",
        ),
        (raising(RuntimeError("sk-secret")), "loading it raised RuntimeError"),
        (raising(ValueError("sk-secret")), "loading it raised ValueError"),
        (raising(SystemExit(1)), "loading it raised SystemExit"),
        (None, "it is a NoneType, not a hived.providers.base.Provider"),
        (KIND, "it is a ProviderKind, not a hived.providers.base.Provider"),
        (Provider(kind="toy", probe=Toy), "its kind is a str, not a ProviderKind"),  # type: ignore[arg-type]
        (Provider(kind=KIND, probe="toy"), "cannot be called"),  # type: ignore[arg-type]
        (
            Provider(kind=KIND, probe=raising(RuntimeError("sk-secret"))),
            "making its probe raised RuntimeError",
        ),
        (Provider(kind=KIND, probe=Mute), "its probe has no look and no has_push and no push"),  # type: ignore[arg-type]
        (kind(name="other", prefixes=("other",)), "its probe's provider is not 'other'"),
        (kind(name="Toy"), "lower-case"),
        (kind(name=5), "its kind is not one"),
        (kind(title=""), "title is empty"),
        (kind(title="\x1b[2J"), "title is empty or cannot be shown"),
        (kind(prefixes=()), "prefixes do not begin with its name"),
        (kind(prefixes=("toy", "a/b")), "prefixes are not all words"),
        (kind(litellm=""), "not a prefix of LiteLLM"),
        (kind(litellm="vllm"), "inside the caller"),
        (kind(api_path="v1"), "begins with a slash"),
        (kind(ports=(0,)), "1 to 65535"),
        (kind(ports=("80",)), "its kind is not one"),
        (kind(pull="toy pull {name}"), "braces"),
        (kind(start="a\nb"), "commands cannot be shown"),
        (kind(silent_start=float("nan")), "silent_start"),
        (kind(prefixes=("toy", "OLLAMA_chat")), "the name 'OLLAMA_chat' belongs to hived itself"),
    ],
)
def test_one_that_cannot_be_used_is_reported_and_hides_no_other(provider: object, said: str) -> None:
    other = Provider(kind=msgspec.structs.replace(KIND, name="zoo", prefixes=("zoo",)), probe=Zoo)
    result = found(entry(provider), entry(other, "zoo", "hived-zoo"))
    (reason,) = why(result)
    assert said in reason
    assert "secret" not in result.problems[0].message
    assert result.problems[0].hint == "pip show hived-toy"
    assert [plugin.kind.name for plugin in result.plugins] == ["zoo"]


class Zoo(Toy):
    provider = "zoo"


def test_of_two_with_one_name_the_first_has_it() -> None:
    result = found(entry(GOOD, "toy", "b-toy"), entry(GOOD, "toy", "a-toy"))
    assert [plugin.distribution for plugin in result.plugins] == ["a-toy"]
    assert why(result) == ["the name 'toy' belongs to the plug-in a-toy"]


def test_one_that_never_comes_back_delays_the_start_by_no_more_than_its_time() -> None:
    forever = threading.Event()
    began = time.monotonic()
    result = found(
        entry(lambda: forever.wait(600.0), "a", "a-hangs"),
        entry(lambda: forever.wait(600.0), "b", "b-hangs"),
        entry(GOOD),
        timeout=0.3,
    )
    assert time.monotonic() - began < 60.0
    forever.set()
    assert why(result) == ["it did not load within 0.3 s"] * 2
    assert [plugin.kind.name for plugin in result.plugins] == ["toy"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def mine(names: Iterator[Entry]) -> list[tuple[str, str]]:
    return [
        (each.name, each.distribution) for each in names if each.distribution.startswith(("hived-", "broken"))
    ]


def test_installed_distributions_are_found_and_loaded(folder: Path) -> None:
    add_plugin(folder, toy())
    assert ("toy", "hived-toy") in mine(installed())
    result = find_plugins(Http(), {}, entries=[e for e in installed() if e.distribution == "hived-toy"])
    assert result.problems == ()
    (plugin,) = result.plugins
    assert plugin.shelf is not None
    assert [model.name for model in plugin.shelf({})] == ["from-disk"]


def test_a_distribution_that_cannot_be_read_hides_no_other(folder: Path) -> None:
    broken = folder / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_bytes(b"[hived.providers\n\xff\xfe = = nonsense\n")
    (folder / "empty-1.0.dist-info").mkdir()
    add_plugin(folder, toy())
    assert ("toy", "hived-toy") in mine(installed())
