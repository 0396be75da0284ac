"""The start table, lived through: who had the port, and what ``hived start ollama`` did.

The README has the same table, row by row.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from hived.machine.ports import free_port, is_port_free
from hived_client.doors.wire import Begun
from hived_client.errors import HivedError
from tests.conftest import environment as environment_of
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.faults.printing import readme
from tests.faults.test_machine import RELAY, program, running
from tests.machine.layouts import Layout
from tests.servers.ollama import Ollama
from tests.servers.programs import OllamaProgram
from tests.servers.strangers import AnswersEverything

UNIT = "[Service]\nExecStart=/usr/local/bin/ollama serve\n"


class Place:
    """A computer on which an Ollama is to be started, at a port of its own in each case."""

    def __init__(self, daemon: Running, computer: Layout) -> None:
        self.daemon = daemon
        self.computer = computer
        self.home = Path(daemon.environment["HOME"])
        self.program = OllamaProgram(computer.home)
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def file(self, path: str, text: str) -> None:
        """Write a file of the user's."""
        (self.home / path).parent.mkdir(parents=True, exist_ok=True)
        (self.home / path).write_text(text)

    def start(self) -> Begun:
        last = list(self.daemon.client.start("ollama", timeout=DEADLINE))[-1]
        assert isinstance(last, Begun)
        return last


@pytest.fixture(scope="module")
def daemon() -> Iterator[tuple[Running, Layout]]:
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        computer = Layout(Path(folder, "computer"))
        home = Path(folder, "home")
        home.mkdir()
        with running(environment_of.__wrapped__(home), computer, {}) as found:  # type: ignore[attr-defined]
            yield found, computer


@pytest.fixture
def place(daemon: tuple[Running, Layout]) -> Iterator[Place]:
    found = Place(*daemon)
    configure(found.daemon.environment, {"ollama": {"api_base": found.url}})
    found.daemon.client.reload()
    yield found
    with suppress(HivedError):
        found.daemon.client.stop("ollama")
    assert os.listdir(found.daemon.where.started) == []
    for folder in (found.computer.root, found.home / ".config", found.home / "Library"):
        shutil.rmtree(folder, ignore_errors=True)
    found.computer.root.mkdir()
    for name in ("ollama", "ollama.starts", "ollama.broken"):
        (found.computer.home / name).unlink(missing_ok=True)


# Who has the place. Each is a context in which the start is tried.


@contextmanager
def nobody(place: Place) -> Iterator[None]:
    yield


@contextmanager
def not_installed(place: Place) -> Iterator[None]:
    place.program.path.unlink()
    yield


@contextmanager
def a_system_unit(place: Place) -> Iterator[None]:
    place.computer.install_ollama()
    yield


@contextmanager
def a_user_unit(place: Place) -> Iterator[None]:
    place.computer.boot_systemd()
    place.file(".config/systemd/user/ollama.service", UNIT)
    yield


@contextmanager
def a_brew_service(place: Place) -> Iterator[None]:
    place.computer.boot_systemd()
    place.file(".config/systemd/user/homebrew.ollama.service", UNIT)
    yield


@contextmanager
def the_app(place: Place) -> Iterator[None]:
    place.computer.program("/Applications/Ollama.app/Contents/Resources/ollama")
    yield


@contextmanager
def a_snap(place: Place) -> Iterator[None]:
    place.computer.folder("/snap/ollama/current")
    yield


@contextmanager
def somebodys_ollama(place: Place) -> Iterator[None]:
    with Ollama(port=place.port) as server:
        server.add("theirs")
        yield


@contextmanager
def a_units_ollama(place: Place) -> Iterator[None]:
    place.computer.install_ollama()
    with somebodys_ollama(place):
        yield


@contextmanager
def a_container(place: Place) -> Iterator[None]:
    """What Docker does for a published port: a relay of its own listens."""
    proxy = place.computer.home / "docker-proxy"
    proxy.unlink(missing_ok=True)
    proxy.symlink_to(Path(sys.executable).resolve())
    with Ollama() as server:
        server.add("theirs")
        words = [str(proxy), "-I", "-S", "-c", RELAY, server.url.rpartition(":")[2]]
        with program(words) as (_, port):
            place.port = int(port)
            configure(place.daemon.environment, {"ollama": {"api_base": place.url}})
            place.daemon.client.reload()
            yield


@contextmanager
def an_ollama_that_comes_up(place: Place) -> Iterator[None]:
    with Ollama(port=place.port, starting=True) as server:
        server.add("theirs")
        ready = threading.Timer(1.0, server.finish_start)
        ready.start()
        yield
        ready.join()


@contextmanager
def a_stranger(place: Place) -> Iterator[None]:
    with AnswersEverything(port=place.port):
        yield


@contextmanager
def ours_that_runs(place: Place) -> Iterator[None]:
    place.start()
    yield


@contextmanager
def ours_of_an_earlier_daemon(place: Place) -> Iterator[None]:
    place.start()
    place.daemon.kill()
    place.daemon.start()
    yield


@contextmanager
def ours_that_is_starting(place: Place) -> Iterator[None]:
    asking = threading.Thread(target=lambda: list(place.daemon.another().start("ollama", timeout=DEADLINE)))
    asking.start()
    wait_until(lambda: place.program.starts)
    yield
    asking.join()


@contextmanager
def ours_that_was_ended(place: Place) -> Iterator[None]:
    pid = place.start().pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    # It accepts no more, and may still be on its way out when it is asked for.
    wait_until(lambda: is_port_free("127.0.0.1", place.port))
    yield


Who = Callable[[Place], AbstractContextManager[None]]

TABLE: list[tuple[str, Who, str, str]] = [
    # Who has the place (and the README's words for it), what comes of it, what is said.
    ("nobody, and `ollama` is there", nobody, "started", "127.0.0.1:{port}"),
    ("nobody, and it is not installed", not_installed, "start.not_installed", "install.sh"),
    ("nobody; a system unit owns it", a_system_unit, "start.owned", "sudo systemctl start ollama"),
    ("nobody; a user unit owns it", a_user_unit, "start.owned", "systemctl --user start ollama"),
    ("nobody; a brew service owns it", a_brew_service, "start.owned", "brew services start ollama"),
    ("nobody; the app owns it", the_app, "start.owned", "open -a Ollama"),
    ("nobody; a snap owns it", a_snap, "start.owned", "sudo snap start ollama"),
    ("an Ollama that somebody started", somebodys_ollama, "adopted", "theirs"),
    ("the system unit's Ollama", a_units_ollama, "adopted", "theirs"),
    ("a container's Ollama, at a published port", a_container, "adopted", "theirs"),
    ("an Ollama that is coming up", an_ollama_that_comes_up, "adopted", "theirs"),
    (
        "something else",
        a_stranger,
        "start.port_taken",
        "(pid {pid}). ss -ltnp sport = :{port}",
    ),
    ("one that hived started", ours_that_runs, "ours", "127.0.0.1:{port}"),
    ("one that an earlier hived started", ours_of_an_earlier_daemon, "ours", "127.0.0.1:{port}"),
    ("one that hived is starting", ours_that_is_starting, "ours", "127.0.0.1:{port}"),
    ("one that hived started, and that was ended", ours_that_was_ended, "started again", "127.0.0.1:{port}"),
]

STARTS = {"started": 1, "started again": 2, "ours": 1}
"""How often the program was run in all."""


DAILY = ("nobody, and `ollama` is there", "an Ollama that somebody started", "one that hived started")
"""Rows that start a process or wait for one, and are tried all the same with every run of the tests."""


def is_slow(who: str, did: str) -> bool:
    return not did.startswith("start.") and who not in DAILY


@pytest.mark.parametrize(
    ("who", "having", "did", "said"),
    [
        pytest.param(*row, id=row[0], marks=[pytest.mark.slow] if is_slow(row[0], row[2]) else [])
        for row in TABLE
    ],
)
def test_who_has_the_place_decides_what_hived_does(
    monkeypatch: pytest.MonkeyPatch, place: Place, who: str, having: Who, did: str, said: str
) -> None:
    with having(place):
        found, words = outcome(place)
        assert found == did.partition(" ")[0] or (found, did) == ("started", "ours"), f"{who}: {words}"
        assert said.format(port=place.port, pid=os.getpid()) in words
        assert len(place.program.starts) == STARTS.get(did, 0)
        assert {host for _, host in place.program.starts} <= {f"127.0.0.1:{place.port}"}


def outcome(place: Place) -> tuple[str, str]:
    """Return what came of a start in one word, and what was said of it."""
    try:
        begun = place.start()
    except HivedError as error:
        return error.code, f"{error.message} {error.hint}"
    if begun.adopted:
        assert begun.pid is None
        assert os.listdir(place.daemon.where.started) == []
        return "adopted", " ".join(begun.models)
    assert begun.pid == place.program.starts[-1][0]
    return "started", begun.url


def test_the_readme_has_the_table() -> None:
    lines = [line for line in readme().read_text().splitlines() if line.startswith("| ")]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert [who for who, *_ in TABLE if who not in rows] == []
