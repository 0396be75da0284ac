"""How LM Studio's server is started, and what its command says of an end, by the source of ``lms``."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hived.machine.ports import free_port
from hived.machine.recipes import Launch, Wanted
from hived.machine.start_lm_studio import LmStudioRecipe
from hived.providers.disk_lm_studio import studio_folder
from hived_client.errors import HivedError
from tests.machine.layouts import Layout


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def recipe(computer: Layout) -> LmStudioRecipe:
    return LmStudioRecipe(studio_folder, str(computer.root))


def refused(computer: Layout, wanted: Wanted) -> tuple[str, str]:
    with pytest.raises(HivedError) as caught:
        recipe(computer).prepare(wanted, computer.environment)
    return caught.value.code, f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("place", ["~/.lmstudio/bin/lms", "~/.cache/lm-studio/bin/lms", "~/path/lms"])
def test_its_command_is_found_where_it_is_and_says_port_and_device(computer: Layout, place: str) -> None:
    tool = str(computer.program(place))
    port = free_port()
    given = computer.environment | {"LMS_SERVER_HOST": "0.0.0.0", "NOTIFY_SOCKET": "/n"}
    launch = recipe(computer).prepare(Wanted(url=f"http://localhost:{port}"), given)
    assert launch.argv == (tool, "server", "start", "--port", str(port))
    assert launch.ends_with == (tool, "server", "stop")
    assert launch.url == f"http://127.0.0.1:{port}"
    assert launch.stays is False
    assert launch.environment["LMS_SERVER_HOST"] == "127.0.0.1"
    assert "NOTIFY_SOCKET" not in launch.environment


def test_what_is_not_there_and_what_it_cannot_be_started_with_is_said(computer: Layout) -> None:
    code, said = refused(computer, Wanted(port=free_port()))
    assert (code, "https://lmstudio.ai/install.sh" in said) == ("start.not_installed", True)
    computer.folder("/Applications/LM Studio.app")
    code, said = refused(computer, Wanted(port=free_port()))
    assert (code, said.endswith("open -a 'LM Studio'")) == ("start.not_installed", True)
    computer.program("~/.lmstudio/bin/lms")
    assert refused(computer, Wanted(url="http://[::1]:1234"))[0] == "start.elsewhere"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert refused(computer, Wanted(port=taken.getsockname()[1]))[0] == "start.port_taken"


@pytest.mark.parametrize(
    ("log", "code", "hint"),
    [
        (
            "Starting server...\nError: Failed to start LM Studio service. Please make sure it is installed "
            "and have run it at\nleast once.\n",
            "start.not_installed",
            "curl -fsSL https://lmstudio.ai/install.sh | bash",
        ),
        (
            "Error: Failed to verify the server is running. Please try to use another port.\n",
            "start.port_taken",
            "ss -ltnp sport = :1",
        ),
        ("\x1b[31mError:\x1b[0m Failed to start the server on port 1234\n", "start.ended", "less /log"),
        ("", "start.ended", "less /log"),
    ],
)
def test_what_its_command_says_is_a_row_of_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, computer: Layout, log: str, code: str, hint: str
) -> None:
    monkeypatch.setattr("hived_client.vocabulary.faults.system", lambda: "linux")
    launch = Launch(argv=("lms",), environment={}, url="http://127.0.0.1:1")
    why = recipe(computer).why_it_ended(log, started=False)
    found = recipe(computer).fault_of_end(launch, why, "/log")
    assert (found.code, found.hint) == (code, hint)
