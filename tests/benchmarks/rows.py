"""The rows of the design's budgets that exist by now. Each returns what it measured beside its baseline."""

from __future__ import annotations

import http.client
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import psutil

from hived.decisions.addresses import host_and_port
from hived_client.doors.ask import Resolved
from hived_client.doors.paths import Places
from hived_client.doors.sync import Client, Connection
from hived_client.doors.wire import ResolveParams
from hived_client.errors import NotReady
from hived_client.resolution import Question
from tests.benchmarks.agent import agent_rows
from tests.benchmarks.daemons import baseline, daemon
from tests.benchmarks.following import followed_rows, miss_rows
from tests.benchmarks.hardware import hardware_rows
from tests.benchmarks.hostile import hostile_rows
from tests.benchmarks.measuring import (
    Row,
    Times,
    faster,
    figure,
    in_turns,
    one_core,
    process_times,
    ratio,
    short,
    timed,
    wait_until,
)
from tests.servers.llamacpp import ALIAS, LlamaCpp
from tests.servers.llamacpp_router import LlamaCppRouter

MODEL = f"server/{ALIAS}"


def snapshot_rows(scale: float) -> Iterator[Row]:
    """Answer from the snapshot, against ``os.stat`` and against asking the server."""
    with LlamaCpp() as server, daemon({"server": server.url}) as running:
        client = Client(running.where)

        def ask() -> object:
            return client.resolve(MODEL)

        path = running.where.snapshot
        mine, stat = in_turns([ask, lambda: os.stat(path)], int(20_000 * scale))
        yield ratio("resolve, warm, p50", mine.p50, "os.stat of the snapshot", stat.p50, 10)
        yield figure("resolve, warm, p99", mine.p99, 100e-6)
        yield from _direct_rows(ask, server.url, scale)
    with LlamaCpp() as server, daemon({"server": server.url}, busy=True) as running:
        client = Client(running.where)
        mine, stat = in_turns(
            [lambda: client.resolve(MODEL), lambda: os.stat(running.where.snapshot)], int(20_000 * scale)
        )
        yield ratio("the same, daemon's loop busy 20 ms at a time, p50", mine.p50, "os.stat", stat.p50, 10)
        yield figure("the same, p99", mine.p99, 100e-6)
        slow = timed(lambda: client.refresh(), max(10, int(50 * scale)), warm=1)
        yield figure("  (its socket meanwhile, p50: no budget, shown for comparison)", slow.p50, 60.0)


def _direct_rows(ask: Callable[[], object], url: str, scale: float) -> Iterator[Row]:
    host, port = host_and_port(url)
    kept = http.client.HTTPConnection(host, port, timeout=5)

    def on_kept() -> None:
        kept.request("GET", "/v1/models")
        kept.getresponse().read()

    def on_new() -> None:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", "/v1/models")
        connection.getresponse().read()
        connection.close()

    def on_httpx() -> None:
        with httpx.Client(timeout=5) as client:
            client.get(f"{url}/v1/models")

    mine, first, second = in_turns([ask, on_kept, on_new], int(2_000 * scale))
    again, third = in_turns([ask, on_httpx], max(10, int(50 * scale)))
    kept.close()
    yield faster("resolve", mine.p50, "kept HTTP connection", first.p50, 15)
    yield faster("resolve", mine.p50, "new http.client connection", second.p50, 10)
    yield faster("resolve", again.p50, "new httpx client", third.p50, 200)


def socket_rows(scale: float) -> Iterator[Row]:
    """The socket, against a blocking server with the same frames; all on one core."""
    times = int(10_000 * scale)
    with (
        one_core(),
        LlamaCpp() as server,
        daemon({"server": server.url}, pinned=True) as running,
        baseline(pinned=True) as base,
    ):
        mine, floor = _round_trips(running.where, base, times)
        yield ratio("RPC on a kept connection, p50", mine.p50, "blocking server", floor.p50, 2.5)
        with ExitStack() as others:
            for _ in range(200):
                connection = others.enter_context(Connection(running.where, 5.0))
                connection.greet(5.0)
            crowded, _ = _round_trips(running.where, base, times)
        yield ratio("the same with 200 clients connected, p99", crowded.p99, "its own with one", mine.p99, 2)
        new, base_new = in_turns(
            [lambda: _call_once(running.where), lambda: _call_once(base)], max(50, times // 5)
        )
        yield ratio("connect, hello, ask, close, p50", new.p50, "blocking server", base_new.p50, 2)


def _round_trips(where: Places, base: Places, times: int) -> list[Times]:
    with Connection(where, 5.0) as mine, Connection(base, 5.0) as floor:
        return in_turns([lambda: _call(mine), lambda: _call(floor)], times)


def _call(connection: Connection) -> None:
    connection.call("resolve", _PARAMS, dict, 5.0)


def _call_once(where: Places) -> None:
    with Connection(where, 5.0) as connection:
        _call(connection)


_PARAMS = ResolveParams(question=Question(model=MODEL))


def process_rows(scale: float) -> Iterator[Row]:
    """Whole processes."""
    with LlamaCpp() as server, daemon({"server": server.url}) as running:
        python = [sys.executable, "-P"]
        commands = [
            [*python, "-c", "pass"],
            [*python, "-c", "import msgspec, socket"],
            [*python, "-c", f"import hived_client; hived_client.resolve({MODEL!r})"],
            [*python, "-m", "hived", "status"],
        ]
        bare, floor, ask, status = process_times(commands, running.environment, max(5, int(30 * scale)))
        note = f"import msgspec, socket (bare Python {short(bare.p50)})"
        yield ratio("new process: import and one resolve", ask.p50, note, floor.p50, 1.3)
        yield ratio("hived status, whole process", status.p50, "the same", floor.p50, 2)


def rest_rows(scale: float) -> Iterator[Row]:
    """The daemon at rest: four endpoints, a hundred models."""
    with ExitStack() as stack:
        names = [tuple(f"model-{n}-{i}" for i in range(25)) for n in range(4)]
        servers = [stack.enter_context(LlamaCppRouter(models=each)) for each in names]
        running = stack.enter_context(daemon({f"s{n}": s.url for n, s in enumerate(servers)}))
        process = psutil.Process(running.pid)
        time.sleep(3.0)  # past the first looks and the finding of each process
        before, began = process.cpu_times(), time.monotonic()
        asked = sum(len(server.requests) for server in servers)
        time.sleep(max(10.0, 60.0 * scale))
        after, lasted = process.cpu_times(), time.monotonic() - began
        spent = after.user + after.system - before.user - before.system
        minute = (sum(len(server.requests) for server in servers) - asked) / len(servers) / lasted * 60
        share = spent / lasted * 100
        yield Row("daemon at rest, share of a core", f"{share:.2f} %", "", share, 0.4, shown=f"{share:.2f} %")
        resident = process.memory_info().rss / 2**20
        yield Row(
            "daemon at rest, resident", f"{resident:.1f} MiB", "", resident, 60, shown=f"{resident:.1f} MiB"
        )
        yield Row("requests a minute to each server", f"{minute:.1f}", "", minute, 4.5, shown=f"{minute:.1f}")


def size_rows(scale: float) -> Iterator[Row]:
    """Eight endpoints of five hundred models against one of one."""
    with ExitStack() as stack:
        # On one core, or the medians of both sides are those of how the scheduler woke them.
        stack.enter_context(one_core())
        small = stack.enter_context(LlamaCppRouter(models=("model-0-0",)))
        servers = [
            stack.enter_context(LlamaCppRouter(models=tuple(f"model-{n}-{i}" for i in range(500))))
            for n in range(8)
        ]
        little = stack.enter_context(daemon({"s0": small.url}))
        large = stack.enter_context(daemon({f"s{n}": s.url for n, s in enumerate(servers)}))
        first, second = Client(little.where), Client(large.where)
        asked = "s0/model-0-0"
        wait_until(lambda: len(second.world().world.endpoints[7].models or ()) == 500)
        a, b = in_turns([lambda: second.resolve(asked), lambda: first.resolve(asked)], int(5_000 * scale))
        yield ratio("8 × 500 models: resolve, p50", a.p50, "1 × 1 model", b.p50, 2)
        params = ResolveParams(question=Question(model=asked))
        with Connection(large.where, 5.0) as big, Connection(little.where, 5.0) as tiny:
            a, b = in_turns(
                [
                    lambda: big.call("resolve", params, Resolved, 5.0),
                    lambda: tiny.call("resolve", params, Resolved, 5.0),
                ],
                int(5_000 * scale),
            )
        yield ratio("8 × 500 models: RPC, p50", a.p50, "1 × 1 model", b.p50, 2)


def push_rows(scale: float) -> Iterator[Row]:
    """How soon clients are told."""
    killed, hung = Told(), Told()
    with LlamaCpp() as server, daemon({"server": server.url}) as running:
        client = Client(running.where)
        for _ in range(max(5, int(20 * scale))):
            wait_until(lambda: _state(client) == "ready")
            time.sleep(0.3)  # the daemon finds the process behind the port in a thread
            killed.measure(running.where, server.kill)
            _wait_gone(client)
            server.restart()
        for _ in range(max(2, int(6 * scale))):
            wait_until(lambda: _state(client) == "ready")
            time.sleep(0.3)
            hung.measure(running.where, server.stop_process)
            # An event may be a moment ahead of the snapshot, which is what tells us when to go on.
            wait_until(lambda: _state(client) == "unreachable")
            server.continue_process()
        server.kill()
        _wait_gone(client)
        wait_until(lambda: _state(client) == "down")

        def ask() -> None:
            try:
                client.resolve(MODEL)
            except NotReady:
                return
            raise AssertionError("a dead server was believed")

        sentence = timed(ask, max(20, int(200 * scale)), warm=2)
    yield figure("a server is killed → clients are told, p95", Times(sorted(killed.seconds)).p95, 0.05)
    yield figure("a server hangs (SIGSTOP) → clients are told, p95", Times(sorted(hung.seconds)).p95, 2.0)
    yield figure("a question about a server known to be down, p95", sentence.p95, 0.01)


class Told:
    """Times from an act to the event that tells of it, as a subscriber sees it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def measure(self, where: Places, act: Callable[[], object]) -> None:
        told, subscribed = threading.Event(), threading.Event()
        at: list[float] = []

        def listen() -> None:
            client = Client(where)
            events = client.events()
            subscribed.set()
            for change in events:
                if change.event == "endpoint.state" and change.after in ("down", "unreachable"):
                    at.append(time.perf_counter())
                    told.set()
                    return

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        subscribed.wait(5.0)
        time.sleep(0.1)  # the generator subscribes when it is first advanced
        began = time.perf_counter()
        act()
        if not told.wait(10.0):
            raise TimeoutError("nobody was told")
        self.seconds.append(at[0] - began)
        listener.join(5.0)


def _state(client: Client) -> str:
    return client.world().world.endpoints[0].state


def _wait_gone(client: Client) -> None:
    wait_until(lambda: _state(client) in ("down", "unreachable"))


ROWS = {
    "snapshot": snapshot_rows,
    "socket": socket_rows,
    "process": process_rows,
    "push": push_rows,
    "size": size_rows,
    "rest": rest_rows,
    "followed": followed_rows,
    "miss": miss_rows,
    "hostile": hostile_rows,
    "hardware": hardware_rows,
    "agent": agent_rows,
}
