"""The home folder of a user, in an environment that may not name one: cron, containers, a service manager."""

from __future__ import annotations

import os
from collections.abc import Mapping


def home_of(environment: Mapping[str, str]) -> str:
    """Return ``HOME``, else what the system's list of users says; ``~`` where neither knows one."""
    return environment.get("HOME") or os.path.expanduser("~")
