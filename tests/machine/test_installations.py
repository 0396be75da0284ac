"""Every way that a server's program gets onto a computer, laid out below a folder."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hived.machine.installations import Installations
from hived_client.vocabulary.world import Installation
from tests.machine.layouts import Layout


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def look(computer: Layout, provider: str, **more: str) -> Installation | None:
    return Installations(
        computer.environment | more,
        studio=lambda: str(computer.home / ".lmstudio"),
        root=str(computer.root),
    ).find(provider)


def found(computer: Layout, provider: str, **more: str) -> Installation:
    answer = look(computer, provider, **more)
    assert answer is not None
    return answer


def test_a_bare_computer_has_nothing(
    computer: Layout, no_wheel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(computer.home / "python"))
    for provider in ("ollama", "vllm", "lm_studio", "llamacpp"):
        assert found(computer, provider) == Installation(found=False)


def test_of_a_provider_without_a_program_nothing_is_said(computer: Layout) -> None:
    assert look(computer, "openai_compatible") is None
    assert look(computer, "a plug-in's") is None


def system_unit(computer: Layout) -> None:
    computer.install_ollama()


def packaged_unit(computer: Layout) -> None:
    computer.boot_systemd()
    computer.program("/usr/bin/ollama")
    computer.file("/usr/lib/systemd/system/ollama.service", "[Service]\nExecStart=/usr/bin/ollama serve\n")


def unit_of_a_program_elsewhere(computer: Layout) -> None:
    computer.boot_systemd()
    computer.program("/nix/store/abc-ollama/bin/ollama")
    computer.file(
        "/etc/systemd/system/ollama.service",
        '[Service]\nExecStart = "/nix/store/abc-ollama/bin/ollama" serve\n',
    )


def user_unit(computer: Layout) -> None:
    computer.boot_systemd()
    computer.program("~/.local/bin/ollama")
    computer.file(
        "~/.config/systemd/user/ollama.service", "[Service]\nExecStart=%h/.local/bin/ollama serve\n"
    )


def linuxbrew(computer: Layout) -> None:
    computer.boot_systemd()
    computer.program("/home/linuxbrew/.linuxbrew/bin/ollama")
    computer.file("~/.config/systemd/user/homebrew.ollama.service", "[Service]\nType=simple\n")


def homebrew_agent(computer: Layout) -> None:
    computer.program("/opt/homebrew/bin/ollama")
    computer.file("~/Library/LaunchAgents/homebrew.mxcl.ollama.plist", "<plist/>")


def mac_app(computer: Layout) -> None:
    computer.program("/Applications/Ollama.app/Contents/Resources/ollama")


def snap(computer: Layout) -> None:
    computer.program("/snap/bin/ollama")
    computer.folder("/snap/ollama/current")


@pytest.mark.parametrize(
    ("lay_out", "owner", "start", "path"),
    [
        (system_unit, "system unit ollama.service", "sudo systemctl start ollama", "/usr/local/bin/ollama"),
        (packaged_unit, "system unit ollama.service", "sudo systemctl start ollama", "/usr/bin/ollama"),
        (
            unit_of_a_program_elsewhere,
            "system unit ollama.service",
            "sudo systemctl start ollama",
            "/nix/store/abc-ollama/bin/ollama",
        ),
        (user_unit, "user unit ollama.service", "systemctl --user start ollama", None),
        (
            linuxbrew,
            "brew service ollama",
            "brew services start ollama",
            "/home/linuxbrew/.linuxbrew/bin/ollama",
        ),
        (homebrew_agent, "brew service ollama", "brew services start ollama", "/opt/homebrew/bin/ollama"),
        (
            mac_app,
            "the Ollama app",
            "open -a Ollama",
            "/Applications/Ollama.app/Contents/Resources/ollama",
        ),
        (snap, "snap ollama", "sudo snap start ollama", "/snap/bin/ollama"),
    ],
)
def test_who_starts_ollama_is_known_by_the_files_that_make_it_so(
    computer: Layout, lay_out: Callable[[Layout], None], owner: str, start: str, path: str | None
) -> None:
    lay_out(computer)
    path = path or str(computer.home / ".local/bin/ollama")
    assert found(computer, "ollama") == Installation(found=True, path=path, owner=owner, start=start)


def test_a_program_that_nobody_owns_is_started_by_its_path_unless_path_has_it(computer: Layout) -> None:
    computer.program("/usr/local/bin/ollama")
    assert found(computer, "ollama").start == "/usr/local/bin/ollama serve"
    own = computer.program("~/path/ollama")
    assert found(computer, "ollama") == Installation(found=True, path=str(own))


def test_where_systemd_does_not_run_its_units_own_nothing(computer: Layout) -> None:
    computer.install_ollama()
    os.rmdir(computer.root / "run/systemd/system")
    assert found(computer, "ollama") == Installation(
        found=True, path="/usr/local/bin/ollama", start="/usr/local/bin/ollama serve"
    )


def test_a_masked_unit_owns_nothing(computer: Layout) -> None:
    computer.install_ollama()
    unit = computer.root / "etc/systemd/system/ollama.service"
    unit.unlink()
    unit.symlink_to("/dev/null")
    assert found(computer, "ollama").owner == ""


def test_a_unit_that_an_uninstaller_left_is_no_installation(computer: Layout) -> None:
    computer.install_ollama()
    (computer.root / "usr/local/bin/ollama").unlink()
    assert found(computer, "ollama") == Installation(found=False)


def test_a_file_that_cannot_be_run_and_a_folder_are_no_programs(computer: Layout) -> None:
    computer.file("/usr/bin/ollama", mode=0o644)
    computer.folder("/usr/local/bin/ollama")
    assert not found(computer, "ollama").found


def test_a_pipe_in_a_units_place_holds_nobody_up(computer: Layout) -> None:
    computer.install_ollama()
    unit = computer.root / "etc/systemd/system/ollama.service"
    unit.unlink()
    os.mkfifo(unit)
    assert found(computer, "ollama").owner == ""


def test_vllm_is_on_path_or_beside_the_python_that_runs_us(
    computer: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(computer.home / "venv/bin/python"))
    own = computer.program("~/venv/bin/vllm")
    assert found(computer, "vllm").start == f"{own} serve MODEL --host 127.0.0.1"
    computer.program("~/path/vllm")
    assert found(computer, "vllm").start == ""


def test_lm_studios_own_tool_starts_it(computer: Layout) -> None:
    tool = computer.program("~/.lmstudio/bin/lms")
    assert found(computer, "lm_studio") == Installation(
        found=True, path=str(tool), start=f"{tool} server start"
    )


def test_lm_studio_that_was_never_opened_has_no_tool_yet(computer: Layout) -> None:
    image = computer.program("~/LM Studio.AppImage")
    computer.file("~/.lmstudio/.internal/app-install-location.json", json.dumps({"path": str(image)}))
    assert found(computer, "lm_studio") == Installation(
        found=True, path=str(image), owner="the LM Studio app", start=f"'{image}'"
    )


def test_lm_studio_in_the_applications_folder(computer: Layout) -> None:
    computer.folder("/Applications/LM Studio.app")
    assert found(computer, "lm_studio").start == "open -a 'LM Studio'"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"path": 1}', '{"path": "relative"}', '{"path": "/gone"}', "[" * 5000, '"\\ud800"'],
)
def test_a_marker_that_says_nothing_is_none(computer: Layout, text: str) -> None:
    computer.file("~/.lmstudio/.internal/app-install-location.json", text)
    assert found(computer, "lm_studio") == Installation(found=False)


def test_llamacpp_is_a_program_or_a_wheel_and_a_llama_may_be_anything(
    computer: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    computer.program("~/path/llama")
    assert look(computer, "llamacpp") is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert found(computer, "llamacpp") == Installation(found=True)
    own = computer.program("~/path/llama-server")
    assert found(computer, "llamacpp") == Installation(found=True, path=str(own))


def test_without_a_home_and_a_path_nothing_breaks(computer: Layout) -> None:
    bare = Installations({}, root=str(computer.root))
    assert bare.find("ollama") == Installation(found=False)
    assert repr(bare) == f"<Installations below {computer.root}>"
