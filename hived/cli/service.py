"""``hived service``: hived as a service of this user, under systemd or launchd."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping

import msgspec

from hived.cli.rendering import as_json
from hived.cli.running import YES, seconds, sentence, shown
from hived.configuration.reading import read_settings
from hived.machine.commands import run_bounded
from hived.service.files import read_file
from hived.service.installing import plan, remove, write
from hived.service.interface import Order, ServiceManager, as_root
from hived.service.launchd import Launchd
from hived.service.stamp import differences, drift
from hived.service.surroundings import path_of, places_of, read_environment_file, variables_of
from hived.service.systemd import Systemd
from hived_client.doors.launch import wait_gone
from hived_client.doors.paths import Places, ensure_folder, places
from hived_client.doors.service import service_name
from hived_client.doors.sync import Client
from hived_client.doors.wire import Welcome
from hived_client.errors import HivedError, Unavailable
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.services import service_files, supervision_of

POLL = 0.05
"""Seconds between two questions to a daemon that is being started."""

ACTIONS = {
    "install": "write the service, have it start now and with every login, and wait until it is ready",
    "uninstall": "stop it and remove all that it consists of",
    "show": "print what install would write; writes nothing",
    "start": "start it",
    "stop": "stop it until the next login",
    "restart": "stop it and start it",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=tuple(ACTIONS))
    taking = parser.add_mutually_exclusive_group()
    taking.add_argument(
        "--with-environment",
        action="store_true",
        help="install: write the variables of this shell that matter into a file for the service alone",
    )
    taking.add_argument(
        "--without-environment", action="store_true", help="install: remove that file, and ask nothing"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="for it to be ready (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    width = max(map(len, ACTIONS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(f"{name:{width}}  {what}" for name, what in ACTIONS.items())


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


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What would be written, as ``show --json`` has it."""

    name: str
    path: str
    text: str
    installed: bool
    same: bool
    differences: tuple[str, ...]
    environment_file: str
    environment: tuple[str, ...]


class Here:
    """The caller's surroundings, and the service manager that is there."""

    def __init__(self, environment: Mapping[str, str], python: str, platform: str = sys.platform) -> None:
        self.environment = environment
        self.where: Places = places(environment)
        name = service_name(self.where)
        self.manager: ServiceManager = (
            Launchd(name, environment, run_bounded)
            if supervision_of(platform) == "launchd"
            else Systemd(name, environment, run_bounded)
        )
        self.problem = as_root(environment, os.geteuid()) or self.manager.why_not()
        self.order = Order(
            name=name,
            python=os.path.abspath(python) if python else "",  # never resolved: that would leave the venv
            path=path_of(environment.get("PATH", os.defpath)),
            settings=places_of(environment),
            environment_file=self.manager.environment_file,
            log=f"{self.where.logs}/hived.log",
        )
        self.variables = variables_of(environment, self._keys())

    @property
    def taken_over(self) -> dict[str, str]:
        """The variables that the service has been given."""
        raw = read_file(self.manager.environment_file)
        return read_environment_file(raw.decode("utf-8", "replace")) if raw is not None else {}

    @property
    def installed(self) -> str | None:
        """The service's file as it lies there."""
        return _text(self.manager.path)

    @property
    def found(self) -> tuple[str, str] | None:
        """The file by which the service manager goes, and what is in it: the user's own, or a package's."""
        candidates = service_files(self.order.name, self.environment, self.manager.supervision)
        for path in (self.manager.path, *candidates):
            text = _text(path)
            if text is not None:
                return path, text
        return None

    def require_manager(self) -> None:
        """Raise ``Unavailable`` where nothing could look after a service."""
        if self.problem is not None:
            raise Unavailable(self.problem)

    def require_installed(self) -> None:
        """Raise ``Unavailable`` where there is no service to start or stop."""
        if self.found is None:
            raise Unavailable(fault("service.not_installed", name=self.manager.shown))
        self.require_manager()

    def greeting(self) -> Welcome | None:
        """Return what the daemon says of itself; ``None`` where there is none that answers."""
        try:
            with Client(self.where) as client:
                return client.greet(timeout=1.0)
        except HivedError:
            return None

    def wait_ready(self, timeout: float) -> Welcome:
        """Wait until the service's own daemon answers. Raises ``Unavailable``."""
        deadline = time.monotonic() + timeout
        while True:
            greeting = self.greeting()
            if greeting is not None and greeting.managed_by == self.manager.supervision:
                return greeting
            if greeting is not None:
                raise Unavailable(
                    fault("service.foreign_daemon", pid=greeting.pid, managed_by=greeting.managed_by)
                )
            if time.monotonic() >= deadline:
                why = self.manager.state().why or f"it did not answer within {timeout:g} s"
                raise Unavailable(fault("service.failed", name=self.manager.shown, why=why))
            time.sleep(POLL)

    def _keys(self) -> frozenset[str]:
        """Name the variables of keys that the configuration, or a server's own variable, gives."""
        settings, _ = read_settings(self.where.configuration, self.environment, last_good=None, now=0.0)
        return frozenset(given.key_ref for given in settings.given if given.key_ref)


def run(options: argparse.Namespace) -> int:
    here = Here(os.environ, sys.executable)
    if options.action == "show":
        return _show(here, as_document=options.json)
    outcome = act(here, options)
    if options.json:
        print(as_json(outcome))
        return YES
    for line in outcome.changed:
        print(shown(line))
    if outcome.pid is None:
        return YES
    from hived.cli import status

    return status.run(argparse.Namespace(watch=False, json=False, all=False))


def act(here: Here, options: argparse.Namespace) -> Outcome:
    """Do what was asked for, whichever service manager is there. Raises ``Unavailable``."""
    acts = {"install": _install, "uninstall": _uninstall, "start": _start, "restart": _start, "stop": _stop}
    return acts[options.action](here, options)


def _install(here: Here, options: argparse.Namespace) -> Outcome:
    here.require_manager()
    wanted = plan(here.manager, here.order, _consented(here, options))
    said: list[str] = []
    _make_way(here, said)
    changed = _without_environment(here) if options.without_environment else ()
    changed = (*changed, *write(here.manager, wanted))
    said += changed
    state = here.manager.state()
    if not state.enabled:
        here.manager.enable()
        said.append(f"{here.manager.shown} starts with every login")
    if not state.is_active:
        here.manager.start()
        said.append(f"{here.manager.shown} was started")
    elif changed:
        here.manager.restart()
        said.append(f"{here.manager.shown} was started again")
    greeting = here.wait_ready(options.timeout)
    if not said:
        said.append(f"{here.manager.shown} is installed as this version writes it; nothing was changed")
    return _outcome(here, "install", said, greeting)


def _uninstall(here: Here, options: argparse.Namespace) -> Outcome:
    if here.installed is None:  # a package's own is the package manager's to remove
        raise Unavailable(fault("service.not_installed", name=here.manager.shown))
    here.require_manager()
    said = remove(here.manager)
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
    here.manager.stop()
    again = "it starts again with the next login; hived service uninstall ends that"
    return _outcome(here, "stop", [f"{here.manager.shown} was stopped", again], None)


def _show(here: Here, *, as_document: bool) -> int:
    text = here.manager.render(here.order)
    before = here.installed
    lines = differences(before, text) if before is not None else ()
    found = Shown(
        name=here.manager.shown,
        path=here.manager.path,
        text=text,
        installed=before is not None,
        same=before == text,
        differences=lines,
        environment_file=here.manager.environment_file,
        environment=tuple(here.variables),
    )
    if as_document:
        print(as_json(found))
        return YES
    print(text, end="")
    state = "is as it would be written" if found.same else "would be written otherwise:"
    state = state if found.installed else "is not installed"
    print(f"{shown(found.path)} {state}", file=sys.stderr)
    for line in lines:
        print(f"  {shown(line)}", file=sys.stderr)
    _tell_of_variables(here)
    if here.problem is not None:
        print(sentence(here.problem), file=sys.stderr)
    return YES


def _consented(here: Here, options: argparse.Namespace) -> dict[str, str] | None:
    """Return the variables that are to be taken over, asking where there is somebody to ask."""
    missing = {name for name, value in here.variables.items() if here.taken_over.get(name) != value}
    if options.with_environment:
        return {**here.taken_over, **here.variables}
    if not missing or options.without_environment:
        return None
    if options.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        _tell_of_variables(here)
        return None
    names = ", ".join(sorted(missing))
    print(f"A service does not see these variables of yours: {names}.", file=sys.stderr)
    print(
        f"Write them into {here.manager.environment_file}, which only you can read? [y/N] ",
        end="",
        file=sys.stderr,
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() in ("y", "yes"):
        return {**here.taken_over, **here.variables}
    return None


def _tell_of_variables(here: Here) -> None:
    """Name the variables that the service would not have; what they hold is nobody's business."""
    missing = sorted(name for name, value in here.variables.items() if here.taken_over.get(name) != value)
    if missing:
        print(f"a service does not see these variables of yours: {', '.join(missing)}", file=sys.stderr)
        print("  → hived service install --with-environment", file=sys.stderr)


def _text(path: str) -> str | None:
    raw = read_file(path)
    return raw.decode("utf-8", "replace") if raw is not None else None


def _without_environment(here: Here) -> tuple[str, ...]:
    from hived.service.files import remove_file

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
    wait_gone(here.where, greeting)
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
