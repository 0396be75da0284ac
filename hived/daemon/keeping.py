"""Watch the servers that hived started, and start again what ends by accident.

What is decided is decided in `hived.decisions.restarts`; here it is waited for.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
import structlog

from hived.daemon.clock import Clock
from hived.daemon.ends import Ends, Gone
from hived.daemon.launching import Child
from hived.daemon.looking_first import endpoint_at
from hived.daemon.servers import Servers
from hived.daemon.store import Store
from hived.decisions.restarts import MOST, Again, GaveUp, Stays, after_end
from hived.machine.log_tail import keep_short
from hived.machine.processes import let_go
from hived.machine.records import Started
from hived.machine.start_faults import log_of
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import CALLABLE, Endpoint

LOOK_AT_LOGS = 60.0
"""Seconds between two looks at how long the servers' logs are."""

ASK_AGAIN = 10.0
"""Seconds between two questions to a systemd that does not answer."""

log = structlog.get_logger(__name__)

replace = msgspec.structs.replace


class Keeper:
    """Knows when a server of ours has answered and when it has ended."""

    def __init__(
        self,
        servers: Servers,
        store: Store,
        ends: Ends,
        clock: Clock,
        *,
        again: Callable[[Started], Awaitable[None]],
        poke: Callable[[str], None],
        reconcile: Callable[[], None],
    ) -> None:
        """``again`` starts a server as its record says, if that is still wanted."""
        self._servers = servers
        self._store = store
        self._ends = ends
        self._clock = clock
        self._again = again
        self._poke = poke
        self._reconcile = reconcile
        self._tasks: anyio.abc.TaskGroup | None = None
        self.children: dict[str, Child] = {}
        self.waited_for: Counter[str] = Counter()
        """Servers whose start somebody waits for: what ends then is told to them, and not kept."""
        self._unsettled: dict[str, anyio.Event] = {}
        self.leaving: set[str] = set()
        """Servers that are being stopped."""

    def __repr__(self) -> str:
        return f"<Keeper of {len(self.children)} children>"

    def find_again(self) -> None:
        """Take in what was read of an earlier daemon's servers."""
        for record in self._servers:
            if _is_unsettled(record):
                self._unsettled[record.endpoint] = anyio.Event()

    async def wait_settled(self, name: str) -> None:
        """Wait until it is known which process a server of an earlier daemon is. Bound it."""
        settled = self._unsettled.get(name)
        if settled is not None:
            await settled.wait()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch what runs already, and whatever comes; children are let go at the end."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                for record in self._servers:
                    tasks.start_soon(self._watch, record, self.children.get(record.endpoint))
                task_status.started()
                await self._keep_logs_short()
            finally:
                self._tasks = None
                for child in self.children.values():
                    let_go(child)
                self.children.clear()  # who is let go cannot be asked how it ended

    async def _keep_logs_short(self) -> None:
        while True:
            await anyio.sleep(LOOK_AT_LOGS)  # nobody tells that a file has grown
            for record in self._servers:
                path = Path(record.log)
                if await anyio.to_thread.run_sync(keep_short, path, abandon_on_cancel=True):
                    log.info("log.shortened", endpoint=record.endpoint, path=record.log)

    def adopt(self, record: Started, child: Child | None) -> None:
        """Watch a server that was just begun."""
        if child is not None:
            self.children[record.endpoint] = child
        if self._tasks is not None:
            self._tasks.start_soon(self._watch, record, child)

    def soon(self, what: Callable[[], Coroutine[object, object, None]]) -> None:
        """Do something beside; nothing before `run` or after it."""
        if self._tasks is not None:
            self._tasks.start_soon(what)

    @property
    def is_running(self) -> bool:
        return self._tasks is not None

    def endpoint_of(self, record: Started) -> Endpoint | None:
        """Return the endpoint at a record's address: the configuration may have named it before us."""
        return endpoint_at(record.url, self._store.world)

    def poke_at(self, record: Started) -> None:
        """Have the endpoint of a server looked at now."""
        watched = self.endpoint_of(record)
        self._poke(watched.name if watched is not None else record.endpoint)

    async def _watch(self, record: Started, child: Child | None) -> None:
        if record.ends_with:
            await self._watch_place(record)
            return
        found = await self._settled(record) if _is_unsettled(record) else record
        if record.endpoint in self._unsettled:
            self._unsettled.pop(record.endpoint).set()
        if found is None or found.identity is None:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._note_ready, found)
            code = await self._ends.wait(found, child)
            tasks.cancel_scope.cancel()
        if child is not None and self.children.get(found.endpoint) is child:
            del self.children[found.endpoint]
        is_told = not self._servers.is_current(found)  # it was stopped, or whoever waits has seen it end
        if not is_told:
            log.info("server.ended", endpoint=found.endpoint, pid=found.identity.pid, code=code)
            self._servers.ended(found.endpoint, code)
            self.poke_at(found)
            is_told = found.endpoint in self.leaving or found.endpoint in self.waited_for
        await self._ends.clear(found)
        now = self._servers.named(found.endpoint)
        if now is not None and self._servers.is_current(found) and not is_told:
            await self._keep(now, code)

    async def _watch_place(self, record: Started) -> None:
        """Watch a server whose process is not ours to know, and forget it once nothing is there.

        Whoever serves there after that was started by somebody else, and is not ours to stop.
        """
        if record.unit and not await self._was_begun(record):
            self._servers.drop(record.endpoint)
            self._reconcile()
            return
        await self._note_ready(record)
        while self._servers.is_current(record):
            world = self._store.world
            endpoint = self.endpoint_of(record)
            if endpoint is not None and endpoint.state == "down":
                log.info("server.ended", endpoint=record.endpoint, pid=None, code=None)
                self._servers.drop(record.endpoint)
                self._reconcile()
                await self._ends.clear(record)
                return
            await self._store.wait_changed(world.generation)

    async def _was_begun(self, record: Started) -> bool:
        """Tell whether the command in a unit was run: hived may have been killed before."""
        try:
            await self._ends.identity(record)
        except Gone:
            return not self._servers.is_current(record)
        return True

    async def _settled(self, record: Started) -> Started | None:
        """Complete the record of a unit during whose start hived was killed; drop it where there is none."""
        try:
            while (identity := await self._ends.identity(record)) is None:  # noqa: ASYNC110
                await anyio.sleep(ASK_AGAIN)  # systemd tells nobody that it can be asked again
        except Gone:
            if self._servers.is_current(record):
                self._servers.drop(record.endpoint)
                self._reconcile()
            return None
        if not self._servers.is_current(record):
            return None
        found = replace(record, identity=identity)
        self._servers.change(found)
        self._reconcile()
        return found

    async def _note_ready(self, record: Started) -> None:
        while True:
            world = self._store.world
            endpoint = self.endpoint_of(record)
            now = self._servers.named(record.endpoint)
            if now is None or now.ready_at is not None:
                return
            if endpoint is not None and (endpoint.state in CALLABLE or endpoint.state == "unauthorised"):
                self._servers.change(replace(now, ready_at=self._clock.wall()))
                return
            await self._store.wait_changed(world.generation)

    async def _keep(self, record: Started, code: int | None) -> None:
        """Start a server again until it lives, somebody stops it, or it is given up."""
        healthy = self._clock.wall() - record.ready_at if record.ready_at is not None else 0.0
        broke = await self._ends.broke_down(record)
        while True:
            after = after_end(
                keep=record.keep, code=code, broke=broke, count=record.restarts, healthy=healthy
            )
            words = await self._ends.last_words(record)
            if not self._servers.is_current(record) or not isinstance(after, Again):
                break
            record = replace(record, restarts=after.count)
            self._servers.change(record)
            self._say("server.restarting", record, words, after.count)
            log.info("server.restarting", endpoint=record.endpoint, count=after.count, delay=after.delay)
            await anyio.sleep(after.delay)
            if not self._servers.is_current(record):
                return
            try:
                await self._again(record)
            except HivedError as error:
                log.warning("server.not_restarted", endpoint=record.endpoint, why=error.message)
                code, healthy = None, 0.0
            else:
                return  # whoever watches that one goes on from here
        if isinstance(after, Stays) and record.keep and self._servers.is_current(record):
            # The next daemon will not know how it ended, and is not to start it again either.
            self._servers.change(replace(record, keep=False))
        if isinstance(after, GaveUp) and self._servers.is_current(record):
            self._servers.change(record)  # the last try has taken it from the disk
            self._say("server.gave_up", record, words, after.count)
            log.warning("server.gave_up", endpoint=record.endpoint, count=after.count, why=words)
        self.poke_at(record)

    def _say(self, code: str, record: Started, words: str, count: int) -> None:
        kind = kind_named(record.provider, self._store.world.kinds)
        self.judge(
            record.url,
            fault(
                code,
                title=kind.title if kind is not None else record.provider,
                url=record.url,
                endpoint=record.endpoint,
                why=f": {words}" if words else "",
                count=count,
                most=MOST,
                **log_of(record.log),
            ),
        )

    def judge(self, url: str, verdict: Fault) -> None:
        """Have a server that is down say this, until it has answered again, whoever started it."""
        self._servers.judge(url, verdict)
        endpoint = endpoint_at(url, self._store.world)
        if endpoint is not None:
            self._poke(endpoint.name)
        self.soon(functools.partial(self._withdraw, url, verdict))

    async def _withdraw(self, url: str, verdict: Fault) -> None:
        was_down = False  # nobody may have looked at it since it ended
        while self._servers.verdict(url) is verdict:
            world = self._store.world
            endpoint = endpoint_at(url, self._store.world)
            if endpoint is None or (was_down and endpoint.state in CALLABLE):
                self._servers.withdraw(url)
                return
            was_down = was_down or endpoint.state not in CALLABLE
            await self._store.wait_changed(world.generation)


def _is_unsettled(record: Started) -> bool:
    """Tell whether hived was killed before it could write down which process a unit's is."""
    return record.identity is None and record.unit != "" and not record.ends_with
