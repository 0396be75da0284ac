"""Servers that mean harm beside one that does not: what they cost the daemon, and who asks about the other.

The hostile ones run in a process of their own, so that what they spend is not counted here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import psutil

from hived_client.doors.ask import Resolved
from hived_client.doors.sync import Client, Connection
from hived_client.doors.wire import ResolveParams
from hived_client.resolution import Question
from tests.benchmarks.daemons import daemon, environment_of
from tests.benchmarks.measuring import Row, in_turns, ratio
from tests.servers.llamacpp import ALIAS, LlamaCpp

MODEL = f"server/{ALIAS}"
PARAMS = ResolveParams(question=Question(model=MODEL))


@contextmanager
def hostile_servers() -> Iterator[dict[str, str]]:
    """Run them; name → URL."""
    environment = environment_of("/nonexistent")
    command = [sys.executable, "-P", "-m", "tests.benchmarks.hostile_servers"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            yield msgspec.json.decode(child.stdout.readline(), type=dict[str, str])
        finally:
            child.kill()


def hostile_rows(scale: float) -> Iterator[Row]:
    """One daemon with them and one without, in turns, about the same good server."""
    with ExitStack() as stack:
        good = stack.enter_context(LlamaCpp())
        bad = stack.enter_context(hostile_servers())
        quiet = stack.enter_context(daemon({"server": good.url}))
        brave = stack.enter_context(daemon({"server": good.url} | bad))
        process = psutil.Process(brave.pid)
        alone = psutil.Process(quiet.pid).memory_info().rss
        time.sleep(2.0)  # past the first looks, which every server gets
        early = process.memory_info().rss
        spent, began = process.cpu_times(), time.monotonic()
        time.sleep(max(4.0, 40.0 * scale))
        now, lasted = process.cpu_times(), time.monotonic() - began
        share = (now.user + now.system - spent.user - spent.system) / lasted * 100
        first, second = Client(quiet.where), Client(brave.where)
        times = max(5_000, int(20_000 * scale))  # a hundredth of fewer is a handful
        a, b = in_turns([lambda: second.resolve(MODEL), lambda: first.resolve(MODEL)], times)
        with Connection(brave.where, 5.0) as with_them, Connection(quiet.where, 5.0) as without:
            c, d = in_turns([lambda: _call(with_them), lambda: _call(without)], times)
        late = process.memory_info().rss
        states = {each.name: each.state for each in second.world().world.endpoints}
    assert states["server"] == "ready", states
    yield ratio(f"{len(bad)} hostile servers beside a good one: resolve, p50", a.p50, "without", b.p50, 2)
    yield ratio("  the same, p99", a.p99, "without", b.p99, 2)
    yield ratio("  RPC, p50", c.p50, "without", d.p50, 2)
    yield ratio("  the same, p99", c.p99, "without", d.p99, 2)
    yield _figure("  the daemon's share of a core with them", share, 2.0, "%")
    yield _figure("  its resident memory beside that of the other", (late - alone) / 2**20, 24, "MiB")
    yield _figure("  by how much that grew meanwhile", (late - early) / 2**20, 4, "MiB")


def _call(connection: Connection) -> None:
    connection.call("resolve", PARAMS, Resolved, 5.0)


def _figure(what: str, value: float, limit: float, unit: str) -> Row:
    return Row(what, f"{value:.2f} {unit}", "", value, limit, shown=f"{value:.2f} {unit}")
