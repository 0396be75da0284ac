"""The start table, lived through: who had the port, and what ``hived start ollama`` did."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from hived.machine.ports import free_port
from hived_client.doors.wire import Begun
from hived_client.errors import HivedError
from tests.daemon.running import Running
from tests.faults.test_machine import running
from tests.machine.layouts import Layout
from tests.servers.ollama import Ollama
from tests.servers.programs import OllamaProgram
from tests.servers.strangers import AnswersEverything


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@contextmanager
def somebodys_ollama(port: int) -> Iterator[None]:
    with Ollama(port=port) as server:
        server.add("theirs")
        yield


@contextmanager
def a_stranger(port: int) -> Iterator[None]:
    with AnswersEverything(port=port):
        yield


def nobody(port: int) -> nullcontext[None]:
    return nullcontext()


CASES = [
    # who has the port, and whose program it is; what comes of it; what is said
    ("nobody; the program is on PATH", nobody, "a program", "started", "127.0.0.1:{port}"),
    ("nobody; nothing is installed", nobody, "nothing", "start.not_installed", "install.sh"),
    ("nobody; a system unit owns it", nobody, "a unit", "start.owned", "sudo systemctl start ollama"),
    ("somebody's Ollama", somebodys_ollama, "a program", "adopted", "theirs"),
    ("the system unit's Ollama", somebodys_ollama, "a unit", "adopted", "theirs"),
    ("a stranger", a_stranger, "a program", "start.port_taken", "ss -ltnp sport = :{port}"),
]


@pytest.mark.parametrize(
    ("who", "holding", "installed", "did", "said"), CASES, ids=[case[0] for case in CASES]
)
def test_who_had_the_port_decides_what_hived_does(
    environment: dict[str, str],
    computer: Layout,
    who: str,
    holding: object,
    installed: str,
    did: str,
    said: str,
) -> None:
    port = free_port()
    program = OllamaProgram(computer.home) if installed == "a program" else None
    if installed == "a unit":
        computer.install_ollama()
    assert callable(holding)
    entry: dict[str, object] = {"ollama": {"api_base": f"http://127.0.0.1:{port}"}}
    with holding(port), running(environment, computer, entry) as daemon:
        found, words = outcome(daemon)
        assert found == did, f"{who}: {words}"
        assert said.format(port=port) in words
        starts = program.starts if program is not None else []
        assert [host for _, host in starts] == ([f"127.0.0.1:{port}"] if did == "started" else [])


def outcome(daemon: Running) -> tuple[str, str]:
    """Return what came of a start in one word, and what was said of it."""
    try:
        last = list(daemon.client.start("ollama", timeout=20.0))[-1]
    except HivedError as error:
        return error.code, f"{error.message} {error.hint}"
    assert isinstance(last, Begun)
    if last.adopted:
        assert last.pid is None
        assert os.listdir(daemon.where.started) == []
        return "adopted", " ".join(last.models)
    assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
    return "started", last.url
