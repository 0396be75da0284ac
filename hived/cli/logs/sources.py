"""Which log a name means: the daemon's own, or that of a server that hived started.

The daemon's goes where whoever started it put it: into the journal under systemd, into a file where a program
needed it, onto the terminal of whoever typed ``hived serve``. What the running process really writes to is
believed before anything else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

import msgspec

from hived.decisions.addresses import host_and_port
from hived.machine.owners import owner_of_port, read_variables, unit_of_process
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.doors.service import find_service
from hived_client.errors import NotReady
from hived_client.vocabulary.faults import Value, fault, quoted
from hived_client.vocabulary.kinds import kind_of_prefix
from hived_client.vocabulary.world import Endpoint

OWN = "hived"
"""Name of the daemon's own log."""
_SUFFIX = ".log"
_RUNS = ("fresh", "lagging", "stale")


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A log in a file."""

    path: str
    is_own: bool = False
    """Whether the daemon wrote it."""


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's log in the journal."""

    unit: str
    is_system: bool = False
    """Whether it is a unit of the system, and not one of this user."""


Source = File | Journal


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What tells where the daemon's log goes."""

    pid: int | None = None
    """The daemon, if one runs."""
    output: str = ""
    """What the running daemon's stderr is, as ``/proc/PID/fd/2`` names it; empty: not known."""
    unit: str = ""
    """The unit that it runs in (``user unit hived.service``)."""
    managed_by: str = ""
    """Who started it, or the last one."""
    file: str = ""
    """The file that a program's start would write to, if it is there."""
    installed: str = ""
    """The unit that is installed for this home."""


def find_log(name: str | None, known: Known, environment: Mapping[str, str]) -> Source:
    """Return the log that a name means. Raises ``NotReady`` (``logs.none``, ``logs.which``). Blocks."""
    if name is None or name == OWN:
        return own_log(read_traces(known, environment))
    return File(path=_server_log(name, known))


def names(known: Known) -> list[str]:
    """Return every name that ``hived logs`` takes now, the daemon's first."""
    started = {each.name for each in known.world.endpoints if each.process is not None}
    return [OWN, *sorted({*_files(known.places), *started} - {OWN})]


def read_traces(known: Known, environment: Mapping[str, str]) -> Traces:
    """Look where the daemon's log goes. Blocks for a few files."""
    places, daemon = known.places, known.world.daemon
    pid = daemon.pid if daemon is not None and known.verdict in _RUNS else None
    own, service = f"{places.logs}/{OWN}{_SUFFIX}", find_service(places, environment)
    return Traces(
        pid=pid,
        output=_link(f"/proc/{pid}/fd/2") if pid is not None else "",
        unit=unit_of_process(pid) if pid is not None else "",
        managed_by=daemon.managed_by if daemon is not None else "",
        file=own if os.path.isfile(own) else "",
        installed=service.shown if service is not None and service.supervision == "systemd" else "",
    )


def variables_of(known: Known) -> dict[str, str]:
    """Return the environment of the daemon that runs, as far as it can be seen: it may hold other secrets."""
    daemon = known.world.daemon
    return read_variables(daemon.pid) if daemon is not None and known.verdict in _RUNS else {}


def own_log(traces: Traces) -> Source:
    """Decide where the daemon's log is. Pure. Raises ``NotReady`` where there is none to be read."""
    level, _, unit = traces.unit.partition(" unit ")
    if traces.managed_by == "systemd" and not traces.output.startswith("/"):
        is_system = level == "system" and unit != traces.installed
        return Journal(unit=unit or traces.installed or "hived.service", is_system=is_system)
    if traces.output.startswith("/") and not traces.output.startswith("/dev/"):
        return File(path=traces.output.removesuffix(" (deleted)"), is_own=True)
    if traces.output and traces.output != "/dev/null":
        where = f"the terminal {traces.output}" if traces.output.startswith("/dev/") else "a pipe"
        raise _none(OWN, f"pid {traces.pid} was started by hand and writes it to {where}", None)
    if traces.file:
        return File(path=traces.file, is_own=True)
    if traces.installed:
        return Journal(unit=traces.installed)
    raise _none(OWN, "no hived of this user has written one", "hived serve")


def _server_log(name: str, known: Known) -> str:
    files = _files(known.places)
    endpoint = next((each for each in known.world.endpoints if name in (each.name, *each.aliases)), None)
    if endpoint is not None and endpoint.process is not None and os.path.isfile(endpoint.process.log):
        return endpoint.process.log
    if name in files:
        return files[name]
    kind = kind_of_prefix(name, known.world.kinds)
    of_kind = [each for each in known.world.endpoints if kind is not None and each.provider == kind.name]
    running = [each for each in of_kind if each.process is not None and os.path.isfile(each.process.log)]
    if len(running) > 1:
        listed = sorted(each.name for each in running)
        raise NotReady(fault("logs.which", names=", ".join(listed), first=listed[0]))
    if running and running[0].process is not None:
        return running[0].process.log
    left = [files[each] for each in files if kind is not None and _is_of(each, kind.name)]
    if left:
        return max(left, key=_changed)  # of those that ended, the last one
    raise _no_log_of(name, endpoint or next(iter(of_kind), None), known)


def _no_log_of(name: str, endpoint: Endpoint | None, known: Known) -> NotReady:
    if endpoint is None:
        return _none(name, "hived has started no server of that name", None)
    why, mend = "hived did not start it", None
    owner = owner_of_port(*host_and_port(endpoint.url)) if endpoint.locality == "device" else None
    unit = owner.unit if owner is not None else ""
    if not unit and endpoint.installation is not None:
        unit = endpoint.installation.owner
    level, separator, short = unit.partition(" unit ")
    if separator:
        why, mend = (
            f"{unit} runs it",
            f"journalctl {'--user ' if level == 'user' else ''}-u {quoted(short)} -e",
        )
    elif endpoint.provider == "lm_studio":
        mend = "lms log stream"
    return _none(name, why, mend)


def _none(name: str, why: str, mend: Value) -> NotReady:
    return NotReady(fault("logs.none", name=name, why=why, mend=mend))


def _files(places: Places) -> dict[str, str]:
    try:
        found = sorted(os.listdir(places.logs))
    except OSError:
        return {}
    paths = {each.removesuffix(_SUFFIX): f"{places.logs}/{each}" for each in found if each.endswith(_SUFFIX)}
    return {name: path for name, path in paths.items() if name.isprintable() and _is_file(path)}


def _is_of(name: str, kind: str) -> bool:
    return name == kind or name.startswith(f"{kind}-")


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
