from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hived.machine.ports import free_port
from hived.machine.recipes import Wanted
from hived.machine.start_ollama import OllamaRecipe
from hived_client.errors import HivedError
from tests.machine.layouts import Layout


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.program("~/path/ollama")
    return layout


def at(url: str) -> Wanted:
    return Wanted(url=url)


def test_it_is_started_where_it_is_configured_and_keeps_the_users_variables(computer: Layout) -> None:
    port = free_port()
    given = {
        "OLLAMA_MODELS": "/m",
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "NOTIFY_SOCKET": "/n",
        "HF_TOKEN": "t",
    }
    recipe = OllamaRecipe(str(computer.root))
    launch = recipe.prepare(at(f"http://localhost:{port}"), computer.environment | given)
    assert launch.argv == (str(computer.home / "path" / "ollama"), "serve")
    assert launch.url == f"http://127.0.0.1:{port}"
    assert launch.notes == ()
    assert {name: launch.environment.get(name) for name in given} == given | {"NOTIFY_SOCKET": None}


@pytest.mark.parametrize("written", ["0.0.0.0", "0.0.0.0:{port}", ":{port}", "http://[::]:{port}"])
def test_it_never_listens_at_every_interface_and_that_is_said(computer: Layout, written: str) -> None:
    port = free_port()
    text = written.format(port=port)
    launch = OllamaRecipe(str(computer.root)).prepare(
        at(f"http://127.0.0.1:{port}"), computer.environment | {"OLLAMA_HOST": text}
    )
    assert launch.environment["OLLAMA_HOST"] == f"127.0.0.1:{port}"
    assert launch.notes == (
        f"OLLAMA_HOST is {text}; the server that hived starts listens at 127.0.0.1:{port} only",
    )


def test_a_password_in_the_variable_is_not_said(computer: Layout) -> None:
    launch = OllamaRecipe(str(computer.root)).prepare(
        at(f"http://127.0.0.1:{free_port()}"), computer.environment | {"OLLAMA_HOST": "http://me:secret@box"}
    )
    assert "secret" not in repr(launch.notes)
    assert "secret" not in launch.environment["OLLAMA_HOST"]


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:11434", "https://127.0.0.1:11434", "http://gpu-box:11434", "http://0.0.0.0:1"]
)
def test_only_plain_loopback_is_started_at(computer: Layout, url: str) -> None:
    with pytest.raises(HivedError) as caught:
        OllamaRecipe(str(computer.root)).prepare(at(url), computer.environment)
    assert caught.value.code == "start.elsewhere"


def test_a_port_that_is_taken_and_a_program_that_is_not_there(tmp_path: Path, computer: Layout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(HivedError) as caught:
            OllamaRecipe(str(computer.root)).prepare(at(url), computer.environment)
        assert caught.value.code == "start.port_taken"
    empty = Layout(tmp_path / "other")
    with pytest.raises(HivedError) as caught:
        OllamaRecipe(str(empty.root)).prepare(at(url), empty.environment)
    assert caught.value.code == "start.not_installed"


@pytest.mark.parametrize(
    ("log", "started", "why", "code"),
    [
        (
            "Error: listen tcp 127.0.0.1:11434: bind: address already in use\n",
            False,
            "Error: listen tcp 127.0.0.1:11434: bind: address already in use",
            "start.port_taken",
        ),
        (
            "couldn't find key\nError: could not create it\n",
            True,
            "Error: could not create it",
            "start.ended",
        ),
        ("all is well\n", True, "", "start.ended"),
        ("all is well\n", False, "all is well", "start.ended"),
        ("", False, "", "start.ended"),
    ],
)
def test_its_log_says_why_it_ended(computer: Layout, log: str, started: bool, why: str, code: str) -> None:
    recipe = OllamaRecipe(str(computer.root))
    launch = recipe.prepare(at(f"http://127.0.0.1:{free_port()}"), computer.environment)
    assert recipe.why_it_ended(log, started=started) == why
    assert recipe.fault_of_end(launch, why, "/log").code == code
