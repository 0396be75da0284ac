"""``hived status --watch``: on a real terminal, through a restart, and given back as it was."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.words import hived
from tests.daemon.running import DEADLINE, Running, configure, llamacpp_at, wait_until
from tests.servers.loopback import json_bytes
from tests.servers.strangers import LyingLlamaCpp
from tests.servers.vllm import Vllm

STATUS = [sys.executable, "-P", "-m", "hived", "status", "--watch"]
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Watched:
    """A watch on a pseudo-terminal; ``frame`` is the text of the last whole drawing."""

    def __init__(self, environment: Mapping[str, str], width: int = 100, height: int = 30) -> None:
        self.leader, self.follower = pty.openpty()
        self.resize(width, height)
        self.before: list[Any] = termios.tcgetattr(self.follower)
        self.said = b""
        self.process = subprocess.Popen(
            STATUS,
            env=dict(environment) | {"TERM": "xterm", "NO_COLOR": "1"},
            stdin=self.follower,
            stdout=self.follower,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self) -> None:
        while select.select([self.leader], [], [], 0.02)[0]:
            self.said += os.read(self.leader, 65_536)

    @property
    def frame(self) -> str:
        self.read()
        whole = re.findall(rb"\x1b\[\?2026h(.*?)\x1b\[\?2026l", self.said, re.DOTALL)
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", whole[-1].decode()) if whole else ""

    def wait_shown(self, *words: str) -> None:
        wait_until(
            lambda: all(word in self.frame for word in words), lambda: f"{words} not in:\n{self.frame}"
        )

    def ended(self) -> int:
        """Return the exit code; the terminal must be as it was before."""
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None and time.monotonic() < end:
            self.read()  # a terminal that nobody reads would keep it
        code = self.process.wait(1.0)
        self.read()
        assert self.said.rstrip().endswith(LEAVE)
        assert self.said.count(ENTER) == self.said.count(LEAVE)
        assert termios.tcgetattr(self.follower) == self.before
        assert self.process.stderr is not None
        assert self.process.stderr.read() == b""
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        os.close(self.leader)
        os.close(self.follower)


@contextlib.contextmanager
def watched(environment: Mapping[str, str]) -> Iterator[Watched]:
    one = Watched(environment)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.stress
def test_it_shows_what_changes_and_outlives_the_daemon(environment: dict[str, str]) -> None:
    with LyingLlamaCpp() as server, Vllm() as counted, watched(environment) as watch:
        counted.running, counted.waiting = 3, 2
        watch.wait_shown("hived is not running; waiting for it")
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            watch.wait_shown("running", "llamacpp", "ready", "loaded")
            wait_until(lambda: "waiting for it" not in watch.frame)
            both = llamacpp_at(server.url) | {"vllm": {"api_base": counted.url}}
            configure(environment, both)
            watch.wait_shown("vllm", "3 running, 2 waiting")
            counted.running, counted.waiting = 1, 0
            watch.wait_shown("1 running")
            daemon.kill()
            watch.wait_shown("waiting for it", "was ready")
        with Running(environment):
            wait_until(lambda: "1 running" in watch.frame and "was ready" not in watch.frame)
            os.write(watch.leader, b"q")
            assert watch.ended() == 0


@pytest.mark.stress
def test_servers_are_asked_for_requests_only_while_somebody_watches(environment: dict[str, str]) -> None:
    with Vllm() as server:
        configure(environment, {"vllm": {"api_base": server.url}})
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            assert daemon.client.statistics()["requests"] == {"rounds": 0}
            watches = [Watched(environment) for _ in range(3)]
            try:
                for watch in watches:
                    watch.wait_shown("0 running")
                asked = daemon.client.statistics()["requests"]["rounds"]
                begun = time.monotonic()
                wait_until(lambda: daemon.client.statistics()["requests"]["rounds"] > asked)
                time.sleep(2.0)  # three watchers, and yet one round a second
                more = daemon.client.statistics()["requests"]["rounds"] - asked
                assert more <= time.monotonic() - begun + 1
            finally:
                for watch in watches:
                    watch.close()

            def at_rest() -> bool:
                rounds = daemon.client.statistics()["requests"]["rounds"]
                time.sleep(1.5)  # longer than a round: nobody watches any more
                return bool(daemon.client.statistics()["requests"]["rounds"] == rounds)

            # A question may have been under way when its watcher ended.
            wait_until(at_rest, "they are asked although nobody watches")
            generation = daemon.client.world().world.generation
            server.running = 0
            assert at_rest()
            assert daemon.client.world().world.generation == generation


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.stress
def test_however_it_is_ended_the_terminal_is_as_it_was(
    environment: dict[str, str], number: int, code: int
) -> None:
    with watched(environment) as watch:
        watch.wait_shown("not running")
        if number == signal.SIGINT:
            os.write(watch.leader, b"\x03")
        else:
            watch.process.send_signal(number)
        assert watch.ended() == code


@pytest.mark.stress
def test_it_follows_the_size_of_its_terminal_and_can_be_suspended(environment: dict[str, str]) -> None:
    with watched(environment) as watch:
        watch.wait_shown("not running")
        watch.resize(15, 3)
        watch.wait_shown("hived: too sma")
        watch.resize(100, 30)
        watch.wait_shown("not running")
        os.write(watch.leader, b"\x1a")
        state = Path(f"/proc/{watch.process.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
        watch.read()
        assert watch.said.endswith(LEAVE)
        assert termios.tcgetattr(watch.follower) == watch.before
        watch.process.send_signal(signal.SIGCONT)
        wait_until(lambda: watch.frame and watch.said.count(ENTER) == 2)
        os.write(watch.leader, b"q")
        assert watch.ended() == 0


@pytest.mark.slow
def test_without_a_terminal_it_says_what_to_do_instead(environment: dict[str, str]) -> None:
    said = hived(environment, "status", "--watch")
    assert said.code == 2
    assert said.out == ""
    assert "hived status --watch --json" in said.err
    assert "hived events" in said.err


@pytest.mark.stress
def test_as_json_it_is_a_world_a_line_at_every_change(environment: dict[str, str]) -> None:
    loaded = json_bytes({"data": [{"id": "m"}]})
    configure(environment)
    with (
        LyingLlamaCpp(models=loaded) as server,
        subprocess.Popen([*STATUS, "--json"], env=environment, stdout=subprocess.PIPE, text=True) as told,
    ):
        try:
            assert told.stdout is not None
            assert json.loads(told.stdout.readline())["verdict"] == "absent"
            with Running(environment) as daemon:
                while json.loads(told.stdout.readline())["verdict"] != "fresh":
                    pass
                configure(environment, llamacpp_at(server.url))
                documents = [json.loads(told.stdout.readline())]
                while not documents[-1]["models"]:
                    documents.append(json.loads(told.stdout.readline()))
                generations = [document["generation"] for document in documents]
                assert generations == sorted(generations)
                assert all(one != other for one, other in itertools.pairwise(documents))
                daemon.terminate()
            while json.loads(told.stdout.readline())["verdict"] not in ("stopped", "absent"):
                pass
            told.send_signal(signal.SIGINT)
            assert told.wait(DEADLINE) == 130
        finally:
            told.kill()
