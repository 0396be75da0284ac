"""``hived resolve``: yes, no, and why."""

from __future__ import annotations

import json

import pytest

from hived_client.vocabulary.kinds import KINDS
from tests.cli.words import hived
from tests.daemon.running import Running, configure, llamacpp_at, serving, wait_until
from tests.servers.strangers import LyingLlamaCpp


@pytest.mark.stress
def test_a_yes_is_shown_as_text_and_as_json(environment: dict[str, str]) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            said = hived(environment, "resolve", "llamacpp/m")
            assert said.code == 0
            assert said.err == ""
            assert "llamacpp/m can be called" in said.out
            assert f"{server.url}/v1" in said.out
            for extra in (
                [],
                ["--fresh"],
                ["--verify"],
                ["--private"],
                ["--private", "lan"],
                ["--context", "512"],
            ):
                said = hived(environment, "resolve", "llamacpp/m", "--json", *extra)
                assert said.code == 0, (extra, said)
                target = json.loads(said.out)
                assert (target["model"], target["api_base"]) == ("openai/m", f"{server.url}/v1")
                assert {
                    "api_key",
                    "extra",
                    "context",
                    "endpoint",
                    "locality",
                    "state",
                    "warnings",
                    "age",
                } <= set(target)
            said = hived(environment, "resolve", "llamacpp/m", "--context", "100000", "--json")
            assert said.code == 1
            assert json.loads(said.out)["code"].startswith("context.")
            assert hived(environment, "resolve", "llamacpp/m", "--needs", "flight").code in (0, 1)
            # Without the daemon: what it knew, and one connection.
            daemon.kill()
            wait_until(lambda: daemon.client.world().verdict == "absent")
            said = hived(environment, "resolve", "llamacpp/m")
            assert said.code == 0
            assert "hived is not running" in said.out
    said = hived(environment, "resolve", "llamacpp/m")
    assert said.code == 1
    assert "is not running at" in said.err
    assert serving(environment) == []


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
@pytest.mark.stress
def test_a_no_has_a_code_a_sentence_and_a_hint_with_and_without_a_daemon(
    environment: dict[str, str], kind: str
) -> None:
    if kind != "llamacpp":
        configure(environment, {kind: {"api_base": "http://127.0.0.1:9"}})
    else:
        configure(environment, llamacpp_at("http://127.0.0.1:9"))
    said = hived(environment, "resolve", f"{kind}/x", "--json")
    assert said.code in (0, 1)
    with Running(environment):
        said = hived(environment, "resolve", f"{kind}/x", "--json")
        assert said.code == 1, said
        refusal = json.loads(said.out)
        assert refusal["code"]
        assert refusal["hint"]
        assert refusal["message"] in said.err
        assert refusal["alternatives"] == []


def test_a_name_that_is_none_is_a_no(environment: dict[str, str]) -> None:
    for name in ("x", "", "/", "nobody/x", "a/" + "b" * 100_000, "ollama/"):
        said = hived(environment, "resolve", name)
        assert said.code == 1, name[:50]
        assert said.out == ""
        assert "→" in said.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a/b", "--timeout", "nan"],
        ["a/b", "--timeout", "-1"],
        ["a/b", "--timeout", "soon"],
        ["a/b", "--context", "many"],
        ["a/b", "--private", "everywhere"],
        ["a/b", "c/d"],
    ],
)
@pytest.mark.stress
def test_wrong_words_are_usage(environment: dict[str, str], words: list[str]) -> None:
    said = hived(environment, "resolve", *words)
    assert said.code == 2
    assert "usage: hived resolve" in said.err


def test_start_starts_the_daemon(environment: dict[str, str]) -> None:
    import os
    import signal

    configure(environment)
    said = hived(environment, "resolve", "llamacpp/x", "--start")
    try:
        assert said.code == 1
        assert len(serving(environment)) == 1
    finally:
        for pid in serving(environment):
            os.kill(pid, signal.SIGKILL)
