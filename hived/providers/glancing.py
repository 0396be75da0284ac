"""How a probe looks: at what is known first, where that is enough, and at everything otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hived.decisions.outcomes import Outcome
from hived.providers.http import Unusable
from hived_client.vocabulary.world import Endpoint

Glance = Callable[[Endpoint], Awaitable[Outcome | None]]
"""Confirms what is known of an endpoint with the fewest requests; ``None`` where it does not fit."""

Whole = Callable[[Endpoint], Awaitable[Outcome]]
"""Asks for everything, and believes nothing that was seen before."""


async def glance_first(endpoint: Endpoint, *, thorough: bool, glance: Glance, whole: Whole) -> Outcome:
    """Glance, and look whole where that does not fit or is not enough: ``thorough``.

    No usable answer is an outcome too. Never raises ``Unusable``; safe to cancel where the two are.
    """
    try:
        if not thorough:
            outcome = await glance(endpoint)
            if outcome is not None:
                return outcome
        return await whole(endpoint)
    except Unusable as error:
        return error.outcome
