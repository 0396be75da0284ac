"""Which endpoint shows what lies on this device's disk. Pure.

A provider's models on disk belong to no one of its endpoints, and are shown once: at the endpoint at which
its server would most likely be started.
"""

from __future__ import annotations

from collections.abc import Iterable

from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import Endpoint


def keeper_of_shelf(endpoints: Iterable[Endpoint], provider: str) -> str | None:
    """Return the name of the endpoint that shows what is on disk; ``None`` where there is none for it.

    It is on this device, and not a server that hived started, which has the one model that it was started
    with. The one that is called like its provider goes before the others, and these go in their order.
    """
    own = [
        endpoint
        for endpoint in endpoints
        if endpoint.provider == provider
        and endpoint.source != "started"
        and locality_of(endpoint.url) == "device"
    ]
    own.sort(key=lambda endpoint: endpoint.name != provider)
    return own[0].name if own else None
