"""Completion, and that every command which a hint proposes exists."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from hived.cli import VERBS
from hived.cli.completion import whole_parser
from hived_client.vocabulary.faults import CATALOGUE
from tests.cli.words import hived


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_every_shell_gets_every_verb(environment: dict[str, str], shell: str) -> None:
    said = hived(environment, "completion", shell)
    assert said.code == 0
    assert said.err == ""
    for verb in VERBS:
        assert verb in said.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=said.out, text=True, check=True)


def test_an_unknown_shell_is_usage(environment: dict[str, str]) -> None:
    assert hived(environment, "completion", "fish5").code == 2
    assert hived(environment, "completion").code == 2


def hints() -> list[str]:
    found = {hint for row in CATALOGUE.values() for hint in (*row.hints, *row.darwin, *row.wsl)}
    return sorted(hint for hint in found if hint.startswith("hived "))


@pytest.mark.parametrize("hint", hints())
def test_every_command_in_a_hint_parses(hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(re.sub(r"\{[^}]*\}", "1", hint))[1:]
    if words == ["--help"]:
        return
    whole_parser().parse_args(words)
