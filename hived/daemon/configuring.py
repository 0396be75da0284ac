"""Follows the configuration: read when it changes or somebody wants it, and made into endpoints.

What the endpoints are to be is decided by plain functions (`hived.decisions.expected`, `configured`); here
their causes are put together: the configuration, the environment, what hived started, the default ports.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

import anyio
import msgspec
import structlog

from hived.configuration.reading import Settings, read_settings, unreadable
from hived.daemon.aside import Aside
from hived.daemon.clock import Clock, until_next
from hived.daemon.logs import configure_logs
from hived.daemon.notify import Notifier
from hived.daemon.probes import Probes, lm_studio_guess
from hived.daemon.store import Store
from hived.decisions.autostart import Autostart
from hived.decisions.configured import attach
from hived.decisions.expected import Given, expected
from hived.decisions.transitions import configure, expect
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import Configuration, Endpoint

POLL = 0.5 / 3
"""Seconds between two looks at the configuration's date. One ``stat`` six times a second costs less than a
watch, and no way of replacing a file (rename, link, folder removed and made again) can hide from it. Every
third look falls together with the daemon's beat."""
LONGEST_READ = 5.0
"""Seconds that the reading of the configuration may take."""
SETTLED = 0.1
"""Seconds after which a file cannot change again without its date showing it: the system's clock for dates
moves in steps, of 10 ms at most where it is slow, and some file systems round."""

log = structlog.get_logger(__name__)


class ConfigurationWatch:
    """The configuration's file, as it was read last, and the endpoints that come of it."""

    def __init__(
        self,
        store: Store,
        probes: Probes,
        path: str,
        environment: Mapping[str, str],
        clock: Clock,
        notifier: Notifier,
        *,
        started: Callable[[], tuple[Given, ...]],
        autostart: Callable[[tuple[Autostart, ...]], None],
    ) -> None:
        """``started``: the endpoints that hived started; ``autostart`` starts what is to run with hived."""
        self._store = store
        self._probes = probes
        self._path = path
        self._environment = environment
        self._clock = clock
        self._notifier = notifier
        self._started = started
        self._autostart = autostart
        self._settings: Settings | None = None
        self._reading = anyio.Lock()
        self._aside = Aside()
        self._is_told = False
        self.turns = 0

    def __repr__(self) -> str:
        return f"<ConfigurationWatch {self._path}, {self.turns} turns>"

    def reload_soon(self) -> None:
        """Have it read again at the next turn."""
        self._is_told = True

    async def run(self) -> None:
        """Read the configuration when it changes, when told to, and now and then in case nobody told."""
        known: tuple[int, ...] | None = None  # it may have changed since it was read at the start
        while True:
            await anyio.sleep(until_next(POLL))  # several times a second: an event to wait for costs twice
            self.turns += 1
            is_told, self._is_told = self._is_told, False
            mark = _mark(self._path)
            if is_told or mark != known or known is None:
                if is_told:
                    await self.reload()
                else:
                    await self.read()
                # What could not be opened (no descriptor left, say) may be tomorrow, and looks the same; and
                # so does what was written again within one step of the clock for dates.
                settled = abs(self._clock.wall() - mark[0] / 1e9) > SETTLED
                known = mark if settled and not self._is_unreadable() else None

    async def reload(self) -> None:
        """Read the configuration because somebody wants it, and tell systemd, which may wait for the end."""
        self._notifier.reloading(self._clock.monotonic_ns())
        try:
            await self.read()
        finally:
            self._notifier.ready()  # else the unit would be "reloading" until somebody starts it anew

    async def read(self) -> None:
        """Read the file, in a thread, and make the World's configuration and endpoints anew."""
        async with self._reading:  # of two at once the older might be believed last
            last_good, now, kinds = self._settings, self._clock.wall(), self._probes.kinds
            place = self._path, self._environment
            read = partial(read_settings, *place, last_good=last_good, now=now, kinds=kinds)
            try:
                found = await self._aside.within(LONGEST_READ, read)
            except TimeoutError:
                why = f"no answer from its disk within {LONGEST_READ:g} s"
                found = unreadable(*place, why, last_good=last_good, now=now, kinds=kinds)
            self._take(*found)

    def _take(self, settings: Settings, configuration: Configuration) -> None:
        self._settings = settings
        configure_logs(settings.log_level)
        before = self._store.world.configuration
        self._store.update(lambda world: configure(world, configuration))
        self.reconcile()
        self._autostart(settings.autostart)
        told = [before.error, *before.problems] if before is not None else []
        for problem in (configuration.error, *configuration.problems):
            if problem is not None and problem.message not in {each.message for each in told if each}:
                log.warning("configuration.problem", why=problem.message)

    def reconcile(self) -> None:
        """Make the endpoints those of the configuration, of what was started, and of the default ports."""
        settings = self._settings or Settings()
        guesses = lm_studio_guess(self._environment) if settings.guess else ()
        endpoints = expected(
            (*settings.given, *self._started(), *guesses),
            watched=tuple(self._probes.by_provider),
            guess=settings.guess,
            kinds=self._probes.kinds,
        )
        unwatched = tuple(
            endpoint if endpoint.provider in self._probes.by_provider else _unwatched(endpoint)
            for endpoint in attach(endpoints, settings.configured)
        )
        self._store.update(lambda world: expect(world, unwatched))

    def _is_unreadable(self) -> bool:
        configuration = self._store.world.configuration
        error = configuration.error if configuration is not None else None
        return error is not None and error.code == "configuration.unreadable"


def _unwatched(endpoint: Endpoint) -> Endpoint:
    kind = kind_named(endpoint.provider)
    title = kind.title if kind else endpoint.provider
    return msgspec.structs.replace(endpoint, reason=fault("server.unwatched", title=title, url=endpoint.url))


def _mark(path: str) -> tuple[int, ...]:
    """Return what differs as soon as a file does: the date of its last change first, in ns since the epoch.

    That one (ctime) moves also where a program sets the date of the content back to what it was.
    """
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0, 0)
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
