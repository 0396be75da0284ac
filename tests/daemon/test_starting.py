"""An Ollama that hived starts, keeps and stops, through a real daemon. The program is a fake."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hived.machine.ports import free_port
from hived_client.doors.aio import AsyncClient
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun, Progress
from hived_client.errors import HivedError, NotReady
from hived_client.vocabulary.world import Endpoint
from tests.cli.words import hived
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.servers.programs import OllamaProgram


class Place:
    """A home with an ``ollama`` on its PATH, and an address at which it is to be."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.bin = home / "bin"
        self.bin.mkdir()
        self.program = OllamaProgram(self.bin)
        self.environment = environment | {"PATH": f"{self.bin}:{environment['PATH']}"}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def configure(self, **more: object) -> None:
        configure(self.environment, {"ollama": {"api_base": self.url, **more}})

    @property
    def alive(self) -> list[int]:
        return [pid for pid, _ in self.program.starts if os.path.exists(f"/proc/{pid}/exe")]


@pytest.fixture
def place(home: Path, environment: dict[str, str]) -> Place:
    found = Place(home, environment)
    found.configure()
    return found


@pytest.fixture
def daemon(place: Place) -> Iterator[Running]:
    with Running(place.environment) as running:
        yield running


def start(client: Client, *, restart: bool = True) -> Begun:
    last = list(client.start("ollama", timeout=DEADLINE, restart=restart))[-1]
    assert isinstance(last, Begun)
    return last


def there(daemon: Running) -> Endpoint:
    return daemon.client.world().world.endpoints[0]


def test_two_who_ask_at_once_make_one_start(daemon: Running, place: Place) -> None:
    begun: list[Begun] = []
    threads = [threading.Thread(target=lambda: begun.append(start(daemon.another()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert len(begun) == 4
    assert [pid for pid, _ in place.program.starts] == [begun[0].pid]
    assert {(one.pid, one.adopted) for one in begun} == {(begun[0].pid, False)}
    process = there(daemon).process
    assert process is not None
    assert (process.pid, process.log) == (begun[0].pid, begun[0].log)
    assert os.path.exists(process.log)


@pytest.mark.slow
def test_it_outlives_its_daemon_is_found_again_and_stopped(daemon: Running, place: Place) -> None:
    pid = start(daemon.client).pid
    daemon.kill()
    assert place.alive == [pid]
    daemon.start()
    wait_until(lambda: there(daemon).state == "ready")
    assert start(daemon.client).pid == pid
    assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
    assert place.alive == []


def test_one_that_is_killed_comes_back_and_one_that_is_stopped_does_not(
    daemon: Running, place: Place
) -> None:
    first = start(daemon.client).pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(place.program.starts) == 2)
    wait_until(lambda: there(daemon).state == "ready")
    assert place.alive == [place.program.starts[1][0]]
    assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
    assert place.alive == []
    assert daemon.events("server.restarting")[-1]["count"] == 1
    second = start(daemon.client, restart=False).pid
    assert second is not None
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: there(daemon).state == "down")
    assert len(daemon.events("server.restarting")) == 1


@pytest.mark.slow
def test_a_kill_on_request_is_respected(daemon: Running, place: Place) -> None:
    pid = start(daemon.client).pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: there(daemon).state == "down")
    wait_until(lambda: daemon.events("server.ended"))
    assert daemon.events("server.restarting") == []


@pytest.mark.slow
def test_it_is_started_with_the_daemon_once_and_a_stop_is_respected(place: Place) -> None:
    place.configure(autostart=True)
    with Running(place.environment) as daemon:
        wait_until(lambda: there(daemon).state == "ready")
        assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
        daemon.client.reload()
        place.configure(autostart=True, num_ctx=4096)
        daemon.client.reload()
        assert daemon.terminate() == 0
        assert len(place.program.starts) == 1
        daemon.start()
        wait_until(lambda: len(place.alive) == 1)
        wait_until(lambda: there(daemon).state == "ready")


@pytest.mark.slow
def test_it_is_started_once_the_configuration_says_so(daemon: Running, place: Place) -> None:
    assert place.program.starts == []
    place.configure(autostart=True)
    daemon.client.reload()
    wait_until(lambda: there(daemon).state == "ready")
    assert len(place.program.starts) == 1


def test_an_autostart_that_fails_says_why_in_status(place: Place) -> None:
    place.program.break_down("could not create directory mkdir /root/.ollama: permission denied\n")
    place.configure(autostart=True)
    with Running(place.environment) as daemon:
        wait_until(lambda: there(daemon).reason is not None and there(daemon).reason.code == "start.ended")  # type: ignore[union-attr]
        reason = there(daemon).reason
        assert reason is not None
        assert "permission denied" in reason.message


def test_a_name_without_an_address_is_told_and_ends_nothing_else(place: Place) -> None:
    url = f"http://nobody.localhost:{place.port}"
    configure(place.environment, {"ollama": {"api_base": url, "autostart": True}})
    with Running(place.environment) as daemon:
        wait_until(lambda: daemon.events("autostart.failed"))
        said = hived(daemon.environment, "start", "ollama")
        assert said.code == 1
        assert f"is to be at {url}" in said.err
        place.configure()
        daemon.client.reload()
        assert start(daemon.client).pid in place.alive  # whoever starts servers has lived on
        assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
        assert daemon.events("service.crashed") == []


def test_a_question_starts_the_server_that_it_needs(daemon: Running, place: Place) -> None:
    wait_until(lambda: there(daemon).state == "down")
    with pytest.raises(NotReady):
        daemon.client.resolve("ollama/tiny")
    told: list[Progress] = []
    target = daemon.client.resolve("ollama/tiny", start=True, tell=told.append)
    assert target.api_base == place.url
    assert told
    assert len(place.program.starts) == 1
    assert daemon.client.resolve("ollama/tiny", start=True).api_base == place.url
    assert len(place.program.starts) == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_questions_on_an_event_loop_start_it_once(daemon: Running, place: Place, backend: str) -> None:
    wait_until(lambda: there(daemon).state == "down")
    found: list[str] = []

    async def ask() -> None:
        client = AsyncClient(daemon.where, environment=daemon.environment)
        found.append((await client.resolve("ollama/tiny", start=True)).api_base)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)

    anyio.run(main, backend=backend)
    assert found == [place.url] * 2
    assert len(place.program.starts) == 1


@pytest.mark.slow
def test_a_question_that_cannot_be_served_says_why_not(place: Place) -> None:
    configure(place.environment, {"ollama": {"api_base": place.url}})
    place.program.path.unlink()
    with Running(place.environment | {"PATH": str(place.bin)}) as daemon:
        wait_until(lambda: there(daemon).state == "down")
        with pytest.raises(NotReady) as caught:
            daemon.client.resolve("ollama/tiny", start=True)
        assert caught.value.code in ("start.not_installed", "start.owned")  # as this machine has it


@pytest.mark.slow
def test_what_a_kind_does_not_take_is_refused_and_its_aliases_are_known(
    daemon: Running, place: Place
) -> None:
    configure(
        daemon.environment,
        {"ollama": {"api_base": place.url}, "Box": {"like": "ollama", "api_base": place.url}},
    )
    daemon.client.reload()
    assert there(daemon).aliases == ("Box",)
    said = hived(daemon.environment, "start", "ollama", "--model", "tiny")
    assert said.code == 1
    assert "--model means nothing to Ollama" in said.err
    said = hived(daemon.environment, "start", "box")
    assert said.code == 0, said
    assert f"ollama is ready at {place.url}" in said.out
    assert hived(daemon.environment, "resolve", "--start", "box/tiny").code == 0
    said = hived(daemon.environment, "stop", "BOX")
    assert (said.code, said.out) == (0, "ollama has ended\n")


def test_what_is_adopted_is_said_and_not_stopped(daemon: Running, place: Place) -> None:
    from tests.servers.ollama import Ollama

    with Ollama(port=place.port):
        said = hived(daemon.environment, "start", "ollama")
        assert (said.code, said.out) == (0, f"ollama already runs at {place.url}; hived did not start it\n")
        with pytest.raises(HivedError) as caught:
            daemon.client.stop("ollama")
        assert caught.value.code == "stop.nothing"


@pytest.mark.slow
def test_it_listens_on_this_device_only_whatever_the_variable_says(place: Place) -> None:
    environment = place.environment | {"OLLAMA_HOST": f"0.0.0.0:{place.port}"}
    configure(environment)
    with Running(environment) as daemon:
        wait_until(lambda: there(daemon).state == "down")
        said = hived(environment, "start", "ollama")
        assert said.code == 0, said
        assert f"listens at 127.0.0.1:{place.port} only" in said.err
        assert [host for _, host in place.program.starts] == [f"127.0.0.1:{place.port}"]
        assert daemon.client.stop("ollama").endpoints == {"ollama": "terminated"}
