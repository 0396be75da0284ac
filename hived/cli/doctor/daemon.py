"""The daemon itself: whether it answers, its version, which of its parts crashed, what it complains of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from hived.cli.doctor.findings import Finding, fail, of_fault, ok, warn
from hived.cli.doctor.service import INSTALL, MANAGED, over
from hived.cli.rendering import duration
from hived.daemon.code import own_code
from hived.machine.processes import is_stopped
from hived_client.doors.files import Known
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.world import Daemon

RUNS = ("fresh", "lagging", "stale")
"""Verdicts with which there is a daemon."""
PROMPT = 0.25
"""Seconds within which a daemon says hello; a later one is told as late."""
PATIENCE = 1.5
"""Seconds after which it does not answer at all."""
CROWDED = 0.8
"""Share of its file descriptors from which a daemon is told to be short of them."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What a running daemon said, and what is seen of its process."""

    hello: float | None = None
    """Seconds that its greeting took; ``None``: it gave none."""
    problem: Fault | None = None
    """Why it gave none."""
    is_stopped: bool = False
    """Whether somebody holds its process."""
    statistics: dict[str, Any] | None = None
    has_our_code: bool = True
    """Whether it began with the very files that this program has now."""
    descriptors: tuple[int, int] | None = None
    """Descriptors that it has open, and how many it may have."""


def read_daemon(known: Known) -> Answers:
    """Ask the daemon, if there is one. Blocks for ``PATIENCE``, twice at most."""
    if known.verdict not in RUNS:
        return Answers()
    pid = known.world.daemon.pid if known.world.daemon is not None else 0
    seen = Answers(is_stopped=is_stopped(pid), descriptors=_descriptors(pid))
    client, begun = Client(known.places), time.monotonic()
    try:
        client.greet(timeout=PATIENCE)
        hello = time.monotonic() - begun
    except HivedError as error:
        return msgspec.structs.replace(seen, problem=error.fault)
    try:
        statistics = client.statistics(timeout=PATIENCE)
    except HivedError:
        statistics = None
    finally:
        client.close()
    has_our_code = statistics is None or statistics.get("code") == own_code()
    return msgspec.structs.replace(seen, hello=hello, statistics=statistics, has_our_code=has_our_code)


def check_daemon(known: Known, answers: Answers, version: str, start: str = "hived serve") -> list[Finding]:
    """Judge it. Pure. ``version`` is that of this program, ``start`` the command that starts a daemon."""
    if known.verdict not in RUNS:
        # Not a failure of its own: whoever asks without a daemon is answered too, only later and by less.
        found = [warn("hived.running", "it is not running", start)]
        if known.world.daemon is not None:
            found.append(ok("hived.last", f"the last one had version {known.world.daemon.version}"))
    else:
        found = [_alive(known.world.daemon, answers), *(of_fault(each, "warn") for each in known.notes)]
    if not known.notes:
        found.append(_version(known, answers, version))
    if known.problem is not None:
        found.append(of_fault(known.problem, "fail" if known.verdict in RUNS else "warn"))
    if known.verdict in RUNS:
        found += _complaints(known.world.daemon)
        found += _parts(answers)
        found += _resources(answers)
    return found


def _alive(daemon: Daemon | None, answers: Answers) -> Finding:
    if daemon is not None and answers.is_stopped:
        said = f"pid {daemon.pid} is held (SIGSTOP, or a debugger) and does nothing"
        return fail("hived.stopped", said, f"kill -CONT {daemon.pid}")
    if answers.hello is None:
        problem = answers.problem or fault("daemon.unresponsive", why="it gave no greeting")
        restart = problem.hint
        if daemon is not None:
            restart = over(daemon.pid, is_managed=daemon.managed_by in MANAGED)
        return msgspec.structs.replace(of_fault(problem, "fail"), fix=restart)
    said = "it runs"
    if daemon is not None:
        lasting = duration(max(0.0, time.time() - daemon.started_at))
        by = {"client": "a program that needed it", "foreground": "hand"}
        started = f"started by {by.get(daemon.managed_by, daemon.managed_by)}"
        said = f"it has run for {lasting} (version {daemon.version}, pid {daemon.pid}, {started})"
    if answers.hello > PROMPT:
        return warn("hived.hello", f"{said}; its hello took {duration(answers.hello)}", "hived logs")
    return ok("hived.hello", f"{said} and says hello in {duration(answers.hello)}", brief=True)


def _version(known: Known, answers: Answers, version: str) -> Finding:
    daemon = known.world.daemon
    if answers.has_our_code or daemon is None or known.verdict not in RUNS:
        return ok("hived.version", f"this program has version {version}")
    mend = INSTALL if daemon.managed_by in MANAGED else f"kill {daemon.pid} && sleep 1 && hived serve"
    said = f"it runs other code than this program has, although both are version {version}"
    return warn("hived.version", said, mend)


def _complaints(daemon: Daemon | None) -> Iterator[Finding]:
    if daemon is not None:
        yield from (of_fault(each, "fail") for each in daemon.problems)
        yield from (of_fault(each, "warn") for each in daemon.broken_plugins)


def _parts(answers: Answers) -> Iterator[Finding]:
    supervisor = (answers.statistics or {}).get("supervisor")
    restarts = supervisor.get("restarts") if isinstance(supervisor, dict) else None
    errors = supervisor.get("errors") if isinstance(supervisor, dict) else None
    if not isinstance(restarts, dict) or not isinstance(errors, dict):
        return
    for name, times in sorted(restarts.items()):
        often = "once" if times == 1 else f"{times} times"
        said = f"its part {name} crashed {often}, the last time with {errors.get(name)}"
        yield warn("hived.crashed", said, "hived logs")
    if not restarts:
        yield ok("hived.crashed", "none of its parts crashed")


def _resources(answers: Answers) -> Iterator[Finding]:
    if answers.descriptors is None:
        return
    used, most = answers.descriptors
    said = f"it has {used} of {most} file descriptors open"
    is_short = used > CROWDED * most
    yield warn("hived.descriptors", said, "hived logs") if is_short else ok("hived.descriptors", said)


def _descriptors(pid: int) -> tuple[int, int] | None:
    """Count a process's descriptors, and read how many it may have (Linux)."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            lines = file.read(8192).decode("ascii", "replace").splitlines()
        most = next(line.split()[3] for line in lines if line.startswith("Max open files"))
        return len(os.listdir(f"/proc/{pid}/fd")), int(most)
    except (OSError, ValueError, StopIteration, IndexError):
        return None
