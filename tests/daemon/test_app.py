"""The daemon as a whole: its start, its end, its signals, on both event loops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from hived_client.doors.paths import Places
from hived_client.doors.sync import Client, Connection
from hived_client.errors import HivedError, Unavailable
from tests.daemon.running import (
    DEADLINE,
    Patient,
    Running,
    configure,
    llamacpp_at,
    wait_until,
    write_configuration,
)
from tests.servers.programs import VllmProgram
from tests.servers.strangers import Silent

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def urls(client: Client) -> list[str]:
    return [endpoint.url for endpoint in client.world().world.endpoints]


@BACKENDS
@pytest.mark.stress
def test_sigterm_lets_a_slow_request_finish_and_leaves_a_last_word(
    environment: dict[str, str], backend: str
) -> None:
    with Silent() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment, backend=backend) as daemon, Connection(daemon.where, 5.0) as idle:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "unreachable")
            idle.greet(5.0)
            told: list[object] = []

            def ask() -> None:
                try:
                    told.append(daemon.another().refresh())
                except HivedError as error:
                    told.append(error)

            asker = threading.Thread(target=ask)
            before = server.connections
            asker.start()
            wait_until(lambda: server.connections > before)
            daemon.process.send_signal(signal.SIGTERM)
            wait_until(lambda: daemon.events("daemon.stopping"))
            with pytest.raises(Unavailable):
                daemon.another().greet(timeout=1.0)
            asker.join(60.0)
            assert [type(answer) for answer in told] == [int]
            assert daemon.process.wait(60.0) == 0
            assert daemon.client.world().verdict == "stopped"
            assert not os.path.exists(daemon.where.socket)
            assert daemon.events("daemon.stopped")
            assert "Traceback" not in daemon.log


@BACKENDS
@pytest.mark.stress
def test_a_second_signal_ends_it_at_once(environment: dict[str, str], home: Path, backend: str) -> None:
    (home / "bin").mkdir()
    program = VllmProgram(home / "bin")
    program.hold()
    environment["PATH"] = f"{home / 'bin'}:{environment['PATH']}"
    configure(environment)
    with Running(environment, backend=backend) as daemon:
        # A start that never ends: without the second signal it is waited for.
        asker = threading.Thread(target=start_quietly, args=(daemon.another(),))
        asker.start()
        wait_until(lambda: program.starts)
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: daemon.events("daemon.stopping"))
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(DEADLINE) == 0, daemon.log
        asker.join(DEADLINE)
        assert daemon.events("daemon.killed")
        assert "Traceback" not in daemon.log
        wait_until(lambda: daemon.client.world().verdict in ("absent", "stopped"))


def start_quietly(client: Client) -> None:
    with contextlib.suppress(HivedError):
        list(client.start("vllm", model="org/tiny"))


@BACKENDS
def test_sighup_reloads_and_a_broken_file_keeps_the_last_good_one(
    environment: dict[str, str], backend: str
) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    with Running(environment, backend=backend) as daemon:
        client = daemon.client
        wait_until(lambda: urls(client) == ["http://127.0.0.1:9"])
        path = configure(environment, llamacpp_at("http://127.0.0.1:7"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: urls(client) == ["http://127.0.0.1:7"])
        path.write_text('{"providers": {\n  "llamacpp": {,}}}')
        for _ in range(3):
            daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: [p.code for p in client.world().world.problems][:1] == ["configuration.broken"])
        problem = client.world().world.problems[0]
        assert (problem.code, problem.fields["line"], problem.fields["column"]) == (
            "configuration.broken",
            2,
            16,
        )
        configuration = client.world().world.configuration
        assert configuration is not None
        assert configuration.state == "broken"
        assert urls(client) == ["http://127.0.0.1:7"]
        path.unlink()
        assert client.reload() > 0
        wait_until(lambda: client.world().world.configuration.state == "missing")  # type: ignore[union-attr]


@pytest.mark.stress
def test_a_change_of_the_file_is_seen_without_a_signal(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        configure(environment, llamacpp_at("http://127.0.0.1:7"))
        wait_until(lambda: urls(daemon.client) == ["http://127.0.0.1:7"])


STRANGE_FILES = {
    "half_a_character_in_a_name": r'{"providers": {"\ud800": {"api_base": "http://127.0.0.1:9"}}}',
    "half_a_character_in_a_url": r'{"providers": {"llamacpp": {"api_base": "http://127.0.0.1:9/\ud800"}}}',
    "half_a_character_in_like": r'{"providers": {"lab": {"like": "\ud800", "api_base": "http://a"}}}',
    "deep": '{"a":' * 100_000,
    "huge_number": '{"hived": {"log_level": ' + "9" * 5000 + "}}",
    "list": "[1]",
    "control_characters": r'{"providers": {"\u001b[2J": {"api_base": 1}, "ok": {"like": 5}}}',
    "names": json.dumps({"providers": {"x" * 70_000: {"api_base": "x" * 70_000}}}),
    "many": json.dumps(
        {
            "providers": {
                f"p{n}": {"like": "llamacpp", "api_base": f"http://127.0.0.1:{n + 1}"} for n in range(99)
            }
        }
    ),
    "not_utf8": "\udcff",
}


@pytest.mark.parametrize("content", STRANGE_FILES)
@pytest.mark.stress
def test_no_configuration_ends_the_daemon(environment: dict[str, str], content: str) -> None:
    write_configuration(environment, "{}").write_bytes(
        STRANGE_FILES[content].encode("utf-8", "surrogatepass")
    )
    with Running(environment) as daemon:
        assert daemon.client.refresh() > 0
        wait_until(lambda: daemon.client.world().world.configuration is not None)
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.log


def test_systemd_is_told(environment: dict[str, str], home: Path) -> None:
    configure(environment)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(home / "notify"))
        manager.settimeout(DEADLINE)
        environment |= {"NOTIFY_SOCKET": str(home / "notify"), "WATCHDOG_USEC": "1000000"}
        with Running(environment) as daemon:
            assert daemon.client.greet().managed_by == "systemd"
            daemon.process.send_signal(signal.SIGHUP)
            told: list[str] = []
            while "WATCHDOG=1" not in told or not any(word.startswith("RELOADING=1") for word in told):
                told.append(manager.recv(4096).decode())
            assert daemon.terminate() == 0
            while told[-1] != "STOPPING=1":
                told.append(manager.recv(4096).decode())
        assert next(word for word in told if not word.startswith("EXTEND_TIMEOUT_USEC=")) == "READY=1"
        assert told.index("READY=1", 1) > 0


@pytest.mark.stress
def test_a_reader_of_its_log_that_leaves_takes_nobody_with_it(environment: dict[str, str]) -> None:
    import subprocess
    import sys

    configure(environment)
    reader, writer = os.pipe()
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-m", "hived", "serve"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        start_new_session=True,
    )
    os.close(writer)
    try:
        os.read(reader, 1)
        os.close(reader)
        client = Patient(environment=environment)
        wait_until(lambda: client.world().verdict == "fresh")
        for port in (7, 9):
            configure(environment, llamacpp_at(f"http://127.0.0.1:{port}"))
            assert client.reload() > 0
            assert client.refresh() > 0
        client.close()
        daemon.terminate()
        assert daemon.wait(60.0) == 0
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.stress
def test_it_keeps_what_it_knew_until_it_has_looked(environment: dict[str, str], where: Places) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    with Running(environment) as daemon:
        wait_until(lambda: daemon.client.world().world.endpoints[0].state == "down")
        generation = daemon.client.world().world.generation
        assert daemon.terminate() == 0
        daemon.start()
        assert daemon.client.greet().generation >= generation
        assert os.path.exists(where.last_known)
