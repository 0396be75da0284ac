"""When to look at a server next, and how. Pure.

A *look* asks the server over HTTP, which servers write into their users' logs: at rest there are at
most four a minute. A *knock* only opens a connection and closes it, which no server logs: it tells
within two seconds that a server came up or went away.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint

AT_REST = 15.0
"""Seconds between two looks at a server where nothing changes: four a minute."""
KNOCK = 2.0
"""Seconds between two knocks."""
CHANGING = 0.1
"""Seconds between two looks at a server that is starting or loading, in its first moments."""
CHANGING_LATER = 1.0
"""The same, once it has been at it for ``PATIENCE`` seconds."""
PATIENCE = 10.0
FARTHEST = 60.0
"""Seconds between two tries for a server that is away and not on this device, at most."""
JITTER = 0.1
"""Share by which a wait varies, so that many monitors do not come to march in step."""
_GREETED = frozenset({"lm_studio", "openai_compatible"})
"""Providers that say nothing of their models without the key, if there is one."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What comes next for an endpoint."""

    look: float | None
    """Seconds until the next look; ``None``: only when a knock, a push or a question gives cause."""
    knock: float | None
    """Seconds between two knocks until then; ``None``: none is needed."""

    @property
    def cadence(self) -> float:
        """Seconds after which the state will have been confirmed again."""
        return min(wait for wait in (self.look, self.knock, FARTHEST) if wait is not None)


def plan(
    endpoint: Endpoint, *, failures: int, now: float, watched: bool, random: Callable[[], float]
) -> Plan:
    """Decide what comes next.

    ``failures``: looks in a row that brought no answer. ``now``: seconds since the epoch. ``watched``:
    that the server goes away is told by the system, with its process. ``random``: a number from 0 to 1.
    """
    jitter = 1.0 + JITTER * (2.0 * random() - 1.0)
    near = (
        locality_of(endpoint.url) == "device"
    )  # of a gateway only the address is near, and that counts here
    if endpoint.state in ("starting", "loading"):
        lasting = now - endpoint.since if endpoint.since is not None else 0.0
        # A clock that was set back must not make the hurry last until it has caught up.
        return Plan(look=CHANGING if 0 <= lasting < PATIENCE else CHANGING_LATER, knock=None)
    if endpoint.state in CALLABLE or endpoint.state == "unauthorised":
        look = AT_REST * requests_at_rest(endpoint)
        return Plan(look=look, knock=None if watched or not near else KNOCK * jitter)
    if endpoint.state == "wrong_server":
        # Known for what it is: on a guessed port it is asked again only after the port has been away. An
        # address that somebody gave may be that of a gateway which is not ready yet.
        guessed = near and endpoint.source in GUESSED
        return Plan(look=None if guessed else FARTHEST * jitter, knock=KNOCK * jitter if near else None)
    if endpoint.state == "down":
        return Plan(look=None, knock=(KNOCK if near else backoff(failures, KNOCK, FARTHEST)) * jitter)
    # Unreachable, failed, unknown: only a look can tell.
    return Plan(look=backoff(failures, KNOCK, AT_REST if near else FARTHEST) * jitter, knock=None)


def requests_at_rest(endpoint: Endpoint) -> int:
    """Return how many requests a look costs at rest: more where the server must show what it is first."""
    greets = endpoint.mode == "router" or endpoint.provider in _GREETED or endpoint.state == "sleeping"
    keyed = endpoint.key_ref is not None and greets
    foreign = any(warning.code == "server.other_dialect" for warning in endpoint.warnings)
    if endpoint.state == "unauthorised" and endpoint.provider == "vllm" and endpoint.key_ref is not None:
        return 3  # what it is, that it wants a key, and that it does not take ours
    if endpoint.state in CALLABLE and endpoint.provider == "vllm" and not foreign:
        return 2  # its metrics do not tell which adapters it has
    return 2 if endpoint.state == "unauthorised" or keyed or foreign else 1


def backoff(failures: int, first: float, most: float) -> float:
    """Return ``first`` doubled for every failure after the first, and at most ``most`` seconds."""
    return min(most, first * 2.0 ** min(max(0, failures - 1), 16))
