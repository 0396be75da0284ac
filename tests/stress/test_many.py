"""Many clients at once: idle ones must not cost the busy ones, and who never reads must not cost anybody."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from hived_client.doors.frames import AFTER_HELLO, FrameReader, frame
from hived_client.doors.session import HELLO
from hived_client.errors import HivedError
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.servers.strangers import LyingLlamaCpp
from tests.stress.figures import SCALE, Tell, spread
from tests.stress.usage import usage_of

IDLE, BUSY = 500, 50
ROUNDS = 3
REQUESTS = round(150 * SCALE)
"""Requests of each busy client in a round."""
DEAF = 20
MOST_EACH = 512
"""KiB that one subscriber that never reads may cost: 4,096 changes that wait for it, some hundred bytes each.
What one of them really costs is in the table."""

pack = msgspec.msgpack.encode


def request(method: str, number: int, params: object = None) -> bytes:
    return frame(pack({"id": number, "method": method, "params": params or {}}))


@contextlib.contextmanager
def connected(daemon: Running, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that have said hello, and something more."""
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.settimeout(DEADLINE)
            peer.connect(daemon.where.socket)
            peer.sendall(HELLO + said)
            peers.append(peer)
        for peer in peers:
            (length,) = struct.unpack(">I", peer.recv(4, socket.MSG_WAITALL))
            peer.recv(length, socket.MSG_WAITALL)
        yield peers


def ask_in_turns(daemon: Running, requests: int, question: bytes) -> list[float]:
    """Have 50 clients ask so many times each, all at once; return the seconds of each answer."""
    spent: list[float] = []
    with connected(daemon, BUSY) as peers, selectors.DefaultSelector() as selector:
        asked: dict[socket.socket, float] = {}
        left = dict.fromkeys(peers, requests)
        for peer in peers:
            selector.register(peer, selectors.EVENT_READ, FrameReader(AFTER_HELLO))
            asked[peer] = time.perf_counter()
            peer.sendall(question)
        while left:
            for key, _ in selector.select(DEADLINE):
                peer = key.fileobj  # type: ignore[assignment]
                for _body in key.data.feed(peer.recv(65_536)):
                    now = time.perf_counter()
                    spent.append(now - asked[peer])
                    left[peer] -= 1
                    if left[peer]:
                        asked[peer] = now
                        peer.sendall(question)
                    else:
                        del left[peer]
    return spent


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_500_idle_clients_beside_50_busy_ones(environment: dict[str, str], tell: Tell, backend: str) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, {"lab": {"like": "llamacpp", "api_base": server.url}})
        with Running(environment, backend=backend) as daemon:
            daemon.client.refresh()
            question = request("resolve", 1, {"question": {"model": "lab/m"}, "timeout": DEADLINE})
            ask_in_turns(daemon, REQUESTS // 4, question)
            alone: list[float] = []
            beside: list[float] = []
            memory: list[int] = []
            before = usage_of(daemon.pid)
            for _ in range(ROUNDS):
                alone += ask_in_turns(daemon, REQUESTS, question)
                with connected(daemon, IDLE // 2), connected(daemon, IDLE // 2, request("subscribe", 1)):
                    beside += ask_in_turns(daemon, REQUESTS, question)
                    assert daemon.client.statistics()["server"]["connections"] >= IDLE
                    memory.append(usage_of(daemon.pid).pss)
                wait_until(lambda: daemon.client.statistics()["server"]["connections"] <= 1)
            left = usage_of(daemon.pid)
    tell("busy clients alone", spread(alone))
    tell("the same beside 500 idle ones, half of them subscribed", spread(beside))
    tell("ratio of the middles", f"{middle(beside) / middle(alone):.2f} ×")
    tell("memory (PSS)", f"{before.pss} KiB, beside the idle ones {memory}, after them {left.pss}")
    tell("memory for each idle client", f"{(memory[0] - before.pss) / IDLE:.1f} KiB")
    assert left.descriptors <= before.descriptors + 1


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def test_subscribers_that_never_read(environment: dict[str, str], tell: Tell) -> None:
    configure(environment)
    heard: list[str] = []
    with Running(environment) as daemon:
        listener = threading.Thread(target=listen, args=(daemon, heard))
        listener.start()
        wait_until(lambda: daemon.client.statistics()["store"]["subscribers"])
        change(daemon, 0)
        before = usage_of(daemon.pid)
        most = before.pss
        slowest = 0.0
        with connected(daemon, DEAF, request("subscribe", 1)):
            wait_until(lambda: daemon.client.statistics()["store"]["subscribers"] == 1 + DEAF)
            begun = time.monotonic()
            changes = 0
            while daemon.client.statistics()["server"]["connections"] > 2:
                changes += 1
                change(daemon, changes)
                most = max(most, usage_of(daemon.pid).pss)
                asked = time.perf_counter()
                with contextlib.suppress(HivedError):
                    daemon.client.resolve("a1/m", timeout=0.25)
                slowest = max(slowest, time.perf_counter() - asked)
                assert time.monotonic() - begun < DEADLINE, daemon.client.statistics()
            let_go = time.monotonic() - begun
        told = daemon.client.statistics()["store"]["changes_told"]
        after = usage_of(daemon.pid)
        assert daemon.client.statistics()["store"]["subscribers"] == 1
        daemon.terminate()
        listener.join(60.0)
    tell("subscribers that never read", f"{DEAF}, all let go after {let_go:.1f} s and {told} changes")
    tell("memory (PSS)", f"{before.pss} KiB, at most {most}, then {after.pss}")
    tell("memory for each of them", f"{(most - before.pss) / DEAF:.0f} KiB; at most {MOST_EACH}")
    tell("slowest question meanwhile", f"{slowest * 1e3:.1f} ms")
    assert (most - before.pss) / DEAF < MOST_EACH
    assert heard[-1:] == ["draining"], heard[-3:]
    assert len(heard) - 1 >= told - 20, "somebody who reads lost changes"


def change(daemon: Running, number: int) -> None:
    """Have 60 endpoints come, or go."""
    names = [f"a{each}" for each in range(60)] if number % 2 else []
    configure(
        daemon.environment, {name: {"like": "vllm", "api_base": "http://127.0.0.1:9"} for name in names}
    )
    daemon.client.reload()


def listen(daemon: Running, heard: list[str]) -> None:
    """Listen as one should, to the end."""
    try:
        for event in daemon.another().events(timeout=DEADLINE):
            heard.append(event.event)
    except HivedError as error:
        heard.append(error.code)
