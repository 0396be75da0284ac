"""The installed user service, as a client sees it: whether there is one for these places, and starting it.

Nothing is installed, removed or repaired here, and nothing is asked of a service manager until a service is
to be started. A service counts only if its daemon would have the very places that the caller looks at.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping

import msgspec

from hived_client.doors.paths import Places, places
from hived_client.doors.regular import open_regular
from hived_client.errors import HivedError, StartFailed
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.services import (
    PLACES,
    Supervision,
    agent_label,
    service_files,
    settings_of,
    supervision_of,
    unit_name,
)

MOST_BYTES = 65_536

NOT_LOADED = frozenset((3, 113))
"""Exit codes of ``launchctl`` for an agent that launchd does not have (ESRCH; "could not find service")."""

NO_DOMAIN = 125
"""Its exit code for a domain that is not there: nobody is logged in at the screen."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service that is installed."""

    name: str
    supervision: Supervision
    path: str
    text: str
    """Its file, whole."""

    @property
    def shown(self) -> str:
        """What its service manager calls it."""
        return unit_name(self.name) if self.supervision == "systemd" else agent_label(self.name)


def service_name(where: Places) -> str:
    """Return the name of the service of these places, installed or not."""
    return os.path.basename(where.state)


def find_service(
    where: Places, environment: Mapping[str, str], platform: str = sys.platform
) -> Service | None:
    """Return the service whose daemon has these places. Reads one file at most, and never raises."""
    supervision = supervision_of(platform)
    name = service_name(where)
    for path in service_files(name, environment, supervision):
        text = _read(path)
        if text is None:
            continue
        found = Service(name=name, supervision=supervision, path=path, text=text)
        return found if _has_places(found, where, environment) else None
    return None


def start_service(service: Service, environment: Mapping[str, str], timeout: float) -> bool:
    """Have the service started, and wait until systemd says that it is ready, or launchd that it was begun.

    ``False``: there is no service manager that could (a container, a login without one). Raises
    ``StartFailed`` with its words where it says no.
    """
    if service.supervision == "launchd":
        done = _start_agent(service, environment, time.monotonic() + timeout)
    else:
        runtime = user_runtime(environment)
        if runtime is None:
            return False
        words = ("systemctl", "--user", "start", service.shown)
        done = _run(service, words, {**environment, "XDG_RUNTIME_DIR": runtime}, timeout)
    if done is None:
        return False
    if done.returncode == 0:
        return True
    said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0].rstrip(".")
    why = said or f"{done.args[0]} ended with code {done.returncode}"
    raise StartFailed(fault("service.failed", name=service.shown, why=why))


def user_runtime(environment: Mapping[str, str], root: str = "") -> str | None:
    """Return the runtime folder in which a systemd of this user listens; ``None``: there is none.

    ``XDG_RUNTIME_DIR`` is missing in cron, ``su`` and some ssh logins, where the manager runs all the same.
    """
    for folder in (environment.get("XDG_RUNTIME_DIR", ""), f"{root}/run/user/{os.getuid()}"):
        try:
            found = os.lstat(f"{folder}/systemd/private")
        except (OSError, ValueError):
            continue
        if folder.startswith("/") and stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid():
            return folder
    return None


def launchd_domains() -> tuple[str, str]:
    """Return the domains in which an agent may be: that of the screen's session, else the user's own."""
    return f"gui/{os.getuid()}", f"user/{os.getuid()}"


def _start_agent(
    service: Service, environment: Mapping[str, str], deadline: float
) -> subprocess.CompletedProcess[bytes] | None:
    """Start an agent wherever launchd has it; where it has it nowhere, give it the file first.

    ``hived service stop`` takes an agent out, since launchd would start what it has again. What ``bootstrap``
    says is no answer (5 for an agent that somebody else has just loaded): the ``kickstart`` after it is.
    """

    def ask(*words: str) -> subprocess.CompletedProcess[bytes] | None:
        return _run(service, ("launchctl", *words), environment, deadline - time.monotonic())

    refused = None
    for is_loaded in (True, False):
        for domain in launchd_domains():
            if not is_loaded:
                ask("bootstrap", domain, service.path)
            done = ask("kickstart", f"{domain}/{service.shown}")
            if done is None or done.returncode == 0:
                return done
            if done.returncode != NO_DOMAIN:
                refused = done
        if refused is None or refused.returncode not in NOT_LOADED:
            break
    return refused or done


def _run(
    service: Service, words: tuple[str, ...], environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a program of the service manager; ``None`` where there is none."""
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(timeout, 0.1),
            env={**environment, "LC_ALL": "C"},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartFailed(
            fault(
                "deadline", what=f"the start of {service.shown}", seconds=timeout, mend="hived service show"
            )
        ) from error
    except OSError:
        return None


def _has_places(service: Service, where: Places, environment: Mapping[str, str]) -> bool:
    """Tell whether the service's daemon has these places, by what its file sets."""
    settings = settings_of(service.text, service.supervision)
    base = {name: value for name, value in environment.items() if name not in PLACES}
    try:
        theirs = places({**base, **{name: settings[name] for name in PLACES if name in settings}})
    except HivedError:
        return False
    return theirs == where


def _read(path: str) -> str | None:
    try:
        with open_regular(path) as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
