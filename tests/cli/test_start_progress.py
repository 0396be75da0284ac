"""``hived start`` on a terminal: one line that says how far it is, and what Ctrl-C leaves behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.words import hived
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.servers.programs import VllmProgram


class OnTerminal:
    """A command whose standard error is a terminal."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self._leader, follower = pty.openpty()
        os.set_blocking(self._leader, False)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hived", *words],
            env=environment | {"TERM": "xterm", "COLUMNS": "60"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
        )
        os.close(follower)
        self._seen = b""

    @property
    def seen(self) -> str:
        """What the terminal was sent so far."""
        try:
            self._seen += os.read(self._leader, 65_536)
        except (BlockingIOError, OSError):  # nothing new; or, at the end, nobody there
            pass
        return self._seen.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._leader)


@pytest.fixture
def program(home: Path) -> VllmProgram:
    (home / "bin").mkdir()
    return VllmProgram(home / "bin")


@pytest.fixture
def daemon(environment: dict[str, str], home: Path, program: VllmProgram) -> Iterator[Running]:
    environment["PATH"] = f"{home / 'bin'}:{environment['PATH']}"
    configure(environment)
    with Running(environment) as running:
        yield running


def test_ctrl_c_leaves_it_starting_and_says_how_it_is_ended(daemon: Running, program: VllmProgram) -> None:
    program.hold()
    terminal = OnTerminal(daemon.environment, "start", "vllm", "--model", "org/tiny")
    try:
        wait_until(lambda: program.starts)
        wait_until(lambda: "is starting" in terminal.seen, lambda: terminal.seen)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60.0) == 130
        wait_until(lambda: "goes on starting without you" in terminal.seen, lambda: terminal.seen)
        assert "Traceback" not in terminal.seen
    finally:
        terminal.close()
    (pid, _) = program.starts[0]
    assert os.path.exists(f"/proc/{pid}/exe")
    for stage in range(4):
        program.let_on(stage)
    wait_until(lambda: [e.state for e in daemon.client.world().world.endpoints] == ["ready"])
    name = daemon.client.world().world.endpoints[0].name
    assert f"hived stop {name} ends it" in terminal.seen
    assert hived(daemon.environment, "stop", name).code == 0
    assert not os.path.exists(f"/proc/{pid}/exe")


def test_the_line_is_written_again_and_gone_at_the_end(daemon: Running, program: VllmProgram) -> None:
    terminal = OnTerminal(daemon.environment, "start", "vllm", "--model", "org/tiny", "--json")
    try:
        out, _ = terminal.process.communicate(timeout=DEADLINE)
        assert terminal.process.returncode == 0
        assert '"endpoint"' in out
        lines = terminal.seen.split("\r\x1b[K")
        assert lines[0] == ""
        assert lines[-1] == ""
        assert any(line.startswith("starting vLLM on port ") for line in lines)
        assert "\n" not in terminal.seen
    finally:
        terminal.close()
