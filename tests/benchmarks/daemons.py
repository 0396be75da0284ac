"""Daemons and servers for the benchmarks: each in a home of its own, each ended by its own process id."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

import hived
import hived_client
from hived_client.doors.files import accepts
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client
from tests.benchmarks.measuring import wait_until

BUSY = """
import sys, time, anyio
import hived.daemon.app as app
from hived_client.doors.paths import places
import os
async def main():
    async def burn():
        while True:
            began = time.perf_counter()
            while time.perf_counter() - began < 0.02:
                pass
            await anyio.sleep(0.005)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(burn)
        await app.App(places(), os.environ).run()
        tasks.cancel_scope.cancel()
anyio.run(main)
"""


class Running(NamedTuple):
    """A daemon in a process of its own."""

    where: Places
    environment: Mapping[str, str]
    pid: int


@contextmanager
def daemon(
    providers: Mapping[str, str],
    *,
    busy: bool = False,
    pinned: bool = False,
    kind: str = "llamacpp",
    more: Mapping[str, str] | None = None,
    code: Sequence[str] = (),
) -> Iterator[Running]:
    """Run a daemon that watches these servers of one kind (name → URL) and nothing else.

    ``more`` is added to its environment; ``code`` is a program that runs it otherwise, and its words.
    """
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as home:
        environment = environment_of(home) | dict(more or {})
        where = places(environment)
        Path(where.home).mkdir()
        write_configuration(where, providers, kind=kind)
        command = ["-c", BUSY] if busy else ["-c", *code] if code else ["-m", "hived", "serve"]
        child = subprocess.Popen([sys.executable, "-P", *command], env=environment, cwd="/")
        if pinned and sys.platform == "linux":
            os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        try:
            client = Client(where)
            wait_until(lambda: client.running)
            wait_until(lambda: _is_settled(client))
            yield Running(where, environment, child.pid)
        finally:
            child.kill()
            child.wait()


def write_configuration(
    where: Places, providers: Mapping[str, str], *, kind: str = "llamacpp", more: Sequence[object] = ()
) -> None:
    """Put a configuration in the place of the one that is there, as an editor does; ``more`` is others'."""
    entries = {name: {"like": kind, "api_base": url} for name, url in providers.items()}
    document = {"hived": {"guess": False, "log_level": "warning"}, "providers": entries, "more": more}
    path = Path(where.configuration)
    fresh = path.with_name(".configuration.swp")
    fresh.write_bytes(msgspec.json.encode(document))
    fresh.replace(path)


def _is_settled(client: Client) -> bool:
    endpoints = client.world().world.endpoints
    return bool(endpoints) and all(endpoint.state != "unknown" for endpoint in endpoints)


@contextmanager
def baseline(*, pinned: bool = False) -> Iterator[Places]:
    """Run the baseline server where a client of ours finds it."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as home:
        environment = environment_of(home)
        where = places(environment)
        Path(where.folder).mkdir(parents=True, mode=0o700)
        Path(where.runtime).chmod(0o700)
        command = [sys.executable, "-P", "-m", "tests.benchmarks.baseline_server", where.socket]
        child = subprocess.Popen(command, env=environment, cwd="/")
        if pinned and sys.platform == "linux":
            os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        try:
            wait_until(lambda: accepts(where.socket))
            yield where
        finally:
            child.kill()
            child.wait()


def environment_of(home: str, more: Sequence[str] = ()) -> dict[str, str]:
    """Return an environment in which nothing of the user's is seen."""
    roots = {
        Path(hived.__file__).parent.parent,
        Path(hived_client.__file__).parent.parent,
        Path(__file__).parent.parent.parent,
    }
    kept = {name: os.environ[name] for name in ("PATH", "LANG", *more) if name in os.environ}
    return kept | {
        "HOME": home,
        "HIVED_RUNTIME_DIR": f"{home}/run",
        "XDG_STATE_HOME": f"{home}/state",
        "PYTHONPATH": os.pathsep.join(map(str, roots)),
    }
