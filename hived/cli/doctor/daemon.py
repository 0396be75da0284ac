"""The daemon itself: whether it answers, its version, which of its parts crashed, what it complains of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from hived.cli.doctor.findings import Finding, note, of_fault, ok, warn
from hived.cli.rendering import duration
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault, fault

PROMPT = 0.25
"""Seconds within which a daemon says hello; a later one is told as late."""
PATIENCE = 2.0
"""Seconds after which it does not answer at all."""
CROWDED = 0.8
"""Share of its file descriptors from which a daemon is told to be short of them."""


class DaemonFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the daemon."""

    known: Known
    version: str
    """Of this program."""
    hello: float | None = None
    """Seconds that its greeting took; ``None``: it gave none."""
    problem: Fault | None = None
    """Why it gave none."""
    statistics: dict[str, Any] | None = None
    descriptors: tuple[int, int] | None = None
    """Descriptors that it has open, and how many it may have."""
    managed_unit: str = ""
    """The command that starts it again, where a service manager looks after it."""


def read_daemon(known: Known, version: str) -> DaemonFacts:
    """Ask the daemon, if there is one. Blocks for ``PATIENCE``, twice at most."""
    facts = DaemonFacts(known=known, version=version)
    if known.verdict not in ("fresh", "lagging", "stale"):
        return facts
    hello, problem = _greet(known.places)
    daemon = known.world.daemon
    return msgspec.structs.replace(
        facts,
        hello=hello,
        problem=problem,
        statistics=_statistics(known.places) if hello is not None else None,
        descriptors=_descriptors(daemon.pid) if daemon is not None else None,
    )


def check_daemon(facts: DaemonFacts) -> list[Finding]:
    """Judge it."""
    if facts.known.verdict not in ("fresh", "lagging", "stale"):
        return [*_absent(facts), ok("hived.version", f"this program has version {facts.version}")]
    return [
        *_alive(facts),
        *(of_fault(each, "warn") for each in facts.known.notes),
        *_complaints(facts),
        *_parts(facts),
        *_resources(facts),
    ]


def _greet(places: Places) -> tuple[float | None, Fault | None]:
    begun = time.monotonic()
    try:
        Client(places).greet(timeout=PATIENCE)
    except HivedError as error:
        return None, error.fault
    return time.monotonic() - begun, None


def _statistics(places: Places) -> dict[str, Any] | None:
    try:
        return Client(places).statistics(timeout=PATIENCE)
    except HivedError:
        return None


def _descriptors(pid: int) -> tuple[int, int] | None:
    """Count a process's descriptors, and read how many it may have (Linux)."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            lines = file.read(8192).decode("ascii", "replace").splitlines()
        most = next(line.split()[3] for line in lines if line.startswith("Max open files"))
        return len(os.listdir(f"/proc/{pid}/fd")), int(most)
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _absent(facts: DaemonFacts) -> Iterator[Finding]:
    # Not a failure of its own: whoever asks without a daemon is answered too, only later and by less.
    last = facts.known.world.generation
    said = "it is not running" + (f"; generation {last} is the last that it knew" if last else "")
    yield warn("hived.running", said, "hived serve")
    if facts.known.problem is not None:
        yield of_fault(facts.known.problem, "warn")


def _alive(facts: DaemonFacts) -> Iterator[Finding]:
    daemon = facts.known.world.daemon
    if facts.hello is None:
        problem = facts.problem or fault("daemon.unresponsive", why="it gave no greeting")
        yield of_fault(problem, "fail")
    about = []
    if daemon is not None:
        lasting = duration(max(0.0, time.time() - daemon.started_at))
        about = [
            f"version {daemon.version}",
            f"pid {daemon.pid}",
            f"started by {_manager(daemon.managed_by)}",
        ]
        said = f"running for {lasting} ({', '.join(about)})"
    else:
        said = "running, with a snapshot that cannot be read"
    if facts.hello is not None and facts.hello > PROMPT:
        yield warn("hived.hello", f"{said}; its hello took {duration(facts.hello)}", "hived logs")
    elif facts.hello is not None:
        yield ok("hived.hello", f"{said}; says hello in {duration(facts.hello)}", brief=True)
    if daemon is not None and daemon.version == facts.version:
        yield ok("hived.version", f"this program has the same version, {facts.version}")


def _manager(managed_by: str) -> str:
    return {"client": "a program that needed it", "foreground": "hand"}.get(managed_by, managed_by)


def _complaints(facts: DaemonFacts) -> Iterator[Finding]:
    if facts.known.problem is not None:
        yield of_fault(facts.known.problem, "warn")
    daemon = facts.known.world.daemon
    if daemon is not None:
        yield from (of_fault(each, "fail") for each in daemon.problems)
        yield from (of_fault(each, "warn") for each in daemon.broken_plugins)
        if not daemon.broken_plugins:
            yield ok(
                "hived.plugins",
                f"{len(facts.known.world.kinds)} kinds of server come from plug-ins, none broken",
            )


def _parts(facts: DaemonFacts) -> Iterator[Finding]:
    supervisor = (facts.statistics or {}).get("supervisor")
    if not isinstance(supervisor, dict):
        return
    restarts, errors = supervisor.get("restarts"), supervisor.get("errors")
    if not isinstance(restarts, dict) or not isinstance(errors, dict):
        return
    for name, times in sorted(restarts.items()):
        yield warn(
            "hived.crashed",
            f"its part {name} crashed {times} times, the last time with {errors.get(name)}",
            "hived logs",
        )
    if not restarts:
        yield ok("hived.crashed", "none of its parts crashed")


def _resources(facts: DaemonFacts) -> Iterator[Finding]:
    if facts.descriptors is None:
        return
    used, most = facts.descriptors
    said = f"it has {used} of {most} file descriptors open"
    if used > CROWDED * most:
        yield warn("hived.descriptors", said, "hived logs")
    else:
        yield ok("hived.descriptors", said)


def stale_note(known: Known) -> Finding | None:
    """Say that what follows is old, where it is."""
    if known.verdict == "fresh" or known.age is None or not known.world.endpoints:
        return None
    return note("hived.age", f"hived's last word is {duration(known.age)} old")
