"""Every way of asking about this machine hangs: what that costs whoever asks about a model.

And the memory's bandwidth as hived measures it, beside ``mbw`` where that is on PATH.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec
import psutil

from hived_client.doors.ask import Resolved
from hived_client.doors.sync import Client, Connection
from hived_client.doors.wire import ResolveParams
from hived_client.errors import HivedError
from hived_client.resolution import Question
from tests.benchmarks.daemons import daemon
from tests.benchmarks.measuring import Row, in_turns, ratio, wait_until
from tests.servers.llamacpp import ALIAS, LlamaCpp

MODEL = f"server/{ALIAS}"
PARAMS = ResolveParams(question=Question(model=MODEL))

HANGING = """
import sys, threading
from hived.machine.hardware import asking
from hived.cli import main
asking._PYTHON = (sys.argv[1],)
asking.collect.collect = lambda root, patterns: threading.Event().wait(3600.0) or {}
sys.exit(main(["serve"]))
"""
"""A daemon whose every probe hangs: its programs sleep, and its files keep whoever reads them waiting."""

MEBIBYTES = 256


def hardware_rows(scale: float) -> Iterator[Row]:
    """One daemon whose probes hang all the time and one without, in turns, about the same server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp")))
        for name in ("hang", "nvidia-smi", "llama-server"):
            (folder / name).write_text("#!/bin/sh\nexec /bin/sleep 600\n")
            (folder / name).chmod(0o755)
        server = stack.enter_context(LlamaCpp())
        quiet = stack.enter_context(daemon({"server": server.url}))
        path = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
        hung = stack.enter_context(
            daemon({"server": server.url}, code=(HANGING, str(folder / "hang")), more={"PATH": path})
        )
        first, second = Client(quiet.where), Client(hung.where)
        over = threading.Event()
        asking = threading.Thread(target=_ask_again_and_again, args=(Client(hung.where), over))
        asking.start()
        stack.callback(asking.join, 30.0)
        stack.callback(over.set)
        process = psutil.Process(hung.pid)
        wait_until(lambda: second.world().world.hardware is not None, timeout=30.0)
        spent, began = process.cpu_times(), time.monotonic()
        time.sleep(max(3.0, 20.0 * scale))
        now, lasted = process.cpu_times(), time.monotonic() - began
        share = (now.user + now.system - spent.user - spent.system) / lasted * 100
        times = max(5_000, int(20_000 * scale))  # a hundredth of fewer is a handful
        a, b = in_turns([lambda: second.resolve(MODEL), lambda: first.resolve(MODEL)], times)
        with Connection(hung.where, 5.0) as with_them, Connection(quiet.where, 5.0) as without:
            c, d = in_turns([lambda: _call(with_them), lambda: _call(without)], times)
        world = second.world().world
        hanging = [
            each.name for each in (world.hardware.probes if world.hardware else ()) if each.state != "ok"
        ]
    yield ratio("every hardware probe hangs: resolve, p50", a.p50, "without", b.p50, 1.5)
    yield ratio("  the same, p99", a.p99, "without", b.p99, 2)
    yield ratio("  RPC, p50", c.p50, "without", d.p50, 1.5)
    yield ratio("  the same, p99", c.p99, "without", d.p99, 2)
    told = f"hanging: {', '.join(hanging)}"
    yield Row(
        "  the daemon's share of a core meanwhile", f"{share:.2f} %", told, share, 2, shown=f"{share:.2f} %"
    )
    yield from bandwidth_rows(scale)


def _ask_again_and_again(client: Client, over: threading.Event) -> None:
    """Have a look under way all the time."""
    while not over.is_set():
        with contextlib.suppress(HivedError):
            client.hardware(again=True, timeout=15.0)
        over.wait(0.05)
    client.close()


def bandwidth_rows(scale: float) -> Iterator[Row]:
    """Measure the memory as hived does and as ``mbw`` does, in turns; read and written bytes count.

    With one thread, since ``mbw`` has no other; the best of each, since whatever else the machine does makes
    both smaller and neither greater. Where that may be, at a priority at which nothing else interrupts.

    Of Debian's mbw 1.2.2 the one called DUMB calls memcpy (seen by putting a memcpy of one's own before it),
    and MEMCPY is a loop of words, which also reads what it is about to overwrite: half as many bytes a second
    count, and as many cross the bus. The faster of both is what is compared.
    """
    program = shutil.which("mbw")
    if program is None:
        return
    mine, loop, copy = [], [], []
    for _ in range(max(5, int(20 * scale))):
        mine.append(_own())
        loop.append(_mbw(program, "-t0"))
        copy.append(_mbw(program, "-t1"))
    best, called = max((max(loop), "MEMCPY"), (max(copy), "DUMB"))
    share = max(mine) / best
    off = abs(share - 1.0)
    both = f"MEMCPY {max(loop) / 1e9:.2f}, DUMB {max(copy) / 1e9:.2f} GB/s; compared with {called}"
    note = (
        f"mbw: {both} (medians {median(mine) / 1e9:.2f}, {median(loop) / 1e9:.2f}, {median(copy) / 1e9:.2f})"
    )
    shown = f"{share:.2f} × (off {off:.0%})"
    yield Row(
        "memory read and written, one thread", f"{max(mine) / 1e9:.2f} GB/s", note, off, 0.15, shown=shown
    )


AS_IT_IS = "import os; os.nice = lambda by: 0; from hived.machine.hardware import memory_speed as m; m.main()"
"""The measurement without its low priority, which ``mbw`` does not have either."""


def _own() -> float:
    command = [*_undisturbed(), sys.executable, "-P", "-c", AS_IT_IS, "1"]
    done = subprocess.run(command, capture_output=True, check=True, env=os.environ)
    return float(msgspec.json.decode(done.stdout)["bytes_per_second"])


def _undisturbed() -> list[str]:
    """Return what lets a program run before every other, where this user may do that."""
    words = ["chrt", "-f", "10"]
    may = shutil.which("chrt") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if may else []


def _mbw(program: str, test: str) -> float:
    words = [*_undisturbed(), program, "-q", test, "-n", "10", str(MEBIBYTES)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = re.findall(r"Method: \w+.*?Copy: ([\d.]+) MiB/s", done.stdout)
    return max(map(float, found)) * 2 * 2**20


def _call(connection: Connection) -> None:
    connection.call("resolve", PARAMS, Resolved, 5.0)
