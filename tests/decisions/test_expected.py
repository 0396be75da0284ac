"""What there should be: the first that claims an address keeps it, and every name is one endpoint's."""

from __future__ import annotations

import msgspec
import pytest

from hived.decisions.expected import Given, conflicts, expected
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import SLOTS, Process, Source

PROCESS = Process(pid=7, command=("x",), log="/l", name="lab", provider="llamacpp")


def given(
    name: str = "lab", url: str = "http://h:1", source: Source = "configuration", provider: str = "llamacpp"
) -> Given:
    return Given(name=name, provider=provider, url=url, source=source, origin=f"{source} {name}")


def shown(
    *each: Given, guess: bool = False, watched: tuple[str, ...] = ("llamacpp",)
) -> list[tuple[str, str]]:
    return [(e.name, e.url) for e in expected(each, watched=watched, guess=guess)]


@pytest.mark.parametrize(
    ("each", "guess", "names"),
    [
        ((), False, []),
        ((), True, [("llamacpp", "http://127.0.0.1:8080"), ("llamacpp-9931", "http://127.0.0.1:9931")]),
        (
            (given("llamacpp", "http://localhost:8080"),),
            True,
            [("llamacpp", "http://localhost:8080"), ("llamacpp-9931", "http://127.0.0.1:9931")],
        ),
        (
            (given("llamacpp", "http://h:5"),),
            True,
            [
                ("llamacpp", "http://h:5"),
                ("llamacpp-8080", "http://127.0.0.1:8080"),
                ("llamacpp-9931", "http://127.0.0.1:9931"),
            ],
        ),
        ((given("a"), given("b")), False, [("a", "http://h:1")]),
        (
            (given("a", "http://h:1"), given("A", "http://h:2"), given("a", "http://i:2")),
            False,
            [("a", "http://h:1"), ("A-2", "http://h:2"), ("a-2-2", "http://i:2")],
        ),
    ],
)
def test_the_first_that_claims_an_address_keeps_it(
    each: tuple[Given, ...], guess: bool, names: list[tuple[str, str]]
) -> None:
    assert shown(*each, guess=guess) == names


def test_what_is_given_comes_before_what_is_guessed_and_says_where_it_was_read() -> None:
    mine = given("mine", "http://127.0.0.1:8080", "environment")
    first, second = expected((mine,), watched=("llamacpp",), guess=True)
    assert (first.source, first.origin, first.locality, first.state) == (
        "environment",
        "environment mine",
        "device",
        "unknown",
    )
    assert (second.source, second.origin) == ("default", "default port of llama.cpp")


def test_what_hived_started_is_starting() -> None:
    (only,) = expected(
        (
            Given(
                name="a",
                provider="llamacpp",
                url="http://127.0.0.1:5",
                source="started",
                origin="",
                process=PROCESS,
            ),
        ),
        watched=(),
        guess=False,
    )
    assert (only.state, only.process) == ("starting", PROCESS)


def test_only_the_ports_of_providers_that_are_watched_are_guessed() -> None:
    assert shown(guess=True, watched=()) == []
    more = ProviderKind(
        name="sglang", title="SGLang", prefixes=("sglang",), litellm="openai", api_path="/v1", ports=(30000,)
    )
    found = expected((), watched=("sglang",), guess=True, kinds=(more,))
    assert [(e.name, e.url) for e in found] == [("sglang", "http://127.0.0.1:30000")]


def test_there_are_never_more_endpoints_than_rows_and_names_stay_different() -> None:
    many = [given("same", f"http://h{n // 3}:{n % 3 + 1}") for n in range(3 * SLOTS)]
    found = expected(many, watched=("llamacpp",), guess=True)
    assert len(found) == SLOTS
    assert len({e.name.casefold() for e in found}) == SLOTS


def test_other_names_of_one_server_are_its_aliases() -> None:
    each = (
        given("lab"),
        given("work", "http://h:1/v1"),
        given("LAB"),
        given("other", "http://h:2"),
        given("Other"),
        given("WORK"),
        given("gateway", provider="openai_compatible"),
        given("llamacpp"),
    )
    found = expected(each, watched=(), guess=False)
    # Not its own name, not another's, not one that is like another provider, and not a provider's prefix.
    assert [(e.name, e.aliases) for e in found] == [("lab", ("work",)), ("other", ())]


def test_an_alias_belongs_to_one_server() -> None:
    each = (given("a"), given("b", "http://h:2"), given("x"), given("X", "http://h:2"))
    assert [e.aliases for e in expected(each, watched=(), guess=False)] == [("x",), ()]


def ours(name: str, url: str = "http://h:1", provider: str = "llamacpp") -> Given:
    origin = f"providers.{name}.api_base"
    return Given(name=name, provider=provider, url=url, source="configuration", origin=origin)


@pytest.mark.parametrize(
    ("providers", "keys", "key"),
    [
        (("vllm", "vllm"), (None, "B"), "B"),
        (("vllm", "vllm"), ("A", "B"), "A"),
        # Hive's own section on the server that `providers` names without a key.
        (("vllm", "openai_compatible"), (None, "B"), "B"),
        (("openai_compatible", "vllm"), (None, "B"), None),
        (("vllm", "llamacpp"), (None, "B"), None),
    ],
)
def test_the_key_of_a_server_may_be_named_under_another_of_its_names(
    providers: tuple[str, str], keys: tuple[str | None, str | None], key: str | None
) -> None:
    each = [
        msgspec.structs.replace(given(name, provider=provider), key_ref=named)
        for name, provider, named in zip(("one", "other"), providers, keys, strict=True)
    ]
    assert [e.key_ref for e in expected(each, watched=(), guess=False)] == [key]


@pytest.mark.parametrize(
    "each",
    [
        (),
        (ours("a"), ours("b")),
        (ours("a"), given("hive-llm", provider="openai_compatible")),
        tuple(ours(f"e{n}", f"http://h:{n + 1}") for n in range(SLOTS)),
        tuple(ours(f"e{n}", f"http://h:{n % SLOTS + 1}") for n in range(2 * SLOTS)),
    ],
)
def test_what_can_be_watched_is_no_conflict(each: tuple[Given, ...]) -> None:
    assert conflicts(each, "/c") == ()


def test_one_server_that_is_like_two_providers_is_told_with_both_places() -> None:
    (found,) = conflicts((ours("a"), ours("b", provider="vllm")), "/c")
    assert found.code == "configuration.duplicate"
    assert (found.fields["where"], found.fields["first"]) == ("providers.b.api_base", "providers.a.api_base")


def test_more_servers_than_are_watched_are_told_once_with_the_first_that_is_not() -> None:
    (found,) = conflicts(tuple(ours(f"e{n}", f"http://h:{n + 1}") for n in range(SLOTS + 3)), "/c")
    assert found.code == "configuration.too_many"
    assert (found.fields["count"], found.fields["most"]) == (SLOTS + 3, SLOTS)
    assert found.fields["where"] == f"providers.e{SLOTS}.api_base"
