"""How an endpoint is reached: in what time, and with which key.

The rule that must hold: a key is asked for here only after the server has shown what it is, and it is
never sent in the clear to the internet.
"""

from __future__ import annotations

from collections.abc import Mapping

from hived.providers.http import FAR_TIMEOUT, LOOK_TIMEOUT
from hived_client.vocabulary.localities import locality_of, may_have_key
from hived_client.vocabulary.world import Endpoint


def timeout_for(endpoint: Endpoint) -> float:
    """Return the seconds that one whole answer of an endpoint may take."""
    return LOOK_TIMEOUT if locality_of(endpoint.url) == "device" else FAR_TIMEOUT


def key_for(endpoint: Endpoint, environment: Mapping[str, str]) -> str | None:
    """Return an endpoint's key; ``None`` where there is none or it may not be sent.

    The address decides, not what was last believed of it: a gateway's locality is unknown, and the
    server that comes back in its place must get its key.
    """
    if endpoint.key_ref is None or not may_have_key(endpoint.url):
        return None
    return environment.get(endpoint.key_ref, "").strip() or None
