"""The user service: whether there is one, whether it runs and is ours, and what its daemon sees."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

import msgspec

from hived.cli.doctor.findings import Finding, fail, note, of_fault, ok, warn
from hived.cli.doctor.unit import Unit, read_service_file
from hived.configuration.environment import from_environment
from hived.machine.commands import run_bounded
from hived.machine.owners import user_name
from hived.service.stamp import drift
from hived_client.doors.paths import Places
from hived_client.doors.service import find_service, service_name, user_runtime
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.services import agent_label, supervision_of, unit_name
from hived_client.vocabulary.world import Daemon

PROGRAMS = ("ollama", "llama-server", "vllm", "lms", "nvidia-smi", "rocm-smi")
"""Programs that hived runs, or whose place it tells."""
MANAGED = ("systemd", "launchd")
"""Who looks after a daemon that is installed."""
INSTALL = "hived service install"
"""What writes the service again, and starts it."""
PATIENCE = 2.0
"""Seconds that a service manager, or an interpreter, may take."""


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """What the service manager says of the unit."""

    answers: bool
    why: str = ""
    """Why it does not."""
    is_there: bool = True
    """Whether this system has one at all."""
    active: str = ""
    enabled: str = ""
    restarts: int = 0
    result: str = ""
    needs_reload: bool = False


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """What is found on a PATH."""

    path: str
    found: dict[str, str]


class ServiceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the service."""

    name: str
    """``hived.service``, ``hived-<8 hex>.service`` of another home, or the label of an agent."""
    is_launchd: bool = False
    path: str | None = None
    """The unit's file; ``None``: it is not installed."""
    unit: Unit = Unit()
    drift: Fault | None = None
    """How the file differs from what this version writes, by the mark that it carries."""
    can_run: bool = True
    """Whether its interpreter is there."""
    version: str | None = None
    """The version of hived that the interpreter has; ``None``: none, or it was not asked."""
    ours: str = ""
    """The version of this program."""
    manager: Manager = Manager(answers=False, is_there=False)
    lingers: bool | None = None
    user: str = ""
    programs: Programs | None = None
    """What its daemon would find; ``None``: its PATH is not known."""


def read_service(where: Places, environment: Mapping[str, str], version: str) -> ServiceFacts:
    """Look for the service of these places. Blocks."""
    is_launchd = supervision_of(sys.platform) == "launchd"
    name = service_name(where)
    label = agent_label(name) if is_launchd else unit_name(name)
    found = find_service(where, environment)
    unit = read_service_file(found.text, found.supervision) if found is not None else Unit()
    return ServiceFacts(
        name=label,
        is_launchd=is_launchd,
        path=found.path if found is not None else None,
        unit=unit,
        drift=drift(found.path, found.text, found.supervision) if found is not None else None,
        can_run=os.access(unit.interpreter, os.X_OK),
        version=version_of(unit.interpreter) if found is not None else None,
        ours=version,
        manager=Manager(answers=False) if is_launchd else ask_systemd(label, environment),
        lingers=None if is_launchd else _lingers(),
        user=user_name(os.getuid()),
        programs=programs_on(unit.path) if unit.path is not None else None,
    )


def check_service(facts: ServiceFacts) -> list[Finding]:
    """Judge it. Pure."""
    if facts.path is None:
        return list(_not_installed(facts))
    return [*_installed_unit(facts), *_state(facts), *_linger(facts)]


def programs_on(path: str) -> Programs:
    """Find the programs on a PATH. Blocks."""
    found = {name: shutil.which(name, path=path) if path else None for name in PROGRAMS}
    return Programs(path=path, found={name: where for name, where in found.items() if where is not None})


def check_path(ours: Programs, theirs: Programs, mend: str) -> list[Finding]:
    """Judge which programs the daemon finds, beside those that the caller does. Pure."""
    here, there = ours.found, theirs.found
    found = [
        warn("service.path", f"hived does not find {name}, which is {where} for you", mend)
        for name, where in here.items()
        if name not in there
    ]
    for name, where in there.items():
        if name not in here:
            found.append(note("service.path", f"hived finds {name} at {where}, and you do not", brief=False))
        elif here[name] != where:
            said = f"hived's {name} is {where}, and yours is {here[name]}"
            found.append(note("service.path", said, brief=False))
    same = ", ".join(name for name in there if here.get(name) == there[name])
    has = f", where {same} is found as you find it" if same else ""
    found.append(ok("service.path", f"hived's PATH is {theirs.path or 'empty'}{has}"))
    return found


def check_variables(
    here: Mapping[str, str], there: Mapping[str, str], keys: frozenset[str], mend: str
) -> list[Finding]:
    """Judge whether the daemon has the caller's variables that matter: addresses and named keys. Pure.

    Their values are never told: some are keys, and an address may hold a password.
    """
    ours = {each.origin: each.url for each in from_environment(here)}
    theirs = {each.origin: each.url for each in from_environment(there)}
    names = [name for name, url in ours.items() if theirs.get(name) != url]
    names += [name for name in sorted(keys) if here.get(name) and there.get(name) != here[name]]
    how = {name: "with another" if _is_set(name, there) else "without it" for name in names}
    found = [
        warn("service.variables", f"{name} is set for you, and hived was started {how[name]}", mend)
        for name in names
    ]
    found += [
        note("service.variables", f"{name} is not set for you, and hived was started with it", mend)
        for name in theirs
        if not _is_set(name, here)
    ]
    return found


def _is_set(origin: str, environment: Mapping[str, str]) -> bool:
    """Tell whether any variable is there of those that an address is from (``HOST and PORT``)."""
    return any(environment.get(name) for name in origin.split(" and "))


def start_of(facts: object) -> str:
    """Return the command that starts a daemon here, by what is known of its service."""
    is_installed = isinstance(facts, ServiceFacts) and facts.path is not None
    return "hived service start" if is_installed else "hived serve"


def again(daemon: Daemon | None) -> str:
    """Return the command after which the daemon has the caller's environment."""
    if daemon is None or daemon.managed_by in MANAGED:
        return f"{INSTALL} --with-environment"
    return f"kill {daemon.pid} && sleep 1 && hived serve"


def over(pid: int, *, is_managed: bool) -> str:
    """Return the command that has a new daemon in the place of one that hangs, and may heed no SIGTERM."""
    return "hived service restart" if is_managed else f"kill -9 {pid} && sleep 1 && hived serve"


def version_of(interpreter: str) -> str | None:
    """Ask an interpreter for its hived's version; ``None`` where it has none. It writes nothing (``-B``)."""
    if not os.path.isabs(interpreter) or not os.access(interpreter, os.X_OK):
        return None
    code = "from hived_client._version import __version__; print(__version__)"
    done = run_bounded((interpreter, "-B", "-P", "-c", code), seconds=PATIENCE)
    said = done.out.strip() if done is not None and done.code == 0 else ""
    return said if re.fullmatch(r"[0-9A-Za-z.+!-]{1,40}", said) else None


def ask_systemd(unit: str, environment: Mapping[str, str], root: str = "/") -> Manager:
    """Ask this user's systemd for a unit. Blocks for ``PATIENCE`` at most."""
    if not os.path.isdir(f"{root}run/systemd/system"):
        return Manager(answers=False, is_there=False, why="systemd does not run on this system")
    runtime = user_runtime(environment, root.rstrip("/"))
    if runtime is None:
        return Manager(answers=False, why="this user has no systemd of its own")
    names = "ActiveState,UnitFileState,NRestarts,Result,NeedDaemonReload"
    words = ("systemctl", "--user", "show", unit, "-p", names)
    done = run_bounded(words, seconds=PATIENCE, environment={**environment, "XDG_RUNTIME_DIR": runtime})
    if done is None:
        return Manager(answers=False, is_there=False, why="systemctl cannot be run")
    if done.code != 0:
        said = done.err.strip().partition("\n")[0][:120] or "it says nothing"
        return Manager(answers=False, why=f"it took longer than {PATIENCE:g} s" if done.is_late else said)
    said_of = dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)
    restarts = said_of.get("NRestarts", "")
    return Manager(
        answers=True,
        active=said_of.get("ActiveState", ""),
        enabled=said_of.get("UnitFileState", ""),
        restarts=int(restarts) if restarts.isdecimal() else 0,
        result=said_of.get("Result", ""),
        needs_reload=said_of.get("NeedDaemonReload") == "yes",
    )


def _lingers() -> bool | None:
    """Tell whether this user's services run without a login: systemd keeps a file of that name."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    return os.path.exists(f"/var/lib/systemd/linger/{user_name(os.getuid())}")


def _not_installed(facts: ServiceFacts) -> Iterator[Finding]:
    if facts.is_launchd or facts.manager.answers:
        yield note("service.installed", "hived is not installed as a service", INSTALL)
    else:
        said = f"hived is not installed as a service, and cannot be here: {facts.manager.why}"
        yield note("service.installed", said, brief=facts.manager.is_there)


def _installed_unit(facts: ServiceFacts) -> Iterator[Finding]:
    yield ok("service.installed", f"installed as {facts.path}")
    python = facts.unit.interpreter or "(none)"
    if not facts.can_run:
        yield fail("service.interpreter", f"its Python {python} is not there", INSTALL)
    elif facts.version is None:
        yield fail("service.interpreter", f"its Python {python} does not tell of a hived", INSTALL)
    elif facts.version != facts.ours:
        said = f"it runs version {facts.version}, and this program is version {facts.ours}"
        yield warn("service.version", said, INSTALL)
    else:
        yield ok("service.version", f"it runs version {facts.version} by {python}")
    if facts.drift is not None:
        yield of_fault(facts.drift, "warn")
    elif facts.unit.changed:
        lines = "; ".join(line.partition("] ")[2] for line in facts.unit.changed[:3])
        many = len(facts.unit.changed)
        said = f"its file lacks {many} of our lines ({lines}{'; …' if many > 3 else ''})"
        yield warn("service.edited", said, INSTALL)
    else:
        yield ok("service.drift", "its file is as this version writes it")


def _state(facts: ServiceFacts) -> Iterator[Finding]:
    manager, name = facts.manager, facts.name
    if facts.is_launchd:
        return
    if not manager.answers:
        said = f"the service manager of this user does not answer: {manager.why}"
        yield warn("service.manager", said, "loginctl user-status")
        return
    if manager.needs_reload:
        said = "its file was changed and not read again"
        yield warn("service.reload", said, "systemctl --user daemon-reload")
    if manager.active == "active":
        yield ok("service.active", f"{name} is active", brief=True)
    elif manager.active == "failed":
        yield fail("service.active", f"{name} failed ({manager.result})", "hived logs")
    else:
        yield warn("service.active", f"{name} is {manager.active}", "hived service start")
    if manager.enabled == "enabled":
        yield ok("service.enabled", "it starts with the login")
    else:
        said = f"it does not start with the login ({manager.enabled or 'not enabled'})"
        yield warn("service.enabled", said, INSTALL)
    if manager.restarts:
        often = "once" if manager.restarts == 1 else f"{manager.restarts} times"
        yield warn("service.restarts", f"systemd restarted it {often}", "hived logs")


def _linger(facts: ServiceFacts) -> Iterator[Finding]:
    if facts.lingers:
        yield ok("service.linger", f"it runs also while {facts.user} is not logged in")
    elif facts.lingers is False:
        said, mend = f"it ends when {facts.user} logs out", f"loginctl enable-linger {facts.user}"
        yield note("service.linger", said, mend, brief=False)
