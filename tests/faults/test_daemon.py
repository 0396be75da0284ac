"""The daemon is not there, is another one, does not answer, or cannot write."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from hived.daemon.claim import claim_state
from hived.daemon.instance import Instance
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.client.conversations import silent
from tests.client.fake_daemon import fake_daemon
from tests.client.publishing import publish, young
from tests.daemon.running import DEADLINE, Running, configure, llamacpp_at, wait_until
from tests.daemon.small_disk import OnSmallDisk
from tests.faults.asking import Shared, at, one, problem, raised, refusal, resolved, settled, warning
from tests.faults.provoking import provokes
from tests.servers.strangers import LyingLlamaCpp

BEGIN = """
import msgspec, hived_client
try:
    hived_client.ensure_running(timeout=60.0)
except hived_client.HivedError as error:
    print(msgspec.json.encode(error.fault).decode())
"""
"""What a program does that needs the daemon, and prints why there is none."""


@pytest.fixture
def left(home: Path) -> Iterator[Client]:
    """A client of a daemon that has seen a llama.cpp server and is no more; the server goes on."""
    with LyingLlamaCpp() as server, settled(home) as daemon:
        client = Shared(daemon).expecting({"llamacpp": at(server.url)})
        resolved(client, "llamacpp/m")
        assert daemon.terminate() == 0
        yield daemon.another()


@pytest.fixture
def nobody(environment: dict[str, str]) -> Iterator[Client]:
    """A client in a home where there never was a daemon."""
    with contextlib.closing(Client(places(environment), environment=environment)) as client:
        yield client


def begun_elsewhere(environment: Mapping[str, str], folder: Path, **variables: str) -> Fault:
    """Let a program begin the daemon with a folder before all others on its path; return why it cannot."""
    path = f"{folder}{os.pathsep}{environment['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-c", BEGIN],
        env={**environment, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return msgspec.convert(json.loads(done.stdout), Fault)


@provokes("daemon.absent", "the daemon has ended, and its server goes on")
def test_absent(left: Client) -> Fault:
    return warning("daemon.absent", resolved(left, "llamacpp/m"))


@provokes("model.unwatched", "the daemon has ended, and the question is private")
def test_nobody_watches(left: Client) -> Fault:
    return refusal(left, "llamacpp/m", private=True)


@provokes("model.unverified", "the daemon has ended, and nobody has ever seen the model")
def test_unverified(left: Client) -> Fault:
    return warning("model.unverified", resolved(left, "llamacpp/new"))


@provokes("facts.none", "there never was a daemon, and something listens at a default port")
def test_no_facts(nobody: Client) -> Fault:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 1234)):
        return warning("facts.none", resolved(nobody, "lm_studio/any"))
    return warning("facts.none", resolved(nobody, "lm_studio/any"))  # somebody listens there anyway


@provokes("facts.old", "the daemon hangs, and its last look was 100 s ago")
def test_old_facts(where: Places) -> Fault:
    model = Model(name="m", state="loaded")
    endpoint = Endpoint(
        name="lab",
        provider="vllm",
        url="http://127.0.0.1:9",
        source="configuration",
        state="ready",
        models=(model,),
        slot=0,
    )
    publish(where, World(generation=1, endpoints=(endpoint,)), slots=young(ago=100.0))
    with fake_daemon(where, resolve=silent), contextlib.closing(Client(where)) as client:
        return warning("facts.old", client.resolve("lab/m", timeout=0.2))


@provokes("daemon.not_running", "a request without a daemon")
def test_not_running(nobody: Client) -> Fault:
    return raised(nobody.refresh)


@provokes("daemon.unresponsive", "the daemon is stopped (SIGSTOP)")
def test_unresponsive(shared: Shared) -> Fault:
    shared.daemon.hold()
    try:
        return raised(functools.partial(shared.daemon.another().refresh, timeout=0.2))
    finally:
        shared.daemon.go_on()


@provokes("daemon.unresponsive", "the daemon is stopped, and the files have an answer all the same")
def test_unresponsive_with_an_answer(shared: Shared) -> Fault:
    with LyingLlamaCpp() as server:
        client = shared.expecting({"llamacpp": at(server.url)})
        resolved(client, "llamacpp/m")
        shared.daemon.hold()
        try:
            target: Target = client.resolve("llamacpp/m", fresh=True, timeout=0.2)
        finally:
            shared.daemon.go_on()
        return one("daemon.unresponsive", target.warnings)


@provokes("daemon.not_installed", "a Python with the client only, and no hived on PATH")
def test_not_installed(environment: dict[str, str], tmp_path: Path) -> Fault:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['hived'] = None\n")
    return begun_elsewhere(environment, tmp_path, PATH=str(tmp_path))


@provokes("daemon.start_failed", "one of its libraries is broken")
def test_broken_installation(environment: dict[str, str], tmp_path: Path) -> Fault:
    (tmp_path / "structlog.py").write_text("raise ImportError('half installed')\n")
    return begun_elsewhere(environment, tmp_path)


@provokes("daemon.already_running", "a second daemon in the same home")
def test_a_second_one(shared: Shared) -> Fault:
    return raised(Instance(shared.daemon.where).acquire)


@provokes("state.taken", "a second daemon with the same state folder and another runtime folder")
def test_a_second_one_elsewhere(shared: Shared) -> Fault:
    return raised(lambda: claim_state(msgspec.structs.replace(shared.daemon.where, runtime="/elsewhere")))


@provokes("daemon.other_version", "a daemon that was started before an upgrade")
def test_older_daemon(environment: dict[str, str], tmp_path: Path) -> Fault:
    older = "import hived_client._version as v; v.__version__ = '0.0.1'\n"
    (tmp_path / "sitecustomize.py").write_text(older)
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    configure(environment)
    with Running(environment) as daemon:
        return problem("daemon.other_version", daemon.client)


@provokes("draining", "the daemon ends while somebody listens to its events")
def test_it_ends(environment: dict[str, str]) -> Fault:
    configure(environment)
    told: list[Fault] = []

    def listen(client: Client) -> None:
        try:
            for _ in client.events():
                pass
        except HivedError as error:
            told.append(error.fault)

    with Running(environment) as daemon:
        listener = threading.Thread(target=listen, args=(daemon.another(),))
        listener.start()
        wait_until(lambda: daemon.client.statistics()["store"]["subscribers"])
        daemon.terminate()
        listener.join(60.0)
    return told[0]


@provokes("disk.full", "the disk of the state folder is full")
def test_full_state(environment: dict[str, str], where: Places, may_mount: None, unused_port: int) -> Fault:
    configure(environment)
    with OnSmallDisk(environment, where.state, 64) as daemon:
        daemon.wait_ready()
        daemon.fill()
        configure(environment, llamacpp_at(f"http://127.0.0.1:{unused_port}"))
        return problem("disk.full", daemon.client)


@provokes("disk.full", "the disk of the runtime folder is full")
def test_full_runtime(environment: dict[str, str], where: Places, may_mount: None, unused_port: int) -> Fault:
    configure(environment)
    with OnSmallDisk(environment, where.runtime, 64) as daemon:
        outside = places(environment | {"HIVED_RUNTIME_DIR": daemon.seen("").rstrip("/")})
        with contextlib.closing(Client(outside)) as client:
            wait_until(lambda: client.running, lambda: daemon.log)
            daemon.fill()
            configure(environment, llamacpp_at(f"http://127.0.0.1:{unused_port}"))
            return problem("disk.full", client)
