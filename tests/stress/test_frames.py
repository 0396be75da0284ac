"""100,000 random and mutated frames: each bad one costs its own connection, and nothing else."""

from __future__ import annotations

import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from hived_client.doors.frames import AFTER_HELLO, FrameReader, frame
from hived_client.doors.session import HELLO
from tests.daemon.running import Running, configure, llamacpp_at
from tests.stress.figures import SCALE, Tell
from tests.stress.mutated import mutated
from tests.stress.usage import usage_of

FRAMES = round(100_000 * SCALE)
AT_ONCE = 48
"""Connections that are open at a time."""
WARM = 0.1
"""Share of the frames after which memory is looked at first: until then caches and arenas fill."""
MOST = 8 * 1024
"""KiB by which the daemon may grow from then on, whatever the number of frames."""
EVERY = 1000
"""Frames between two questions of somebody who behaves, and whose connection must last."""
DEADLINE = 60.0
"""Seconds that a connection may stay open after its last byte and the end of its side."""

pack = msgspec.msgpack.encode


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_random_and_mutated_frames(
    environment: dict[str, str], chance: random.Random, tell: Tell, backend: str
) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    count = FRAMES // 2
    with Running(environment, backend=backend) as daemon, Witness(daemon) as witness:
        warm = round(count * WARM)
        ends = Counter(send(daemon, chance, warm, witness))
        before = usage_of(daemon.pid)
        begun = time.monotonic()
        ends += Counter(send(daemon, chance, count - warm, witness))
        seconds = time.monotonic() - begun
        witness.ask()
        after = usage_of(daemon.pid)
        assert daemon.process.poll() is None, daemon.log[-4000:]
        assert "Traceback" not in daemon.log, daemon.log[-4000:]
        assert daemon.client.statistics()["server"]["connections"] <= 2
    tell(
        "frames",
        f"{count}, {(count - warm) / seconds:.0f}/s; " + ", ".join(f"{n} {w}" for w, n in ends.most_common()),
    )
    tell("memory (PSS)", f"{before.pss} KiB, then {after.pss} KiB; at most {MOST} more")
    tell("descriptors", f"{before.descriptors}, then {after.descriptors}")
    assert after.pss - before.pss < MOST
    assert after.descriptors <= before.descriptors
    assert set(ends) <= {"answered", "fault", "closed", "reset"}


class Witness:
    """A peer that behaves, on one connection for the whole time."""

    def __init__(self, daemon: Running) -> None:
        self._peer = socket.socket(socket.AF_UNIX)
        self._peer.settimeout(DEADLINE)
        self._peer.connect(daemon.where.socket)
        self._peer.sendall(HELLO)
        self._reader = FrameReader(AFTER_HELLO)
        self._pid = daemon.pid
        self._number = 0
        assert self._receive()["pid"] == daemon.pid

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.close()

    def ask(self) -> None:
        """Ask, and have this very question answered."""
        self._number += 1
        self._peer.sendall(frame(pack({"id": self._number, "method": "world", "params": {}})))
        reply = self._receive()
        assert reply["id"] == self._number
        assert reply["result"]["daemon"]["pid"] == self._pid

    def _receive(self) -> dict[str, Any]:
        while True:
            data = self._peer.recv(65_536)
            assert data, "the connection of somebody who behaves was closed"
            for body in self._reader.feed(data):
                message: dict[str, Any] = msgspec.msgpack.decode(body)
                return message


def send(daemon: Running, chance: random.Random, count: int, witness: Witness) -> Iterator[str]:
    """Send frames, each on its own connection, many connections at a time; yield how each ended."""
    sent = 0
    with selectors.DefaultSelector() as selector:
        while sent < count or selector.get_map():
            while sent < count and len(selector.get_map()) < AT_ONCE:
                sent += 1
                if sent % EVERY == 0:
                    witness.ask()
                _begin(daemon, mutated(chance), selector)
            ready = selector.select(DEADLINE)
            now = time.monotonic()
            for key, _ in ready:
                end = _read(key.fileobj, key.data)  # type: ignore[arg-type]
                if end:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
                    yield end
            oldest = min((key.data[0] for key in selector.get_map().values()), default=now)
            assert now - oldest < DEADLINE, "a connection stays open after its end"


def _begin(daemon: Running, data: bytes, selector: selectors.BaseSelector) -> None:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(DEADLINE)
    peer.connect(daemon.where.socket)
    with suppress(BrokenPipeError, ConnectionResetError):  # it may hang up in the middle
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
    peer.setblocking(False)
    selector.register(
        peer, selectors.EVENT_READ, (time.monotonic(), FrameReader(AFTER_HELLO), Counter[str]())
    )


def _read(peer: socket.socket, state: tuple[float, FrameReader, Counter[str]]) -> str:
    """Read what has come; return how it ended, or nothing while it goes on."""
    _, reader, seen = state
    try:
        data = peer.recv(65_536)
    except BlockingIOError:
        return ""
    except ConnectionResetError:
        return "reset"
    for body in reader.feed(data):
        message = msgspec.msgpack.decode(body)
        seen["fault" if message.get("fault") else "answered"] += 1
    if data:
        return ""
    assert reader.waiting == 0, "half a frame came back"
    return "fault" if seen["fault"] else "answered" if seen["answered"] > 1 else "closed"
