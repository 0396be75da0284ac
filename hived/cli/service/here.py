"""The caller's surroundings: which service would be theirs, what looks after it, and the daemon that runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from hived.configuration.reading import read_settings
from hived.machine.commands import run_bounded
from hived.service.files import read_file
from hived.service.interface import Order, ServiceManager, as_root
from hived.service.launchd import Launchd
from hived.service.surroundings import path_of, places_of, read_environment_file, variables_of
from hived.service.systemd import Systemd
from hived_client.doors.paths import Places, places
from hived_client.doors.service import service_name
from hived_client.doors.sync import Client
from hived_client.doors.wire import Welcome
from hived_client.errors import HivedError, Unavailable
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.services import service_files, supervision_of

POLL = 0.05
"""Seconds between two questions to a daemon that is being started."""


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
            path=path_of(environment.get("PATH", "")) or path_of(os.defpath),
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


def _text(path: str) -> str | None:
    raw = read_file(path)
    return raw.decode("utf-8", "replace") if raw is not None else None
