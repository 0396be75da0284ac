"""Which process listens at an address is asked of the system, and an answer is kept for a moment only."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from hived.daemon.watching import SystemProcesses

LISTENS = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def listening(port: int = 0) -> tuple[subprocess.Popen[bytes], int]:
    child = subprocess.Popen(
        [sys.executable, "-c", LISTENS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


@pytest.mark.anyio
async def test_who_took_over_the_port_of_one_that_was_just_found_is_watched() -> None:
    processes, found = SystemProcesses(), anyio.Event()
    first, port = listening()
    assert await processes.listener("127.0.0.1", port) == first.pid
    end(first)
    second, _ = listening(port)
    try:
        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    await processes.watch("127.0.0.1", port, found=found.set, told=lambda: None)

                tasks.start_soon(watch)
                await found.wait()
                assert repr(processes) == f"<SystemProcesses [{second.pid}]>"
                end(second)
    finally:
        end(second)
