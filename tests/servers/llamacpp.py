"""A real llama.cpp server for tests: the embedded one, in a process of its own, with a model that speaks.

Ready in some 0.2 s. Needs the ``llamacpp`` extra; say so with ``pytest.importorskip("xllamacpp")``.
Trap: a request with ``tool_choice: required`` aborts this server with this model.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from psutil import Process

from hived.machine.llamacpp import Program, command, environment
from hived.machine.ports import free_port

SAY = "I am a tiny model, served by a real llama.cpp on this computer."
TOOL = "set_output"
ARGUMENTS = {"key": "answer", "value": "Hello from your own machine."}
ALIAS = "tiny-agent"
DEADLINE = 30.0
"""Seconds for a server to be ready: two hundred times what it needs on an idle machine."""

_ROOT = Path(__file__).resolve().parents[2]


@cache
def speaking_model() -> Path:
    """Make the model that says SAY and calls TOOL with ARGUMENTS; once in a session, removed at its end."""
    from hived.cli.demo.speaking_model import write_speaking_model

    folder = Path(tempfile.mkdtemp(prefix="hv-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"{ALIAS}.gguf"
    write_speaking_model(path, say=SAY, tool=TOOL, arguments=ARGUMENTS, name=ALIAS)
    return path


def child_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Copy an environment for a Python child that must find this checkout."""
    path = os.pathsep.join((str(_ROOT), str(_ROOT / "client"), base.get("PYTHONPATH", ""))).rstrip(os.pathsep)
    return environment(base) | {"PYTHONPATH": path}


class LlamaCpp:
    """A running server: ``with LlamaCpp() as server: … server.url``. Always ended by its own number."""

    def __init__(
        self,
        *,
        model: Path | None = None,
        alias: str = ALIAS,
        port: int | None = None,
        context: int | None = None,
        extra: Sequence[str] = ("--threads", "1", "--parallel", "2"),
        wait: bool = True,
    ) -> None:
        self.model = model or speaking_model()
        self.alias = alias
        self.host = "127.0.0.1"
        self.port = port or free_port(self.host)
        self.folder = Path(tempfile.mkdtemp(prefix="hv-llamacpp-"))
        self.log = self.folder / "server.log"
        self._context, self._extra, self._wait = context, tuple(extra), wait
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The root of the server, without ``/v1``."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The number of the running (or stopped) process."""
        assert self._process is not None, "the server was killed"
        return self._process.pid

    def __repr__(self) -> str:
        return f"<LlamaCpp {self.url} pid={self._process and self._process.pid}>"

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

    def start(self) -> None:
        """Start the process, and wait until it is ready unless told not to."""
        assert self._process is None, "the server runs already"
        argv = command(
            Program(kind="embedded", argv=(sys.executable, "-P", "-m", "hived.machine.embedded_llamacpp")),
            model=str(self.model),
            host=self.host,
            port=self.port,
            alias=self.alias,
            context=self._context,
            extra=self._extra,
        )
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                start_new_session=True,
            )
        if self._wait:
            self.wait_ready()

    def wait_ready(self, deadline: float = DEADLINE) -> None:
        """Poll ``/health`` until it is 200. Raises AssertionError with the log where it never is."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                break
            if self.get_status("/health") == 200:
                return
            time.sleep(0.01)  # between two polls
        raise AssertionError(f"{self!r} is not ready:\n{self.log.read_text(errors='replace')[-4000:]}")

    def get_status(self, path: str, timeout: float = 5.0) -> int | None:
        """Ask for a path, and return the status; None where nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            return connection.getresponse().status
        return None

    def kill(self, number: int = signal.SIGKILL) -> int | None:
        """End the process with a signal, and return its exit status; None where it ran no more."""
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            process.send_signal(number)
            if number != signal.SIGKILL:
                process.wait(60.0)
        finally:
            if process.poll() is None:
                process.kill()
            status = process.wait()
        return status

    def stop_process(self) -> None:
        """Hold the process (SIGSTOP): it accepts connections and answers none.

        The signal is sent at once and each thread stops when it is next on a processor: wait for all.
        """
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE
        while not _all_stopped(self.pid):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self!r} does not stop")
            time.sleep(0.001)

    def continue_process(self) -> None:
        """Let a held process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """End it where it runs, and start it again on the same port."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End the process and remove what it left. Idempotent."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


async def is_called(server: LlamaCpp) -> None:
    """Wait until this process has a connection to a server: for a call, where nothing else here asks it."""

    def has_one() -> bool:
        return any(each.raddr and each.raddr.port == server.port for each in Process().net_connections("tcp"))

    with anyio.fail_after(DEADLINE):
        while not has_one():  # noqa: ASYNC110 - the server, which may be stopped, does not tell
            await anyio.sleep(0.01)


def _all_stopped(pid: int) -> bool:
    """Tell whether every thread of a process is stopped, as far as this system tells."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        states = [Path(f"/proc/{pid}/task/{each}/stat").read_text("ascii", "replace") for each in threads]
    except OSError:
        return True
    return all(state.rpartition(")")[2].split()[0] in ("T", "t") for state in states)
