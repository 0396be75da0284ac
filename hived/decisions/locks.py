"""Why a server that wants a key was not given one that it takes, and what helps. Pure.

hived reads a key in its own environment, and whoever calls the model in theirs: a service has not the
variables of its user's shell. So "hived has none" is said apart from "the server takes it not", and a caller
who has the key is not refused for it (``doors.ask``).
"""

from __future__ import annotations

from collections.abc import Mapping

from hived.decisions.addresses import may_have_key
from hived.decisions.outcomes import Circumstances
from hived_client.vocabulary.faults import RESTARTS, Fault, Value, fault
from hived_client.vocabulary.world import Daemon, Endpoint

# Both take the variable as it is set where the command is given: no key is written down on the way.
_GIVE: Mapping[str, str] = {
    "systemd": "systemctl --user import-environment {variable}",
    "launchd": 'launchctl setenv {variable} "${variable}"',
}


def locked(
    endpoint: Endpoint, now: Circumstances, daemon: Daemon | None, fields: Mapping[str, Value]
) -> Fault:
    """Return the fault of a server that wants a key."""
    if endpoint.key_ref is None:
        return fault("server.unauthorised", **fields)
    if not may_have_key(endpoint.url):
        return fault("server.key_withheld", **fields)
    if not now.key_unset:
        return fault("server.unauthorised", **fields)
    pid = None if daemon is None else daemon.pid
    return fault("server.key_unset", **fields, pid=pid, give=_give(daemon, endpoint.key_ref))


def _give(daemon: Daemon | None, variable: str) -> str | None:
    """Return the command that gives hived a variable; ``None`` where nobody looks after hived."""
    if daemon is None or daemon.managed_by not in _GIVE:
        return None
    return f"{_GIVE[daemon.managed_by].replace('{variable}', variable)} && {RESTARTS[daemon.managed_by]}"
