"""Facts gathered side by side, each within its own time: a disk or a driver that hangs costs one line.

Each is read in a thread that does not keep the process from ending. What came too late, and what broke, is
told as that.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault


class Missing(msgspec.Struct, frozen=True):
    """Why some facts are not there."""

    why: str
    fault: Fault | None = None
    """Where it has a name, and a cure."""


def gather(readings: Mapping[str, Callable[[], object]], *, seconds: float) -> dict[str, object]:
    """Read everything at once; return the facts by name, or ``Missing``. Blocks for ``seconds`` at most."""
    done: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def run(name: str, read: Callable[[], object]) -> None:
        try:
            done.put((name, read()))
        except HivedError as error:
            done.put((name, Missing(error.message, error.fault)))
        except Exception as error:  # noqa: BLE001 - a check that breaks must not hide what the others found
            done.put((name, Missing(f"the check broke ({type(error).__name__}: {error})"[:200])))

    for name, read in readings.items():
        threading.Thread(target=run, args=(name, read), name=f"doctor {name}", daemon=True).start()
    facts: dict[str, object] = {}
    deadline = time.monotonic() + seconds
    while len(facts) < len(readings):
        try:
            name, fact = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        facts[name] = fact
    return {name: facts.get(name, Missing(f"it took longer than {seconds:.1f} s")) for name in readings}
