"""The user service: whether there is one, whether it runs and is ours, and which programs it would find."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

import msgspec

from hived.cli import VERBS
from hived.cli.doctor.findings import Finding, fail, note, ok, warn
from hived.cli.doctor.unit import Unit, read_plist, read_unit
from hived.machine.commands import run_bounded
from hived.machine.owners import user_name
from hived.service.templates import read_template

PROGRAMS = ("ollama", "llama-server", "vllm", "lms", "nvidia-smi")
"""Programs that hived runs, or whose place it tells."""
AGENT = "dev.hive.hived"
MOST_BYTES = 65_536


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """What the service manager says of the unit."""

    answers: bool
    why: str = ""
    active: str = ""
    enabled: str = ""
    restarts: int = 0
    result: str = ""
    needs_reload: bool = False


class ServiceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the service."""

    name: str
    """``hived.service``, ``hived-<8 hex>.service`` of another home, or the label of an agent."""
    is_launchd: bool = False
    path: str | None = None
    """The unit's file; ``None``: it is not installed."""
    unit: Unit = Unit()
    can_run: bool = True
    """Whether its interpreter is there."""
    version: str | None = None
    """The version of hived that the interpreter has; ``None``: none, or it was not asked."""
    ours: str = ""
    """The version of this program."""
    manager: Manager = Manager(answers=False)
    lingers: bool | None = None
    user: str = ""
    seen: dict[str, str | None] = {}
    """Where the caller finds each program."""
    seen_by_service: dict[str, str | None] | None = None
    """Where the service does; ``None``: its PATH is not known."""


def read_service(
    name: str, environment: Mapping[str, str], version: str, daemon_path: str | None
) -> ServiceFacts:
    """Look for the service. ``name`` is ``hived``, or ``hived-<8 hex>`` of another home. Blocks.

    ``daemon_path`` is the PATH of the daemon that runs, where it is known.
    """
    is_launchd = sys.platform == "darwin"
    path, unit = _installed(name, environment, is_launchd=is_launchd)
    service_path = daemon_path if daemon_path is not None else unit.path
    return ServiceFacts(
        name=(AGENT if name == "hived" else f"{AGENT}{name.removeprefix('hived')}")
        if is_launchd
        else f"{name}.service",
        is_launchd=is_launchd,
        path=path,
        unit=unit,
        can_run=os.access(unit.interpreter, os.X_OK),
        version=version_of(unit.interpreter) if path is not None else None,
        ours=version,
        manager=Manager(answers=False) if is_launchd else _ask_systemd(f"{name}.service", environment),
        lingers=None if is_launchd else _lingers(),
        user=user_name(os.getuid()),
        seen=_programs(environment.get("PATH", "")),
        seen_by_service=_programs(service_path) if service_path is not None else None,
    )


def check_service(facts: ServiceFacts) -> list[Finding]:
    """Judge it."""
    if facts.path is None:
        return [*_not_installed(facts), *_programs_seen(facts)]
    return [*_installed_unit(facts), *_state(facts), *_linger(facts), *_programs_seen(facts)]


def install() -> str:
    """Return the command that installs the service, or what does for it."""
    return "hived service install" if "service" in VERBS else "hived serve"


def version_of(interpreter: str) -> str | None:
    """Ask an interpreter for its hived's version; ``None`` where it has none. It writes nothing (``-B``)."""
    if not os.path.isabs(interpreter) or not os.access(interpreter, os.X_OK):
        return None
    code = "from hived_client._version import __version__; print(__version__)"
    done = run_bounded((interpreter, "-B", "-P", "-c", code), seconds=2.0)
    said = done.out.strip() if done is not None and done.code == 0 else ""
    return said if re.fullmatch(r"[0-9A-Za-z.+!-]{1,40}", said) else None


def _installed(name: str, environment: Mapping[str, str], *, is_launchd: bool) -> tuple[str | None, Unit]:
    home = environment.get("HOME", "")
    if is_launchd:
        label = AGENT if name == "hived" else f"{AGENT}{name.removeprefix('hived')}"
        path = f"{home}/Library/LaunchAgents/{label}.plist"
        raw = _read(path)
        return (path, read_plist(raw) or Unit()) if raw is not None else (None, Unit())
    folders = [environment.get("XDG_CONFIG_HOME") or f"{home}/.config"]
    units = [f"{folder}/systemd/user" for folder in folders]
    units += [f"{home}/.local/share/systemd/user", "/etc/systemd/user", "/usr/local/lib/systemd/user"]
    for folder in (*units, "/usr/lib/systemd/user", "/lib/systemd/user"):
        path = f"{folder}/{name}.service"
        raw = _read(path)
        if raw is not None:
            return path, read_unit(raw.decode("utf-8", "replace"), read_template("systemd"))
    return None, Unit()


def _ask_systemd(unit: str, environment: Mapping[str, str]) -> Manager:
    if not os.path.isdir("/run/systemd/system"):
        return Manager(answers=False, why="systemd does not run on this system")
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not os.path.exists(f"{runtime}/systemd/private"):
        return Manager(answers=False, why="this user has no systemd of its own")
    names = "ActiveState,UnitFileState,NRestarts,Result,NeedDaemonReload"
    given = {**environment, "XDG_RUNTIME_DIR": runtime}
    words = ("systemctl", "--user", "show", unit, "-p", names)
    done = run_bounded(words, seconds=2.0, environment=given)
    if done is None:
        return Manager(answers=False, why="systemctl is not installed")
    if done.code != 0:
        first = (done.err.strip().splitlines() or [""])[0][:120]
        return Manager(
            answers=False, why="it took longer than 2 s" if done.is_late else first or "it says nothing"
        )
    said = dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)
    restarts = said.get("NRestarts", "")
    return Manager(
        answers=True,
        active=said.get("ActiveState", ""),
        enabled=said.get("UnitFileState", ""),
        restarts=int(restarts) if restarts.isdigit() else 0,
        result=said.get("Result", ""),
        needs_reload=said.get("NeedDaemonReload") == "yes",
    )


def _lingers() -> bool | None:
    """Tell whether this user's services run without a login: systemd keeps a file of that name."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    return os.path.exists(f"/var/lib/systemd/linger/{user_name(os.getuid())}")


def _programs(path: str) -> dict[str, str | None]:
    return {name: shutil.which(name, path=path) if path else None for name in PROGRAMS}


def _read(path: str) -> bytes | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return None


def _not_installed(facts: ServiceFacts) -> Iterator[Finding]:
    if facts.is_launchd or facts.manager.answers:
        yield note("service.installed", "hived is not installed as a service", install())
    else:
        why = facts.manager.why or "there is none that answers"
        yield note("service.manager", f"no service manager of this user: {why}", brief=False)
        yield note(
            "service.installed",
            "hived is not installed as a service, and cannot be here",
            "hived serve",
            brief=False,
        )


def _installed_unit(facts: ServiceFacts) -> Iterator[Finding]:
    yield ok("service.installed", f"installed as {facts.path}")
    if not facts.can_run:
        yield fail(
            "service.interpreter", f"its Python {facts.unit.interpreter or '(none)'} is not there", install()
        )
    elif facts.version is None:
        yield fail("service.interpreter", f"its Python {facts.unit.interpreter} has no hived", install())
    elif facts.version != facts.ours:
        yield warn(
            "service.version",
            f"it runs version {facts.version}, and this program is version {facts.ours}",
            install(),
        )
    else:
        yield ok("service.version", f"it runs version {facts.version} by {facts.unit.interpreter}")
    if facts.unit.changed:
        lines = "; ".join(line.partition("] ")[2] for line in facts.unit.changed[:3])
        many = len(facts.unit.changed)
        yield warn(
            "service.drift",
            f"its file lacks {many} of our lines ({lines}{'; …' if many > 3 else ''})",
            install(),
        )
    else:
        own = f", and {len(facts.unit.added)} lines of somebody's own" if facts.unit.added else ""
        yield ok("service.drift", f"its file is as this version writes it{own}")


def _state(facts: ServiceFacts) -> Iterator[Finding]:
    manager = facts.manager
    if not manager.answers:
        if not facts.is_launchd:
            yield warn(
                "service.manager",
                f"the service manager of this user does not answer: {manager.why}",
                "loginctl user-status",
            )
        return
    if manager.needs_reload:
        yield warn(
            "service.reload", "its file was changed and not read again", "systemctl --user daemon-reload"
        )
    if manager.active == "active":
        yield ok("service.active", f"{facts.name} is active", brief=True)
    elif manager.active == "failed":
        yield fail(
            "service.active",
            f"{facts.name} failed ({manager.result})",
            f"systemctl --user restart {facts.name}",
        )
    else:
        yield warn(
            "service.active", f"{facts.name} is {manager.active}", f"systemctl --user start {facts.name}"
        )
    if manager.enabled == "enabled":
        yield ok("service.enabled", "it starts with the login")
    else:
        state = manager.enabled or "not enabled"
        yield warn(
            "service.enabled",
            f"it does not start with the login ({state})",
            f"systemctl --user enable {facts.name}",
        )
    if manager.restarts:
        yield warn("service.restarts", f"systemd restarted it {manager.restarts} times", "hived logs")


def _linger(facts: ServiceFacts) -> Iterator[Finding]:
    if facts.lingers is None:
        return
    if facts.lingers:
        yield ok("service.linger", f"it runs also while {facts.user} is not logged in")
    else:
        yield note(
            "service.linger",
            f"it ends when {facts.user} logs out",
            f"loginctl enable-linger {facts.user}",
            brief=False,
        )


def _programs_seen(facts: ServiceFacts) -> Iterator[Finding]:
    if facts.seen_by_service is None:
        return
    same = []
    for name in PROGRAMS:
        here, there = facts.seen.get(name), facts.seen_by_service.get(name)
        if here is not None and there is None:
            yield warn("service.path", f"hived does not find {name}, which is {here} for you", install())
        elif here is None and there is not None:
            yield note("service.path", f"hived finds {name} at {there}, and you do not", brief=False)
        elif here is not None:
            same.append(name if here == there else f"{name} ({there}, and {here} for you)")
    if same:
        yield ok("service.path", f"hived's PATH has {', '.join(same)}")
