"""What the user service is called and where its file lies, for systemd and for launchd. Pure.

A home folder of its own (``HIVE_HOME``) has a daemon of its own, and so a service of its own: the name is
that of the daemon's state folder, ``hived`` or ``hived-`` and 8 hex digits of the home.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Literal

from hived_client.vocabulary.homes import home_of

AGENT = "dev.hive.hived"
"""Label of the launchd agent, and the name of its template."""

Supervision = Literal["systemd", "launchd"]

PLACES = ("HIVE_HOME", "HIVED_RUNTIME_DIR", "XDG_STATE_HOME")
"""Variables that decide where a daemon's files are: a service has them of whoever installed it."""


def supervision_of(platform: str) -> Supervision:
    """Return what looks after services on a platform, as ``sys.platform`` names it."""
    return "launchd" if platform == "darwin" else "systemd"


def unit_name(name: str) -> str:
    """Return the name of a systemd unit."""
    return f"{name}.service"


def agent_label(name: str) -> str:
    """Return the label of a launchd agent."""
    return f"{AGENT}{name.removeprefix('hived')}"


def own_unit_folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders in which systemd looks for a user's own units (systemd.unit(5)), the first first."""
    given = environment.get("XDG_CONFIG_HOME", "")
    first = (f"{given.rstrip('/')}/systemd/user",) if given.startswith("/") else ()
    return tuple(dict.fromkeys((*first, f"{home_of(environment)}/.config/systemd/user")))


def unit_folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return every folder that may hold a user unit: the user's own, and those of packages."""
    return (
        *own_unit_folders(environment),
        f"{home_of(environment)}/.local/share/systemd/user",
        "/etc/systemd/user",
        "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/user",
        "/lib/systemd/user",
    )


def service_files(name: str, environment: Mapping[str, str], supervision: Supervision) -> tuple[str, ...]:
    """Return where the file of a service may lie, the first that is there counts."""
    if supervision == "launchd":
        return (f"{home_of(environment)}/Library/LaunchAgents/{agent_label(name)}.plist",)
    return tuple(f"{folder}/{unit_name(name)}" for folder in unit_folders(environment))


def quoted_setting(variable: str, value: str) -> str:
    """Write one assignment of ``Environment=`` as systemd reads it (systemd.syntax(7))."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{variable}={escaped}"'


def environment_lines(variables: Mapping[str, str]) -> bytes:
    """Write variables as systemd reads them from a file (``EnvironmentFile=`` of systemd.exec(5)).

    What it could not read is left out: names that are none, and what is no text.
    """
    lines = []
    for name, value in variables.items():
        if not (name.isascii() and name.isidentifier()) or "\0" in value:
            continue
        escaped = "".join(f"\\{letter}" if letter in '"\\`$' else letter for letter in value)
        with contextlib.suppress(UnicodeEncodeError):
            lines.append(f'{name}="{escaped}"\n'.encode())
    return b"".join(lines)


def settings_of(text: str, supervision: Supervision) -> dict[str, str]:
    """Return the variables that the file of a service sets; none for one that makes no sense."""
    return _unit_settings(text) if supervision == "systemd" else _agent_settings(text)


def _unit_settings(text: str) -> dict[str, str]:
    import shlex

    found: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.strip().partition("=")
        if name.strip() != "Environment":
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        pairs = [word.replace("%%", "%").partition("=") for word in words]
        found |= {variable: setting for variable, equals, setting in pairs if equals}
    return found


def _agent_settings(text: str) -> dict[str, str]:
    import plistlib

    try:
        document = plistlib.loads(text.encode())
    except (ValueError, plistlib.InvalidFileException, AttributeError, IndexError, RecursionError):
        return {}
    given = document.get("EnvironmentVariables") if isinstance(document, dict) else None
    settings = given if isinstance(given, dict) else {}
    return {name: value for name, value in settings.items() if isinstance(value, str)}
