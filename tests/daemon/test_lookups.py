"""A name whose lookup hangs keeps neither another name waiting nor the daemon from ending."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest

from hived.daemon.lookups import MOST, Lookups, free_lookups
from tests.daemon.running import Running, configure, wait_until
from tests.servers.ollama import Ollama

HANGS = """
import socket, time
real = socket.getaddrinfo
def lookup(host, port, family=0, type=0, proto=0, flags=0):
    if str(host).strip("b'").endswith(".hangs") and not flags & socket.AI_NUMERICHOST:
        time.sleep(600)
    return real(host, port, family, type, proto, flags)
socket.getaddrinfo = lookup
"""
"""A resolver that waits for a network which is not there."""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_names_that_hang_keep_no_other_name_waiting_and_not_the_end_of_the_daemon(
    environment: dict[str, str], tmp_path: Path, backend: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))
    with Ollama() as server:
        far = {f"far{n}": {"like": "ollama", "api_base": f"http://box{n}.hangs:11434"} for n in range(8)}
        near = {"ollama": {"api_base": server.url.replace("127.0.0.1", "localhost")}}
        configure(environment, far | near)
        with Running(environment, backend=backend) as daemon:

            def states() -> dict[str, str]:
                return {each.name: each.state for each in daemon.client.world().world.endpoints}

            wait_until(lambda: states()["ollama"] == "ready")
            wait_until(lambda: states()["far0"] == "unreachable")
            assert daemon.terminate() == 0  # which is not waited for as long as a lookup lasts here


def test_what_a_lookup_comes_to_is_told_and_a_failure_too() -> None:
    lookups = Lookups()
    assert lookups.submit(int, "7").result(60.0) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        lookups.submit(int, "x").result(60.0)


def test_only_so_many_may_hang() -> None:
    lookups, end = Lookups(), threading.Event()
    waiting = [lookups.submit(end.wait, 600.0) for _ in range(MOST)]
    with pytest.raises(socket.gaierror, match="too many lookups hang"):
        lookups.submit(int).result(60.0)
    end.set()
    assert all(each.result(60.0) for each in waiting)
    assert lookups.submit(int).result(60.0) == 0


def test_the_end_of_a_loop_waits_for_none() -> None:
    end, begun, over = threading.Event(), threading.Event(), threading.Event()

    def lookup() -> None:
        begun.set()
        end.wait(600.0)
        over.set()

    async def leave() -> None:
        free_lookups()
        asyncio.get_running_loop().run_in_executor(None, lookup).cancel()
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert not over.is_set()
    end.set()
    assert not begun.is_set() or over.wait(60.0)
