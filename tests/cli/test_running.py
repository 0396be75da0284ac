"""How a verb is run: usage, errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hived.cli import VERBS, main
from hived.cli.running import exit_code, run, seconds, sentence, shown
from hived_client.doors.paths import places
from hived_client.errors import NotReady, Refused, StartFailed, Unavailable
from hived_client.vocabulary.faults import CATALOGUE, Fault, fault
from tests.cli.words import hived
from tests.client.fake_daemon import fake_daemon


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, ["--help"]) == 0
    assert f"usage: hived {verb}" in capsys.readouterr().out
    assert run(verb, ["--nonsense"]) == 2
    assert f"usage: hived {verb}" in capsys.readouterr().err


def test_no_verb_and_a_wrong_one_are_usage(environment: dict[str, str]) -> None:
    assert hived(environment).code == 2
    said = hived(environment, "stat\x1b[2Jus")
    assert said.code == 2
    assert "\x1b" not in said.err
    assert hived(environment, "--help").code == 0
    assert hived(environment, "--version").out.startswith("hived ")


@pytest.mark.parametrize(
    "words",
    [
        ("start", "llamacpp", "--port", "70000"),
        ("start", "llamacpp", "--port", "-1"),
        ("start", "llamacpp", "--ctx-size", "-5"),
        ("start", "llamacpp", "--ctx-size", "9" * 5000),
        ("resolve", "ollama/x", "--context", "0"),
        ("stop", ""),
        ("logs", "-n", "x"),
    ],
)
def test_a_value_that_means_nothing_is_usage(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words[0], words[1:]) == 2
    error = capsys.readouterr().err
    assert "is not a number from" in error or "the name is empty" in error


def test_help_explains_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "status"]) == 0
    assert "usage: hived status" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("start", "llamacpp", "--model", "x.gguf"), ("plugin", "status", "hive")])
def test_a_folder_that_is_gone_is_said_as_that(
    environment: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    script = 'cd "$1"; rmdir "$1"; shift; exec "$@"'
    command = ["sh", "-c", script, "sh", str(tmp_path / "gone"), sys.executable, "-P", "-m", "hived", *words]
    (tmp_path / "gone").mkdir()
    # A daemon that seems to be there: this is about what comes before it is asked.
    with fake_daemon(places(environment)):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write" not in done.stderr
    assert "the folder that you are in is not there any more" in done.stderr or "no model file" in done.stderr


def test_a_closed_input_is_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["--version"]) == 0
    with sys.stdin as left:
        assert (left.isatty(), left.read()) == (False, "")


def test_every_fault_has_an_exit_code() -> None:
    special = {
        "daemon.not_running": 3,
        "daemon.absent": 3,
        "daemon.unresponsive": 4,
        "protocol.broken": 4,
        "draining": 4,
    }
    for code in CATALOGUE:
        for kind in (NotReady, Refused, StartFailed, Unavailable):
            assert exit_code(kind(fault(code))) == special.get(code, 1)


def test_what_comes_from_elsewhere_is_made_harmless() -> None:
    assert shown("a\x1b[31mb\n\u202ec") == "a?[31mb??c"
    assert sentence(Fault(code="x", message="a\x07", hint="b\r")) == "a?\n  → b?"


@pytest.mark.parametrize(("word", "number"), [("0", 0.0), ("1.5", 1.5), ("1e3", 1000.0)])
def test_seconds_are_read(word: str, number: float) -> None:
    assert seconds(word) == number


@pytest.mark.parametrize("word", ["nan", "inf", "-1", "-0.1", "1e10", "x", ""])
def test_no_wait_lasts_for(word: str) -> None:
    with pytest.raises(ValueError):
        seconds(word)
