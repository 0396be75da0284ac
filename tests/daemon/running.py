"""A real daemon in a process of its own, for tests. Always ended by its own number."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from hived.machine.processes import identify
from hived.machine.records import Records
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.resolution.question import Target

DEADLINE = 60.0
"""Seconds for anything that a test waits for: far more than it takes, also on a machine that is busy, or that
was stopped for some of them."""

A_CADENCE = 10.0
"""Seconds within which a server at rest is not looked at by itself: that is every quarter of a minute."""

T = TypeVar("T")


class Patient(Client):
    """A client that gives its questions as long as a test has: by default they have a quarter of a second."""

    def resolve(self, model: str, *, timeout: float | None = DEADLINE, **more: Any) -> Target:
        return super().resolve(model, timeout=timeout, **more)

    def refresh(self, endpoint: str | None = None, *, timeout: float = DEADLINE) -> int:
        return super().refresh(endpoint, timeout=timeout)


class Running:
    """``with Running(environment) as daemon: … daemon.client``."""

    module = "hived"
    """What is run with ``-m``."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        backend: str = "asyncio",
        wait: bool = True,
        log: str = "",
        python: str = sys.executable,
    ) -> None:
        self.environment = dict(environment)
        self.where: Places = places(self.environment)
        self.client = Patient(self.where, environment=self.environment)
        self._backend = backend
        self._wait = wait
        self._python = python
        self._log = Path(log) if log else Path(self.environment["HOME"]) / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._others: list[Patient] = []

    def __repr__(self) -> str:
        return f"<Running {self.where.runtime} pid={self._process and self._process.pid}>"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the daemon was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """Everything that the daemons of this home have said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the log lines of one event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def start(self) -> None:
        """Start the daemon, and wait until it greets unless told not to."""
        self.begin()
        if self._wait:
            self.wait_ready()

    def begin(self) -> None:
        """Start the daemon, whatever becomes of it."""
        assert self._process is None or self._process.poll() is not None, "the daemon runs already"
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-P", "-m", self.module, "serve", "--backend", self._backend],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until this very process greets."""
        wait_until(self._greets, lambda: f"{self!r} is not ready:\n{self.log[-4000:]}")

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the process with a signal; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def terminate(self) -> int:
        """Ask the process to end; return its exit status."""
        return self.kill(signal.SIGTERM)

    def another(self) -> Patient:
        """Return one more client, which has seen nothing yet."""
        self._others.append(Patient(self.where, environment=self.environment))
        return self._others[-1]

    def hold(self) -> None:
        """Stop the process (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue the process."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the daemon and every server that its records name. Idempotent."""
        for client in (self.client, *self._others):
            client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            for record in Records(Path(self.where.started)).read_all():
                # Only the very process of the record: a forged one must not end somebody else here either.
                if record.identity is not None and identify(record.identity.pid) == record.identity:
                    os.kill(record.identity.pid, signal.SIGKILL)

    def _greets(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"{self!r} ended with {self.process.returncode}:\n{self.log[-4000:]}")
        try:
            return self.client.greet().pid == self.process.pid
        except HivedError:
            return False


def configure(environment: Mapping[str, str], providers: Mapping[str, object] | None = None) -> Path:
    """Write a configuration in which no default port is looked at; return its path."""
    return write_configuration(
        environment, json.dumps({"hived": {"guess": False}, "providers": providers or {}})
    )


def write_configuration(environment: Mapping[str, str], text: str) -> Path:
    """Write any text as the configuration, whole."""
    path = Path(places(environment).configuration)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)
    return path


def llamacpp_at(url: str) -> dict[str, object]:
    """Return a section ``providers`` with one llama.cpp server."""
    return {"llamacpp": {"api_base": url}}


def wait_until(
    holds: Callable[[], T], why: Callable[[], str] | str = "it did not come true", deadline: float = DEADLINE
) -> T:
    """Poll until something true comes back, and return it."""
    end = time.monotonic() + deadline
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(why if isinstance(why, str) else why())
        time.sleep(0.01)  # between two polls


def wait_prompt(act: Callable[[], object], within: float) -> None:
    """Act again and again until it once took less than so many seconds.

    What a machine with other things to do adds to one try it does not add to all of them; whoever waits for
    what must not be waited for is late every time.
    """

    def is_prompt() -> bool:
        begun = time.monotonic()
        act()
        return time.monotonic() - begun < within

    wait_until(is_prompt, f"it always took longer than {within} s")


def serving(environment: Mapping[str, str]) -> list[int]:
    """Return the processes that are daemons of this environment's home."""
    wanted = f"HOME={environment['HOME']}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and b"hived" in words and wanted in variables:
            found.append(int(name))
    return found


def mentioning(text: str) -> list[int]:
    """Return the processes whose command line or environment mention a text, this one apart."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            said = Path(f"/proc/{name}/cmdline").read_bytes() + Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if text.encode() in said:
            found.append(int(name))
    return found
