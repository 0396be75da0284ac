"""Keep services running: one that crashes is started again, after a wait that grows.

A crash is logged once with its trace and touches nobody else. A service that returns is done. The wait
has full jitter and forgets its failures after a minute of health.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog

from hived.decisions.cadence import backoff

FIRST_WAIT = 0.5
"""Seconds before the first restart, at most."""
LONGEST_WAIT = 60.0
HEALTHY = 60.0
"""Seconds after which a service counts as healthy again."""

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs services and remembers how they fare."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._restarts: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._resting: set[str] = set()

    def __repr__(self) -> str:
        return f"<Supervisor {sum(self._restarts.values())} restarts>"

    def statistics(self) -> dict[str, object]:
        """Return restarts and last errors by service."""
        return {"restarts": dict(self._restarts), "errors": dict(self._errors)}

    def is_resting(self, name: str) -> bool:
        """Tell whether a service crashed and waits to be started again."""
        return name in self._resting

    async def keep(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service until it returns."""
        failures = 0
        while True:
            began = anyio.current_time()
            try:
                await service()
            except Exception as error:
                failures = 1 if anyio.current_time() - began > HEALTHY else failures + 1
                self._restarts[name] = self._restarts.get(name, 0) + 1
                self._errors[name] = f"{type(error).__name__}: {error}"[:500]
                wait = self._random() * backoff(failures, FIRST_WAIT, LONGEST_WAIT)
                log.exception("service.crashed", service=name, failures=failures, wait=round(wait, 3))
                self._resting.add(name)
                try:
                    await anyio.sleep(wait)
                finally:
                    self._resting.discard(name)
            else:
                return
