"""Installing, removing, starting and stopping: what is done, in order, and what is said of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

import msgspec

from hived.cli.running import sentence
from hived.cli.service.here import Here
from hived.cli.service.variables import consented
from hived.daemon.code import own_code
from hived.service.files import remove_file
from hived.service.installing import plan, remove, write
from hived.service.stamp import drift
from hived_client.doors.launch import wait_gone
from hived_client.doors.paths import ensure_folder
from hived_client.doors.sync import Client
from hived_client.doors.wire import Welcome
from hived_client.errors import HivedError, Unavailable
from hived_client.vocabulary.faults import fault


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an action came to, as ``--json`` shows it."""

    action: str
    name: str
    """What the service manager calls the service."""
    path: str
    changed: tuple[str, ...] = ()
    """A sentence for each thing that was changed."""
    environment_file: str | None = None
    environment: tuple[str, ...] = ()
    """Names of the caller's variables that matter to hived."""
    taken_over: tuple[str, ...] = ()
    """Names of those that the service has."""
    pid: int | None = None
    version: str | None = None
    managed_by: str | None = None


def act(here: Here, options: argparse.Namespace) -> Outcome:
    """Do what was asked for, whichever service manager is there. Raises ``Unavailable``."""
    acts = {"install": _install, "uninstall": _uninstall, "start": _start, "restart": _start, "stop": _stop}
    return acts[options.action](here, options)


def _install(here: Here, options: argparse.Namespace) -> Outcome:
    here.require_manager()
    variables = consented(here, options)
    wanted = plan(here.manager, here.order, variables)
    said: list[str] = []
    _make_way(here, said)
    changed = _dropped(here, variables) if variables is not None else ()
    if options.without_environment or variables == {}:
        changed += _without_environment(here)
    changed += write(here.manager, wanted)
    said += changed
    state = here.manager.state()
    if not state.enabled:
        here.manager.enable()
        said.append(f"{here.manager.shown} starts with every login")
    if not state.is_active:
        here.manager.start()
        said.append(f"{here.manager.shown} was started")
    elif changed or _runs_other_code(here):
        here.manager.restart()
        said.append(f"{here.manager.shown} was started again")
    greeting = here.wait_ready(options.timeout)
    if not said:
        said.append(f"{here.manager.shown} is installed as this version writes it; nothing was changed")
    return _outcome(here, "install", said, greeting)


def _runs_other_code(here: Here) -> bool:
    """Tell whether old code runs on in a daemon whose file is up to date: it was replaced in its place."""
    try:
        with Client(here.where) as client:
            return client.statistics(timeout=1.0).get("code") != own_code()
    except HivedError:
        return False


def _uninstall(here: Here, options: argparse.Namespace) -> Outcome:
    if here.installed is None:  # a package's own is the package manager's to remove
        raise Unavailable(fault("service.not_installed", name=here.manager.shown))
    here.require_manager()
    runs_on = _runs_on(here)
    said = [*remove(here.manager), *runs_on]
    kept = f"what hived knew, and its logs, stay in {here.where.state}"
    return _outcome(here, "uninstall", [*said, kept] if os.path.isdir(here.where.state) else said, None)


def _start(here: Here, options: argparse.Namespace) -> Outcome:
    here.require_installed()
    said: list[str] = []
    before = here.manager.state()
    if options.action == "restart" and before.is_active:
        here.manager.restart()
        said.append(f"{here.manager.shown} was started again")
    elif before.active != "active":
        _make_way(here, said)
        here.manager.start()
        said.append(f"{here.manager.shown} was started")
    else:
        said.append(f"{here.manager.shown} runs already")
    greeting = here.wait_ready(options.timeout)
    drifted = drift(*here.found, here.manager.supervision) if here.found is not None else None
    if drifted is not None:
        print(sentence(drifted), file=sys.stderr)
    return _outcome(here, options.action, said, greeting)


def _stop(here: Here, options: argparse.Namespace) -> Outcome:
    here.require_installed()
    if not here.manager.state().is_active:
        return _outcome(here, "stop", [f"{here.manager.shown} does not run"], None)
    runs_on = _runs_on(here)
    here.manager.stop()
    again = "it starts again with the next login; hived service uninstall ends that"
    return _outcome(here, "stop", [f"{here.manager.shown} was stopped", again, *runs_on], None)


def _runs_on(here: Here) -> tuple[str, ...]:
    """Say which servers outlive the daemon: those that it has started."""
    try:
        with Client(here.where) as client:
            started = client.statistics(timeout=1.0)["jobs"]["started"]
    except (HivedError, KeyError, TypeError):
        return ()
    names = ", ".join(map(str, started))
    return (f"what hived started runs on: {names}",) if names else ()


def _dropped(here: Here, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Say which variables the service will have no longer."""
    names = [name for name in here.taken_over if name not in variables]
    return tuple(f"{name} is not set here, and no longer for the service" for name in names)


def _without_environment(here: Here) -> tuple[str, ...]:
    path = here.manager.environment_file
    return (f"removed {path}",) if remove_file(path) else ()


def _make_way(here: Here, said: list[str]) -> None:
    """Have a daemon that a client started end, so that the service's can take its place."""
    ensure_folder(here.where.state)
    ensure_folder(here.where.logs)
    greeting = here.greeting()
    if greeting is None or greeting.managed_by == here.manager.supervision:
        return
    if greeting.managed_by != "client":
        raise Unavailable(fault("service.foreign_daemon", pid=greeting.pid, managed_by=greeting.managed_by))
    with Client(here.where) as client:
        client.retire()
    if not wait_gone(here.where, greeting):
        why = f"pid {greeting.pid} was asked to end, and has not"
        raise Unavailable(fault("daemon.unresponsive", why=why))
    said.append(f"the hived that a program had started (pid {greeting.pid}) has ended")


def _outcome(here: Here, action: str, said: list[str] | tuple[str, ...], greeting: Welcome | None) -> Outcome:
    taken = tuple(here.taken_over)
    return Outcome(
        action=action,
        name=here.manager.shown,
        path=here.manager.path,
        changed=tuple(said),
        environment_file=here.manager.environment_file if taken else None,
        environment=tuple(here.variables),
        taken_over=taken,
        pid=greeting.pid if greeting is not None else None,
        version=greeting.version if greeting is not None else None,
        managed_by=greeting.managed_by if greeting is not None else None,
    )
