"""No file descriptor left: the daemon goes on, says so, and all is well once there are some again."""

from __future__ import annotations

import contextlib
import os
import resource
import socket

import pytest

from hived_client.errors import HivedError
from tests.daemon.running import Running, configure, llamacpp_at, wait_until
from tests.servers.strangers import LyingLlamaCpp
from tests.stress.figures import Tell

SPARE = 6
"""Descriptors that are left to the daemon beside those that it has."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_descriptors_left(environment: dict[str, str], tell: Tell, backend: str) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    with LyingLlamaCpp() as server, Running(environment, backend=backend) as daemon:
        daemon.client.refresh()
        used = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + SPARE, used + SPARE))
        with contextlib.ExitStack() as stack:
            for _ in range(3 * SPARE):
                peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                peer.connect(daemon.where.socket)
            wait_until(lambda: daemon.events("socket.accept_failed"), "it does not say that it is short")
            configure(environment, llamacpp_at(server.url))
            # Who asks is answered from the files, in time, or told that nobody answers.
            with contextlib.suppress(HivedError):
                daemon.another().resolve("llamacpp/m", timeout=0.2)
            with pytest.raises(HivedError) as unanswered:
                daemon.another().greet(timeout=0.2)
            assert unanswered.value.code == "daemon.unresponsive"
            assert daemon.process.poll() is None, daemon.log[-3000:]
        wait_until(lambda: answers(daemon), lambda: daemon.log[-3000:])
        wait_until(lambda: daemon.client.refresh() > 0)
        wait_until(lambda: says_yes(daemon, server.url), lambda: daemon.log[-3000:])
        said = {str(line["event"]) for line in daemon.events("socket.accept_failed")}
        tell("descriptors", f"{used} and {SPARE} more; said: {', '.join(sorted(said))}")
        tell("lines of log meanwhile", len(daemon.log.splitlines()))
        assert len(daemon.log.splitlines()) < 100


def answers(daemon: Running) -> bool:
    with contextlib.suppress(HivedError):
        return daemon.client.greet(timeout=1.0).pid == daemon.pid
    return False


def says_yes(daemon: Running, url: str) -> bool:
    with contextlib.suppress(HivedError):
        return daemon.another().resolve("llamacpp/m").api_base == f"{url}/v1"
    return False
