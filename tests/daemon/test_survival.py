"""What a daemon survives, and what its clients see meanwhile: real processes, sockets and servers."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hived.machine.processes import Identity, identify
from hived.machine.records import Records, Started
from hived_client.doors.launch import ensure_running
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client, Connection
from hived_client.doors.wire import Nothing
from hived_client.errors import HivedError, NotReady
from hived_client.vocabulary.world import Endpoint
from tests.daemon.running import (
    DEADLINE,
    Running,
    configure,
    llamacpp_at,
    mentioning,
    serving,
    wait_prompt,
    wait_until,
)
from tests.servers.strangers import AnswersEverything, Silent

ROOT = os.getuid() == 0
MODEL = "llamacpp/tiny-agent"


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Print the times that were measured, after the test."""
    lines: list[str] = []
    yield lines
    print("\n".join(lines))


def state_of(client: Client, name: str = "llamacpp") -> str:
    found = [endpoint for endpoint in client.world().world.endpoints if endpoint.name == name]
    return found[0].state if found else "none"


def endpoint_of(client: Client, name: str = "llamacpp") -> Endpoint:
    return next(endpoint for endpoint in client.world().world.endpoints if endpoint.name == name)


def since(begun: float) -> float:
    return time.monotonic() - begun


def speaking() -> str:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from tests.servers.llamacpp import speaking_model

    return str(speaking_model())


# The daemon is killed


@pytest.mark.stress
def test_the_absence_of_a_daemon_is_seen_within_two_seconds_whatever_the_clock_says(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    real = time.time
    took: list[float] = []
    with Running(environment) as daemon:
        while not took or (took[-1] >= 2.0 and len(took) < 10):  # a machine that is busy is late, too
            if took:
                daemon.start()
            for shift in (0.0, -1e6, 1e6, -real()):
                monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
                wait_until(lambda: daemon.client.world().verdict == "fresh")
            daemon.kill()
            begun = time.monotonic()
            for shift in (1e6, -1e6, 0.0):
                monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
                wait_until(lambda: daemon.client.world().verdict == "absent")
            took.append(since(begun))
        told.append(f"absence seen after {took[-1]:.3f} s")
        assert took[-1] < 2.0, took
        with pytest.raises(NotReady):
            daemon.client.resolve("llamacpp/x")


def test_a_daemon_that_was_killed_leaves_nothing_in_the_way(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        first = daemon.client.greet()
        daemon.kill()
        assert Path(daemon.where.socket).exists()
        daemon.start()
        assert daemon.client.greet().daemon_id != first.daemon_id
        wait_until(lambda: daemon.client.world().world.daemon is not None)
        wait_until(lambda: daemon.client.world().verdict == "fresh")
        assert daemon.terminate() == 0
        assert not Path(daemon.where.socket).exists()
        assert daemon.client.world().verdict == "stopped"
        assert sorted(os.listdir(daemon.where.folder)) == ["beat", "lock", "snapshot"]


@pytest.mark.stress
def test_kill_9_while_it_starts_a_server(environment: dict[str, str]) -> None:
    model = speaking()
    configure(environment)
    daemon = Running(environment, wait=False)
    chance = random.Random(3)
    try:
        for _ in range(8):
            daemon.start()
            daemon.wait_ready()

            def ask() -> None:
                with contextlib.suppress(HivedError):
                    for _ in daemon.another().start("llamacpp", model=model, timeout=DEADLINE):
                        pass

            asker = threading.Thread(target=ask)
            asker.start()
            time.sleep(chance.uniform(0.0, 0.35))  # the moment of the kill, by chance
            daemon.kill()
            asker.join(60.0)
            assert not asker.is_alive()
            home = f"HOME={environment['HOME']}"
            servers = [pid for pid in mentioning(home) if "--port" in command_of(pid)]
            daemon.start()
            daemon.wait_ready()
            names = daemon.client.statistics()["jobs"]["started"]
            alive = [pid for pid in servers if "--port" in command_of(pid)]
            assert len(alive) <= len(names) <= 1, (names, servers, daemon.log[-2000:])
            if names:
                assert set(daemon.client.stop("llamacpp").endpoints.values()) <= {
                    "terminated",
                    "killed",
                    "gone",
                }
                assert [pid for pid in alive if "--port" in command_of(pid)] == []
            daemon.kill()
    finally:
        daemon.close()


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


# The model server is killed, hangs, comes back, is replaced


@pytest.mark.stress
def test_a_server_that_is_killed_hangs_comes_back_or_is_replaced_is_told_in_time(
    environment: dict[str, str], told: list[str]
) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from tests.servers.llamacpp import LlamaCpp

    with LlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            client = daemon.client

            def wait_state(state: str) -> None:
                begun = time.monotonic()
                wait_until(lambda: state_of(client) == state, lambda: state_of(client))
                told.append(f"{state} told after {since(begun) * 1000:.0f} ms")

            wait_state("ready")
            assert client.resolve(MODEL).api_base == f"{server.url}/v1"
            wait_until(lambda: client.statistics()["monitors"]["llamacpp"]["watched"])
            server.stop_process()
            wait_state("unreachable")
            with pytest.raises(NotReady) as hung:
                client.resolve(MODEL)
            assert hung.value.code == "server.silent"
            server.continue_process()
            wait_state("ready")
            for _ in range(3):
                server.kill()
                wait_state("down")
                with pytest.raises(NotReady):
                    client.resolve(MODEL)
                server.start()
                wait_state("ready")
            server.restart()
            wait_state("ready")
            assert client.resolve(MODEL).endpoint == "llamacpp"
            server.kill()
            with AnswersEverything(port=server.port):
                wait_state("wrong_server")
                with pytest.raises(NotReady) as wrong:
                    client.resolve(MODEL)
                assert wrong.value.code == "server.wrong"
            wait_state("down")


# The daemon hangs


@pytest.mark.stress
def test_a_daemon_that_hangs_keeps_nobody_waiting(environment: dict[str, str]) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from tests.servers.llamacpp import LlamaCpp

    with LlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: state_of(daemon.client) == "ready")
            daemon.hold()
            wait_until(lambda: daemon.client.world().verdict == "lagging")

            def ask() -> None:
                target = daemon.client.resolve(MODEL, fresh=True, timeout=0.25)
                assert [warning.code for warning in target.warnings] == ["daemon.unresponsive"]

            def call(act: Callable[..., object]) -> None:
                with pytest.raises(HivedError) as caught:
                    act(timeout=0.3)
                assert caught.value.code == "daemon.unresponsive"

            wait_prompt(ask, 1.0)
            for act in (daemon.client.greet, daemon.client.statistics, daemon.client.refresh):
                wait_prompt(functools.partial(call, act), 1.5)
            done = subprocess.run(
                [sys.executable, "-P", "-m", "hived", "status"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            assert "busy" in done.stdout or "unresponsive" in done.stdout
            daemon.go_on()
            wait_until(lambda: daemon.client.world().verdict == "fresh")
            assert daemon.client.resolve(MODEL, fresh=True).warnings == ()


# Its folder


def test_a_runtime_path_of_120_characters_gets_a_short_socket(
    environment: dict[str, str], home: Path
) -> None:
    environment["HIVED_RUNTIME_DIR"] = str(home / ("d" * (119 - len(str(home)))))
    assert len(environment["HIVED_RUNTIME_DIR"]) == 120
    configure(environment)
    with Running(environment) as daemon:
        assert len(daemon.where.socket) < 60
        assert daemon.client.refresh() > 0
        wait_until(lambda: daemon.client.world().verdict == "fresh")
        assert daemon.terminate() == 0
    os.rmdir(os.path.dirname(daemon.where.socket))


def refused(environment: dict[str, str]) -> str:
    """Run a daemon that must not run, and return the sentence that it ends with."""
    daemon = Running(environment, wait=False)
    daemon.start()
    assert daemon.process.wait(DEADLINE) == 78, daemon.log
    assert "Traceback" not in daemon.log
    return str(daemon.events("daemon.failed")[0]["why"])


@pytest.mark.parametrize("which", ["runtime", "folder"])
@pytest.mark.stress
def test_a_runtime_folder_that_others_can_write_is_refused(
    environment: dict[str, str], where: Places, which: str
) -> None:
    configure(environment)
    os.makedirs(where.folder, 0o700)
    os.chmod(getattr(where, which), 0o777)
    assert "others may write to it" in refused(environment)
    with pytest.raises(HivedError) as caught:
        ensure_running(where, timeout=DEADLINE)
    assert caught.value.code == "runtime.unsafe"


@pytest.mark.skipif(not ROOT, reason="only root can give a folder away")
@pytest.mark.parametrize("which", ["runtime", "folder"])
def test_a_runtime_folder_of_somebody_else_is_refused(
    environment: dict[str, str], where: Places, which: str
) -> None:
    configure(environment)
    os.makedirs(where.folder, 0o700)
    os.chown(getattr(where, which), 65_534, 65_534)
    assert "it belongs to user 65534" in refused(environment)


@pytest.mark.parametrize("obstacle", ["runtime_is_a_file", "lock_is_a_folder", "lock_is_a_link"])
@pytest.mark.stress
def test_what_lies_in_the_way_is_named(environment: dict[str, str], where: Places, obstacle: str) -> None:
    configure(environment)
    os.makedirs(where.folder, 0o700)
    if obstacle == "runtime_is_a_file":
        shutil.rmtree(where.runtime)
        Path(where.runtime).write_text("")
    elif obstacle == "lock_is_a_folder":
        os.mkdir(where.lock)
    else:
        os.symlink("/etc/passwd", where.lock)
    assert where.runtime in refused(environment)


@pytest.mark.stress
def test_a_folder_that_disappears_comes_back(
    environment: dict[str, str], where: Places, told: list[str]
) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    with Running(environment) as daemon, Connection(where, DEADLINE) as kept:
        daemon_id = kept.greet(DEADLINE).daemon_id

        def comes_back() -> bool:
            try:
                greeting = daemon.another().greet(timeout=1.0)
            except HivedError:
                return False
            return greeting.daemon_id == daemon_id and daemon.another().world().verdict == "fresh"

        def is_whole() -> bool:
            return os.path.isdir(where.folder) and sorted(os.listdir(where.folder)) == WHOLE

        losses: dict[str, Callable[[], object]] = {
            "folder": lambda: shutil.rmtree(where.folder),
            "runtime": lambda: shutil.rmtree(where.runtime),
            "lock": lambda: os.unlink(where.lock),
            "socket": lambda: os.unlink(where.socket),
            "beat": lambda: os.unlink(where.beat),
            "snapshot": lambda: os.unlink(where.snapshot),
        }
        for name, lose in losses.items():
            lose()
            begun = time.monotonic()
            wait_until(is_whole)
            wait_until(comes_back, lambda: daemon.log[-2000:])
            told.append(f"{name} back after {since(begun):.2f} s")
        kept.call("statistics", Nothing(), dict[str, object], DEADLINE)
        assert "Traceback" not in daemon.log


WHOLE = ["beat", "hived.sock", "lock", "snapshot"]


@pytest.mark.stress
def test_of_two_daemons_in_a_recreated_folder_one_survives(
    environment: dict[str, str], where: Places
) -> None:
    configure(environment)
    with Running(environment) as first, Running(environment, wait=False) as unused:
        unused.close()
        shutil.rmtree(where.runtime)
        with Running(environment) as second:
            assert first.process.wait(60.0) == 0, first.log
            assert serving(environment) == [second.pid]
            wait_until(lambda: second.client.world().verdict == "fresh")
            known = second.client.world()
            assert known.world.daemon is not None
            assert known.world.daemon.pid == second.pid, (
                "the last word of the first hid the second's snapshot"
            )
            assert second.client.greet().pid == second.pid


@pytest.mark.stress
def test_a_second_daemon_ends_with_75_and_harms_nobody(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        second = Running(environment, wait=False)
        second.start()
        assert second.process.wait(60.0) == 75
        assert daemon.client.greet().pid == daemon.pid


# Its files


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.stress
def test_damaged_files_are_never_believed_and_never_raise(environment: dict[str, str], alive: bool) -> None:
    with Silent() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: state_of(daemon.client) == "unreachable")
            if not alive:
                daemon.kill()
            chance = random.Random(5)
            whole = {path: Path(path).read_bytes() for path in (daemon.where.snapshot, daemon.where.beat)}
            for path, good in whole.items():
                damaged = [good[:size] for size in (0, 1, 63, 64, len(good) // 2, len(good) - 1)]
                damaged += [flipped(good, chance) for _ in range(30)]
                damaged += [good[:4] + b"\xff\x7f" + good[6:], good + b"x", b"\0" * len(good)]
                for data in damaged:
                    Path(path).write_bytes(data)
                    client = daemon.another()
                    assert client.world().verdict in ("fresh", "lagging", "stale", "absent", "foreign")
                    assert codes_of(client)[0] in (DOUBTS if alive else ALONE)
                    client.close()
                Path(path).write_bytes(good)


DOUBTS = {"server.silent", "server.unreachable", "deadline", "daemon.unresponsive"}
"""What is said of a server that accepts and is silent, by a daemon or by who waits for it in vain."""
ALONE = {"daemon.absent", "server.down"}
"""And without one: that it accepts, or, where its address is not known, that none is at the usual one."""


def codes_of(client: Client) -> list[str]:
    try:
        return [warning.code for warning in client.resolve("llamacpp/x", timeout=0.05).warnings]
    except NotReady as no:
        return [no.code]


def flipped(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


@pytest.mark.stress
def test_a_last_known_world_that_is_damaged_is_put_aside(environment: dict[str, str], where: Places) -> None:
    configure(environment)
    for data in (b"", b"HIVE", os.urandom(500)):
        os.makedirs(where.state, 0o700, exist_ok=True)
        Path(where.last_known).write_bytes(data)
        with Running(environment) as daemon:
            assert Path(f"{where.last_known}.corrupt").read_bytes() == data
            assert daemon.terminate() == 0


# What it never holds and never says


@pytest.mark.stress
def test_the_daemon_never_imports_litellm(environment: dict[str, str]) -> None:
    code = (
        "import sys, hived.daemon.app, hived.cli.serve, hived_client.doors.aio;"
        "bad = {'litellm', 'openai', 'gguf', 'numpy', 'xllamacpp'} & set(sys.modules); print(sorted(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    configure(environment)
    with Running(environment) as daemon:
        daemon.client.refresh()
        with contextlib.suppress(HivedError):
            daemon.client.resolve("llamacpp/x", fresh=True)
        maps = Path(f"/proc/{daemon.pid}/maps").read_text()
        assert not [word for word in ("litellm", "numpy", "pydantic_core", "xllamacpp") if word in maps]


@pytest.mark.stress
def test_no_secret_is_written_said_or_shown(environment: dict[str, str], home: Path) -> None:
    from tests.servers.llamacpp_replies import json_reply
    from tests.servers.loopback import HttpLoopback, Reply, Request

    secret, other = "sk-SECRET-4711-xyz", "hunter2-SECRET"

    class Locked(HttpLoopback):
        def answer(self, request: Request) -> Reply:
            keys.append(request.headers.get("authorization", ""))
            if request.path == "/health":
                return json_reply(request, {"status": "ok"})
            if request.headers.get("authorization") != f"Bearer {secret}":
                body = b'{"error":{"message":"Invalid API Key","code":401}}'
                headers = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
                return Reply(status=401, headers=(*headers, ("Server", "llama.cpp")), body=body)
            return json_reply(request, {"object": "list", "data": [{"id": "m"}]})

    keys: list[str] = []
    said: list[str] = []
    environment["LAB_KEY"] = secret
    with Locked() as server:
        configure(
            environment,
            {
                "lab": {"like": "llamacpp", "api_base": server.url, "api_key_env_var": "LAB_KEY"},
                "leaky": {"like": "llamacpp", "api_base": f"http://user:{other}@127.0.0.1:9/v1"},
                "wrong": {"like": "llamacpp", "api_base": server.url, "api_key_env_var": secret},
                "off": {"like": "llamacpp", "api_base": f"http://127.0.0.1:7/?key={other}"},
            },
        )
        with Running(environment) as daemon:
            daemon.client.refresh()
            wait_until(lambda: any(secret in key for key in keys))
            daemon.process.send_signal(signal.SIGHUP)
            for words in (
                ["status"],
                ["status", "--json"],
                ["resolve", "lab/m"],
                ["resolve", "lab/m", "--json", "--fresh"],
                ["resolve", "leaky/m"],
                ["resolve", "off/m", "--json"],
                ["start", "llamacpp", "--model", "/nowhere", "--", "--api-key", secret],
                ["start", "llamacpp", "--model", "/nowhere", "--", f"--api-key={secret}"],
                ["stop", "lab"],
            ):
                done = subprocess.run(
                    [sys.executable, "-P", "-m", "hived", *words],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                said.append(done.stdout + done.stderr)
            said.append(repr(daemon.client.statistics()))
            said.append(repr(daemon.client.world()))
            assert daemon.terminate() == 0
            said.append(daemon.log)
    for path in home.rglob("*"):
        if path.is_file() and path.name != "configuration.json":
            said.append(path.read_bytes().decode("latin-1"))
    assert [text for text in said if secret in text] == []
    assert [text for text in said if other in text] == []


# A process number that is somebody else's by now


def test_a_process_that_got_the_number_of_an_old_server_is_never_ended(
    environment: dict[str, str], where: Places
) -> None:
    configure(environment)
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            mine = identify(bystander.pid)
            assert mine is not None
            forged = [
                Identity(pid=mine.pid, started=mine.started - 100.0, boot=mine.boot),
                Identity(pid=mine.pid, started=mine.started, boot="another boot"),
                Identity(pid=2**22 + 5, started=1.0, boot=mine.boot),
            ]
            for number, identity in enumerate(forged):
                Records(Path(where.started)).write(
                    Started(
                        endpoint=f"llamacpp-{number + 1}",
                        provider="llamacpp",
                        url=f"http://127.0.0.1:{number + 1}",
                        identity=identity,
                        argv=("llama-server",),
                        model="/m.gguf",
                        alias="m",
                        log="/nowhere",
                        started_at=time.time(),
                    )
                )
            with Running(environment) as daemon:
                wait_until(lambda: state_of(daemon.client, "llamacpp-1") == "down")
                assert daemon.client.stop("llamacpp", everything=True, grace=0.2).endpoints == {
                    f"llamacpp-{number}": "gone" for number in (1, 2, 3)
                }
                assert bystander.poll() is None
                assert os.listdir(where.started) == []
        finally:
            bystander.kill()


def test_the_places_are_those_of_the_environment(environment: dict[str, str], where: Places) -> None:
    assert places(environment) == where
