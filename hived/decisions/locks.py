"""Why a server that wants a key was not given one that it takes, and what helps. Pure.

hived reads a key in its own environment, and whoever calls the model in theirs: a service has not the
variables of its user's shell. So "hived has none" is said apart from "the server takes it not", and a caller
who has the key is not refused for it (``doors.ask``).
"""

from __future__ import annotations

from collections.abc import Mapping

from hived.decisions.outcomes import Circumstances
from hived_client.vocabulary.faults import Fault, Value, fault
from hived_client.vocabulary.localities import may_have_key
from hived_client.vocabulary.world import Daemon, Endpoint

# It takes the variable as it is set where the command is given, into a file that only the service reads.
_GIVE = "hived service install --with-environment"


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
    is_service = daemon is not None and daemon.managed_by in ("systemd", "launchd")
    return fault("server.key_unset", **fields, pid=pid, give=_GIVE if is_service else None)
