"""Starting and stopping real servers through a real daemon: one of each, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from hived.machine.ports import free_port
from hived_client.doors.paths import Places
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun, Progress
from hived_client.errors import HivedError, NotReady
from tests.daemon.running import DEADLINE, Running, configure, llamacpp_at, mentioning, wait_until
from tests.servers.llamacpp import speaking_model


@pytest.fixture
def daemon(environment: dict[str, str]) -> Iterator[Running]:
    configure(environment)
    with Running(environment) as running:
        yield running


def begin(client: Client, model: object, **options: int | str | float | None) -> Begun:
    steps = list(client.start("llamacpp", model=str(model), **options))  # type: ignore[arg-type]
    assert all(isinstance(step, Progress) for step in steps[:-1])
    assert isinstance(steps[-1], Begun)
    return steps[-1]


def pid_of(begun: Begun) -> int:
    assert begun.pid is not None
    return begun.pid


def servers(daemon: Running) -> list[int]:
    """Return the model servers below this home."""
    found = []
    for pid in mentioning(f"HOME={daemon.environment['HOME']}"):
        try:
            if b"--port" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def test_two_that_start_the_same_model_get_one_process_and_stop_ends_it(daemon: Running) -> None:
    begun: list[Begun] = []
    model = speaking_model()
    threads = [
        threading.Thread(target=lambda: begun.append(begin(daemon.another(), model))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert len({one.pid for one in begun}) == 1
    assert len(begun) == 4
    assert servers(daemon) == [begun[0].pid]
    assert daemon.client.resolve("llamacpp/tiny-agent").api_base == f"{begun[0].url}/v1"
    assert daemon.client.stop("llamacpp").endpoints == {begun[0].endpoint: "terminated"}
    assert servers(daemon) == []
    assert os.listdir(daemon.where.started) == []
    wait_until(lambda: daemon.client.world().world.endpoints == ())


@pytest.mark.stress
def test_a_server_outlives_its_daemon_and_the_next_one_finds_it(daemon: Running) -> None:
    begun = begin(daemon.client, speaking_model())
    assert daemon.terminate() == 0
    assert servers(daemon) == [begun.pid]
    daemon.start()
    wait_until(lambda: [e.state for e in daemon.client.world().world.endpoints] == ["ready"])
    assert begin(daemon.client, speaking_model()).pid == begun.pid
    daemon.kill()
    daemon.start()
    os.kill(pid_of(begun), signal.SIGSTOP)
    assert daemon.client.stop(begun.endpoint, grace=DEADLINE).endpoints == {begun.endpoint: "terminated"}
    wait_until(lambda: servers(daemon) == [])


@pytest.mark.stress
def test_a_server_that_a_signal_without_a_name_killed_is_down_and_not_believed(daemon: Running) -> None:
    begun = begin(daemon.client, speaking_model(), restart=False)
    os.kill(pid_of(begun), 40)  # a real-time signal
    client = daemon.client
    wait_until(lambda: [e.state for e in client.world().world.endpoints] == ["down"])
    with pytest.raises(NotReady) as error:
        client.resolve("llamacpp/tiny-agent")
    assert "killed by signal 40" in error.value.message


@pytest.mark.stress
def test_a_server_that_dies_says_why_and_can_be_started_again(daemon: Running) -> None:
    begun = begin(daemon.client, speaking_model(), restart=False)
    os.kill(pid_of(begun), signal.SIGKILL)
    client = daemon.client
    wait_until(lambda: [e.state for e in client.world().world.endpoints] == ["down"])
    reason = client.world().world.endpoints[0].reason
    assert reason is not None
    assert reason.code == "server.ended"
    wait_until(lambda: "SIGKILL" in (client.world().world.endpoints[0].reason or reason).message)
    assert f"hived start llamacpp --model {speaking_model()}" in reason.hint
    again = begin(client, speaking_model())
    assert again.pid != begun.pid
    assert len(os.listdir(daemon.where.started)) == 1
    wait_until(lambda: len(client.world().world.endpoints) == 1)


def test_what_cannot_be_started_is_named_and_leaves_nothing(daemon: Running, home: Path) -> None:
    good = speaking_model().read_bytes()
    (home / "empty.gguf").write_bytes(b"")
    (home / "text.gguf").write_bytes(b"this is no model")
    (home / "short.gguf").write_bytes(good[:5000])
    (home / "half.gguf").write_bytes(good[: len(good) // 2])
    (home / "corrupt.gguf").write_bytes(good[:24] + os.urandom(200) + good[224:])
    (home / "folder.gguf").mkdir()
    os.mkfifo(home / "fifo.gguf")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases: list[tuple[str, dict[str, int | str | float | None], tuple[str, ...]]] = [
            ("missing.gguf", {}, ("start.no_file",)),
            ("empty.gguf", {}, ("start.not_gguf",)),
            ("text.gguf", {}, ("start.not_gguf",)),
            ("short.gguf", {}, ("start.ended",)),
            ("half.gguf", {}, ("start.ended",)),
            ("corrupt.gguf", {}, ("start.ended", "start.not_gguf")),
            ("folder.gguf", {}, ("start.not_gguf",)),
            ("fifo.gguf", {}, ("start.not_gguf",)),
            (str(speaking_model()), {"port": port}, ("start.port_taken",)),
            (str(speaking_model()), {"port": 99_999}, ("params.invalid",)),
        ]
        for model, options, codes in cases:
            with pytest.raises(HivedError) as caught:
                begin(daemon.client, home / model, timeout=DEADLINE, **options)
            assert caught.value.code in codes, (model, caught.value)
            assert caught.value.hint
            assert servers(daemon) == []
            assert os.listdir(daemon.where.started) == []
    for provider in ("openai_compatible", "nobody", "", "../llamacpp"):
        with pytest.raises(HivedError) as caught:
            list(daemon.client.start(provider, model=str(speaking_model())))
        assert caught.value.code == "start.unsupported"
    assert daemon.client.world().world.endpoints == ()
    assert "Traceback" not in daemon.log
    with pytest.raises(HivedError) as caught:
        daemon.client.stop("llamacpp")
    assert caught.value.code == "stop.nothing"


@pytest.mark.stress
def test_two_that_start_the_same_broken_model_are_both_told(daemon: Running, home: Path) -> None:
    broken = home / "half.gguf"
    broken.write_bytes(speaking_model().read_bytes()[:9000])
    codes: list[str] = []

    def ask() -> None:
        try:
            begin(daemon.another(), broken, timeout=DEADLINE)
        except HivedError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert codes == ["start.ended"] * 3
    assert servers(daemon) == []


@pytest.mark.stress
def test_a_server_on_an_address_that_the_configuration_names_is_ready_and_ours(daemon: Running) -> None:
    port = free_port("127.0.0.1")
    configure(daemon.environment, {"Lab": {"like": "llamacpp", "api_base": f"http://127.0.0.1:{port}"}})
    daemon.client.reload()
    begun = begin(daemon.client, speaking_model(), port=port, timeout=DEADLINE, restart=False)
    assert daemon.client.resolve("lab/tiny-agent").api_base == f"{begun.url}/v1"
    os.kill(pid_of(begun), signal.SIGKILL)
    wait_until(lambda: daemon.client.world().world.endpoints[0].state == "down")
    reason = daemon.client.world().world.endpoints[0].reason
    assert reason is not None
    assert reason.code == "server.ended"
    assert daemon.client.stop("Lab").endpoints == {begun.endpoint: "gone"}


@pytest.mark.stress
def test_what_is_not_ours_is_not_stopped(environment: dict[str, str], where: Places) -> None:
    from tests.servers.llamacpp import LlamaCpp

    with LlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: [e.state for e in daemon.client.world().world.endpoints] == ["ready"])
            for name in ("llamacpp", f"llamacpp-{server.port}", "LLAMACPP"):
                with pytest.raises(HivedError) as caught:
                    daemon.client.stop(name)
                assert caught.value.code in ("stop.nothing", "stop.not_ours")
            assert server.get_status("/health") == 200


def test_who_leaves_during_a_start_leaves_a_server_that_is_known(daemon: Running) -> None:
    from hived_client.doors.sync import Connection
    from hived_client.doors.wire import StartParams

    with Connection(daemon.where, DEADLINE) as connection:
        steps = connection.stream(
            "start", StartParams(provider="llamacpp", model=str(speaking_model())), DEADLINE
        )
        assert next(steps).event == "progress"
    wait_until(lambda: daemon.client.statistics()["jobs"]["started"])
    wait_until(lambda: [e.state for e in daemon.client.world().world.endpoints] == ["ready"])
    assert list(daemon.client.stop("llamacpp").endpoints.values()) == ["terminated"]
