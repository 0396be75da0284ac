"""Completion, and that every command which a hint proposes exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hived.cli import VERBS
from hived.cli.completion import whole_parser
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import CATALOGUE
from tests.cli.words import hived
from tests.daemon.running import Running, configure


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_every_shell_gets_every_verb(environment: dict[str, str], shell: str) -> None:
    said = hived(environment, "completion", shell)
    assert said.code == 0
    assert said.err == ""
    for verb in VERBS:
        assert verb in said.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=said.out, text=True, check=True)


def test_names_of_servers_are_completed_as_they_are_now(environment: dict[str, str]) -> None:
    configure(environment, {"lab": {"like": "vllm", "api_base": "http://127.0.0.1:9/v1"}})
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    script = hived(environment, "completion", "bash").out
    with Running(environment):
        for begun, found in (("l", ["lab", "llamacpp", "lm_studio"]), ("ol", ["ollama"]), ("x", [])):
            asked = f"{script}\n_hived_names {begun}"
            said = subprocess.run(
                ["bash", "-c", asked], env=environment, capture_output=True, text=True, check=False
            )
            assert (said.stdout.split(), said.stderr) == (found, "")
    assert '"$(hived completion names' in script
    assert "_hived_names" in script.partition("_hived_start_pos_0_COMPGEN=")[2].splitlines()[0]


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


def test_bash_completes_the_names_of_logs(environment: dict[str, str], where: Places, tmp_path: Path) -> None:
    os.makedirs(where.logs)
    Path(f"{where.logs}/ollama.log").write_text("")
    program = tmp_path / "hived"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m hived "$@"\n')
    program.chmod(0o755)
    script = f"""{hived(environment, "completion", "bash").out}
    COMP_WORDS=(hived logs o) COMP_CWORD=2
    _shtab_hived hived o logs
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment | {"PATH": f"{tmp_path}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("ollama\n", "")
