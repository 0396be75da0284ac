"""The catalogue: every row says a sentence on every system, whatever is known."""

from __future__ import annotations

import os
import re
import shlex
import string
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from hived_client.errors import HivedError, NotReady, Refused, StartFailed, Unavailable
from hived_client.vocabulary import faults
from hived_client.vocabulary.faults import CATALOGUE, COMMANDS, START_LLAMACPP, Value, fault, system

SYSTEMS = ("linux", "darwin", "wsl")
NUMBERS = frozenset({"age", "seconds"})

T = TypeVar("T")


def fields_of(*texts: str) -> frozenset[str]:
    """Names of the fields in some templates."""
    return frozenset(name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name)


def hints(code: str) -> tuple[str, ...]:
    """Every hint that a row could give."""
    row = CATALOGUE[code]
    return (*row.hints, *row.darwin, *row.wsl)


def hived_hints() -> Iterator[str]:
    """Every hint that is a command of ours, filled in: a test of the command line parses them."""
    for code in CATALOGUE:
        for template in hints(code):
            if template.startswith("hived "):
                values = dict.fromkeys(fields_of(template), "x/y")
                yield template.format_map(values)
    yield START_LLAMACPP


@pytest.fixture(params=SYSTEMS)
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, other_system: None) -> str:
    monkeypatch.setattr(sys, "platform", "darwin" if request.param == "darwin" else "linux")
    if request.param == "wsl":
        monkeypatch.setenv("WSL_DISTRO_NAME", "Debian")
    else:
        monkeypatch.delenv("WSL_DISTRO_NAME", raising=False)
    return str(request.param)


def filled(code: str) -> dict[str, Value]:
    return {
        name: 1.5 if name in NUMBERS else f"<{name}>"
        for name in fields_of(CATALOGUE[code].message, *hints(code))
    }


def test_every_code_is_dotted_lower_case() -> None:
    for code in CATALOGUE:
        assert re.fullmatch(r"[a-z]+(\.[a-z_]+)?", code), code


def test_every_row_renders_with_nothing_known_on_every_system(on: str) -> None:
    for code in CATALOGUE:
        assert system() == on
        problem = fault(code)
        assert problem.code == code
        assert problem.message, code
        assert "{" not in problem.message + problem.hint


def test_every_row_renders_with_everything_known_on_every_system(on: str) -> None:
    for code in CATALOGUE:
        problem = fault(code, **filled(code))
        assert "?" not in problem.message
        for name in fields_of(CATALOGUE[code].message) - NUMBERS:
            assert f"<{name}>" in problem.message
        assert bool(problem.hint) == bool(hints(code))


def test_a_fault_looks_at_this_system_once_and_for_the_configuration_only_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, other_system: None
) -> None:
    looked: list[str] = []

    def counted(what: str, act: Callable[[], T]) -> Callable[[], T]:
        def look() -> T:
            looked.append(what)
            return act()

        return look

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "uname", counted("system", os.uname))
    monkeypatch.setattr(faults, "configuration_file", counted("configuration", lambda: "/c.json"))
    for _ in range(3):
        assert fault("server.down", start="hived start vllm").hint == "hived start vllm"
    assert looked == ["system"]
    hint = fault("server.unreachable", endpoint="lab").hint
    assert hint == "set providers.lab.api_base in /c.json"
    assert looked == ["system", "configuration"]


def test_what_is_none_is_unknown_and_neither_breaks_nor_is_printed() -> None:
    for code in CATALOGUE:
        unknown: dict[str, Value] = dict.fromkeys(filled(code))
        problem = fault(code, **unknown)
        assert problem.message == fault(code).message
        assert problem.hint == fault(code).hint
        assert "None" not in problem.message + problem.hint


def test_a_sentence_is_one_sentence_and_ends() -> None:
    for code in CATALOGUE:
        message = CATALOGUE[code].message
        assert message.endswith((".", "?")), code
        assert "\n" not in message, code


PROGRAMS = frozenset(
    (
        *("hived", "ollama", "lms", "vllm", "llama-server", "brew"),
        *("systemctl", "loginctl", "launchctl", "journalctl"),
        *("pip", "uv", "python3", "git", "curl", "getent", "dscacheutil", "ss", "lsof", "ldd", "otool"),
        *("hf", "nvidia-smi"),
        *("ls", "less", "df", "rm", "kill", "chmod", "sudo", "vi", "open", "export", "env", "wsl.exe"),
        *("explorer.exe", "nvidia-smi"),
    )
)
"""What a hint may begin with: programs that the reader has, or has just been told of, and ``export``."""

SETTING = re.compile(r"set [\w.{}]+ in {configuration}")
"""What a hint says where no command helps: a place in the configuration, always in these words."""


def test_every_hint_is_a_command_or_a_place_in_the_configuration() -> None:
    for code in CATALOGUE:
        for hint in hints(code):
            fields = fields_of(hint)
            is_command = bool(fields & COMMANDS) and hint == "{" + next(iter(fields), "") + "}"
            assert is_command or SETTING.fullmatch(hint) or hint.split()[0] in PROGRAMS, hint


def test_the_configuration_of_a_hint_is_the_one_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIVE_HOME", raising=False)
    assert fault("provider.unknown", prefix="lab").hint.endswith(" in ~/.hive/configuration.json")
    monkeypatch.setenv("HIVE_HOME", "/srv/another home/")
    assert fault("provider.unknown", prefix="lab").hint.endswith(" in '/srv/another home/configuration.json'")


def test_a_code_that_is_not_in_the_catalogue_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        fault("no.such")


def test_a_name_that_a_server_chose_stays_one_word_of_the_hint() -> None:
    nasty = "lab/x; rm -rf ~ 'y' $(z)"
    hint = fault("model.ambiguous", model="x", endpoints="a, b", first=nasty).hint
    assert shlex.split(hint) == ["hived", "resolve", nasty]
    assert fault("configuration.invalid", path="/a b/c.json").hint.endswith("'/a b/c.json'")


def test_a_name_that_a_server_chose_is_no_option_and_no_home_folder() -> None:
    option = "--trust-remote-code"
    assert fault("start.unknown_model", title="vLLM", why="", model=option).hint == ""
    assert fault("start.unknown_model", title="vLLM", why="", model="~root/x").hint == "hf download '~root/x'"


def test_a_command_in_a_hint_is_not_quoted() -> None:
    assert fault("server.down", start="ollama serve --x 'a b'").hint == "ollama serve --x 'a b'"


def test_an_empty_command_falls_back_to_the_next_hint() -> None:
    assert fault("server.down", start="").hint == "hived status"
    assert fault("context.exceeds_loaded", asked=9, restart="", load="lms load m").hint == "lms load m"


def test_the_hints_that_are_our_commands_can_be_listed() -> None:
    listed = list(hived_hints())
    assert "hived status" in listed
    assert all(shlex.split(each)[0] == "hived" for each in listed)


@pytest.mark.parametrize("kind", [HivedError, NotReady, Unavailable, Refused, StartFailed])
def test_every_error_reads_as_its_sentence_and_its_hint(kind: type[HivedError]) -> None:
    problem = fault("server.down", title="Ollama", url="http://h", start="ollama serve")
    error = kind(problem, ("a/b",))
    assert str(error) == "Ollama is not running at http://h. → ollama serve"
    assert (error.code, error.hint, error.alternatives) == ("server.down", "ollama serve", ("a/b",))


def test_an_error_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(NotReady(fault("daemon.absent"), ("a/b",))))
    assert isinstance(error, NotReady)
    assert (error.code, error.alternatives) == ("daemon.absent", ("a/b",))
