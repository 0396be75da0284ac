"""Start and stop model servers when somebody asks, and keep those running that are to be kept.

Look before leaping: what answers already is taken as it is, and what belongs to somebody else is left to
them. Two that ask for the same server make one start. A server that hived started outlives hived, and
`hived stop` ends nothing else.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog

from hived.daemon.clock import Clock
from hived.daemon.ends import MachineEnds
from hived.daemon.keeping import Keeper
from hived.daemon.launching import Child, Ended, Launcher, run_to_end
from hived.daemon.looking_first import Lookout, machine_may_refuse, serves
from hived.daemon.orders import Order, endpoint_named, is_same, read_order
from hived.daemon.servers import Servers, again, lives, process_of
from hived.daemon.store import Store
from hived.decisions.addresses import host_and_port, place
from hived.decisions.autostart import Autostart
from hived.decisions.expected import Given
from hived.decisions.outcomes import Circumstances
from hived.machine.inherited import without_ours
from hived.machine.log_tail import read_tail
from hived.machine.owners import port_taken
from hived.machine.processes import end_session, stop, wait_exit
from hived.machine.recipes import Launch, Recipe, Wanted
from hived.machine.records import Started
from hived.machine.start_faults import log_of
from hived_client.doors.boot import boot_id
from hived_client.doors.wire import Begun, Progress, StartParams, StopParams, Stopped
from hived_client.errors import HivedError, Refused, StartFailed
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import kind_of_prefix
from hived_client.vocabulary.world import CALLABLE, Endpoint, Installation

SERVED = 30.0
"""Seconds within which a server answers whose own command says that it runs."""

TRIES = 3
"""Times that a start is tried anew because somebody else was starting a server that came to nothing."""

WAY_OUT = 10.0
"""Seconds for a server to end that refuses connections already."""

TELL_EVERY = 1.0
"""Seconds between two words to whoever waits for a start."""

log = structlog.get_logger(__name__)

Tell = Callable[[Progress], None]


class Jobs:
    """The servers that hived starts: starting, finding again, keeping, stopping."""

    def __init__(
        self,
        store: Store,
        servers: Servers,
        launcher: Launcher,
        recipes: Mapping[str, Recipe],
        *,
        logs: str,
        environment: Mapping[str, str],
        clock: Clock,
        look: Callable[[Iterable[str]], Awaitable[None]],
        installation: Callable[[str], Awaitable[Installation | None]],
        reconcile: Callable[[], None],
        poke: Callable[[str], None],
    ) -> None:
        """``look`` has endpoints looked at now; ``installation`` says what this device has of a kind."""
        self._store = store
        self._servers = servers
        self._launcher = launcher
        self._recipes = recipes
        self._logs = Path(logs)
        self._environment = environment
        self._clock = clock
        self._places = Lookout(store, look, installation)
        self._reconcile = reconcile
        self._poke = poke
        self._keeper = Keeper(
            servers,
            store,
            MachineEnds(launcher.manager, servers),
            clock,
            again=self._start_again,
            poke=poke,
            reconcile=reconcile,
        )
        self._starting: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._stopped: set[str] = set()
        self._autostarts: tuple[Autostart, ...] = ()
        self._autostarted: set[Autostart] = set()

    def __repr__(self) -> str:
        return f"<Jobs {self._servers!r}>"

    def statistics(self) -> dict[str, object]:
        """Return what is ours."""
        return {"started": self.names(), "children": sorted(self._keeper.children)}

    def names(self) -> list[str]:
        """Return the names of the servers that are ours, running or to be started again."""
        return sorted(record.endpoint for record in self._servers)

    def find_again(self) -> None:
        """Read what an earlier daemon started. Blocks."""
        self._servers.read()
        self._keeper.find_again()

    def given(self) -> tuple[Given, ...]:
        """Return the endpoints that are ours."""
        return self._servers.given()

    async def circumstances(self, endpoint: Endpoint) -> Circumstances:
        """Say what is known of the process behind an endpoint, if it is ours."""
        return await self._servers.circumstances(endpoint)

    async def run(self) -> None:
        """Watch what was started, keep it, and start what is to be started by itself."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._keeper.run)
            self._begin_autostarts()
            await anyio.sleep_forever()

    def autostart(self, wanted: tuple[Autostart, ...]) -> None:
        """Start these, each once: at the daemon's start, or when the configuration first names it.

        What was stopped by hand stays so until it is asked for again or the daemon starts anew.
        """
        self._autostarts = wanted
        self._autostarted &= set(wanted)
        self._begin_autostarts()

    async def start(self, params: StartParams, tell: Tell) -> Begun:
        """Start a server and wait until it answers. Raises ``StartFailed`` or ``Refused``."""
        order = read_order(params, self._store.world, self._servers, self._recipes)
        return await self._carry_out(order, tell)

    async def stop(self, params: StopParams) -> Stopped:
        """Stop what hived started under a name: an endpoint's, or a provider's. Raises ``Refused``."""
        kind = kind_of_prefix(params.name, self._store.world.kinds)
        named = endpoint_named(params.name, self._store.world)
        for provider in {kind.name if kind is not None else "", named.provider if named is not None else ""}:
            if provider in self._starting:  # what is just being begun has a record in a moment, or never
                async with self._starting[provider]:
                    pass
        chosen = self._chosen(params)  # all of one kind
        names = [record.endpoint for record in chosen]
        ended: dict[str, str] = {}

        async def end(name: str) -> None:
            ended[name] = await self._end(self._servers.named(name), params)

        self._keeper.leaving.update(names)
        try:
            async with self._starting[chosen[0].provider], anyio.create_task_group() as tasks:
                for name in names:
                    tasks.start_soon(end, name)
        finally:
            self._keeper.leaving.difference_update(names)
        return Stopped(endpoints=ended)

    async def _end(self, record: Started | None, params: StopParams) -> str:
        if record is None:
            return "gone"
        how = "terminated"
        if record.ends_with:
            why = await run_to_end(record.ends_with, without_ours(self._environment))
            if why:
                log.warning("server.not_ended", endpoint=record.endpoint, why=why)
                return "failed"
        if record.identity is not None:
            how = await stop(record.identity, grace=params.grace if params.grace >= 0 else 0.0)  # NaN too
        if record.unit:
            await anyio.to_thread.run_sync(self._launcher.manager.stop, record.unit)
        elif record.identity is not None:
            await end_session(record.identity)
        if self._keeper.waited_for[record.endpoint]:
            self._stopped.add(record.endpoint)  # to be told to whoever waits for its start
        self._servers.drop(record.endpoint)
        self._reconcile()
        log.info("server.stopped", endpoint=record.endpoint, how=how)
        return how

    async def _carry_out(self, order: Order, tell: Tell) -> Begun:
        began = anyio.current_time()
        with machine_may_refuse(order, str(self._logs)):
            for _ in range(TRIES):
                begun = await self._try(order, tell, began)
                if begun is not None:
                    return begun
            where = host_and_port(order.url) if order.url is not None else ("127.0.0.1", 0)
            raise StartFailed(await anyio.to_thread.run_sync(port_taken, *where, abandon_on_cancel=True))

    async def _try(self, order: Order, tell: Tell, began: float) -> Begun | None:
        """Start a server; ``None`` where somebody else was starting one, which has come to nothing of use."""
        notes: tuple[str, ...] = ()
        async with self._starting[order.recipe.kind.name]:
            mine = await self._mine(order)
            if mine is not None:
                self._keeper.waited_for[mine.endpoint] += 1
            elif (found := await self._places.look_first(order)) is None:
                mine, notes = await self._launch(order, tell)
        path = mine.log if mine is not None else str(self._logs)
        patience = min(order.timeout, SERVED) if mine is not None and mine.ends_with else order.timeout
        try:
            with anyio.fail_after(patience):
                if mine is None:
                    assert found is not None
                    return await self._adopted(found, order, tell, began)
                return await self._wait_ready(mine, order, tell, began, notes)
        except TimeoutError as error:
            late = fault("start.timeout", title=order.title, seconds=patience, **log_of(path))
            raise StartFailed(late) from error
        finally:
            if mine is not None:
                self._waits_no_more(mine.endpoint)

    def _waits_no_more(self, name: str) -> None:
        self._keeper.waited_for[name] -= 1
        if not self._keeper.waited_for[name]:
            del self._keeper.waited_for[name]
            self._stopped.discard(name)

    async def _mine(self, order: Order) -> Started | None:
        """Return the server of ours that is asked for, where it runs and is not on its way out."""
        mine = next((record for record in self._servers if is_same(record, order)), None)
        if mine is not None and mine.identity is None:
            with anyio.move_on_after(WAY_OUT):
                await self._keeper.wait_settled(mine.endpoint)
            mine = next((record for record in self._servers if is_same(record, order)), None)
        if mine is None:
            return None
        endpoint = await self._places.looked_at(mine.url)
        had_served = self._servers.is_current(mine) and mine.ready_at is not None
        if mine.ends_with and endpoint is not None and endpoint.state == "down":
            # Its command has ended: what nobody waits for any more never served, and never will.
            had_served = had_served or not self._keeper.waited_for[mine.endpoint]
        if endpoint is None or endpoint.state not in ("down", "starting") or not had_served:
            return mine
        if mine.ends_with:  # its process is not ours to know
            self._servers.drop(mine.endpoint)
            self._reconcile()
            if mine.unit:
                await anyio.to_thread.run_sync(self._launcher.manager.stop, mine.unit)
            return None
        if mine.identity is not None:
            with anyio.move_on_after(WAY_OUT):
                await wait_exit(mine.identity)
        return mine if lives(mine) else None

    async def _launch(self, order: Order, tell: Tell) -> tuple[Started, tuple[str, ...]]:
        """Begin a server; its name is waited for from before it can end."""
        launch = await self._prepare(order)
        record = self._record(order, launch)
        for note in launch.notes:
            tell(Progress(stage="note", message=note, endpoint=record.endpoint))
        words = f"starting {order.title} on port {host_and_port(launch.url)[1]}"
        tell(Progress(stage="starting", message=words, endpoint=record.endpoint, ours=True))
        self._keeper.waited_for[record.endpoint] += 1
        try:
            return await self._begin(order.recipe, launch, record), launch.notes
        except BaseException:
            self._waits_no_more(record.endpoint)
            raise

    async def _prepare(self, order: Order) -> Launch:
        """Write the command. A server of ours has its port from its start on, bound or not."""
        ours = {place(record.url): record.endpoint for record in self._servers if lives(record)}
        wanted = order.wanted
        if order.url is not None and (name := ours.get(place(order.url))) is not None:
            if wanted.port:
                taken = functools.partial(port_taken, restart=f"hived stop {name}")
                raise StartFailed(await anyio.to_thread.run_sync(taken, *host_and_port(order.url)))
            wanted = msgspec.structs.replace(wanted, port=0)

        def prepare() -> Launch:
            launch = order.recipe.prepare(wanted, self._environment)
            while place(launch.url) in ours:
                launch = order.recipe.prepare(wanted, self._environment)  # any other free port
            return launch

        return await anyio.to_thread.run_sync(prepare)

    def _record(self, order: Order, launch: Launch) -> Started:
        kind = order.recipe.kind.name
        port = host_and_port(launch.url)[1]
        name = order.name or (kind if order.recipe.single else f"{kind}-{port}")
        there = self._servers.named(name)
        if there is not None and place(there.url) != place(launch.url) and lives(there):
            name = f"{kind}-{port}"
        return Started(
            endpoint=name,
            provider=kind,
            url=launch.url,
            identity=None,
            argv=launch.argv,
            model=launch.model,
            alias=launch.alias,
            log=str(self._logs / f"{name}.log"),
            started_at=self._clock.wall(),
            boot=boot_id(),
            context=order.wanted.context,
            ends_with=launch.ends_with,
            wanted=order.wanted,
            keep=order.keep,
        )

    async def _begin(self, recipe: Recipe, launch: Launch, record: Started) -> Started:
        def adopt(written: Started, child: Child | None) -> None:
            self._servers.put(written)
            self._keeper.adopt(written, child)
            pid = written.identity.pid if written.identity is not None else None
            log.info("server.started", endpoint=written.endpoint, pid=pid, unit=written.unit)
            self._reconcile()
            self._keeper.poke_at(written)  # where it was down, the next knock is seconds away

        try:
            return await self._launcher.launch(launch, record, adopt, recipe.kind.title)
        except Ended as error:
            raise StartFailed(await self._fault_of_end(recipe, launch, record)) from error

    async def _fault_of_end(self, recipe: Recipe, launch: Launch, record: Started) -> Fault:
        """Say why a server ended while it started."""

        def read() -> Fault:
            is_known = self._servers.is_current(record)  # what is kept by its name is of this very process
            why = self._servers.last_words(record, started=False) if is_known else ""
            why = why or recipe.why_it_ended(read_tail(record.log), started=False)
            return recipe.fault_of_end(launch, why, record.log)

        return await anyio.to_thread.run_sync(read)

    async def _start_again(self, record: Started) -> None:
        """Start what ended, as its record says, unless that is no longer wanted."""
        recipe = self._recipes[record.provider]
        async with self._starting[record.provider]:
            if not self._servers.is_current(record):
                return
            endpoint = self._places.at(record.url)
            order = Order(recipe=recipe, endpoint=endpoint, wanted=again(record), keep=record.keep)
            with machine_may_refuse(order, record.log):
                if endpoint is not None and await self._places.look_first(order) is not None:
                    self._servers.drop(record.endpoint)  # somebody else was quicker
                    self._reconcile()
                    return
                launch = await self._prepare(order)
                begun = msgspec.structs.replace(
                    record,
                    identity=None,
                    unit="",
                    argv=launch.argv,
                    started_at=self._clock.wall(),
                    ready_at=None,
                )
                await self._begin(recipe, launch, begun)

    async def _wait_ready(
        self, record: Started, order: Order, tell: Tell, began: float, notes: tuple[str, ...]
    ) -> Begun:
        name = record.endpoint
        endpoint = await self._answering(record.url, name, tell, began, record)
        if endpoint is None:
            recipe = order.recipe
            if name in self._keeper.leaving or name in self._stopped:
                stopped = fault("start.stopped", title=order.title, restart=process_of(record).start())
                raise StartFailed(stopped)
            launch = Launch(
                argv=record.argv,
                environment={},
                url=record.url,
                wanted=record.wanted or Wanted(),
                model=record.model,
            )
            problem = await self._fault_of_end(recipe, launch, record)
            if self._servers.is_current(record):  # another asker may have dropped it, and a third begun anew
                self._servers.drop(name)
                self._reconcile()
            raise StartFailed(problem)
        return Begun(
            endpoint=name,
            url=record.url,
            pid=record.identity.pid if record.identity is not None else None,
            models=tuple(model.name for model in endpoint.models or ()),
            log=record.log,
            elapsed=anyio.current_time() - began,
            notes=notes,
        )

    async def _adopted(self, found: Endpoint, order: Order, tell: Tell, began: float) -> Begun | None:
        """Wait for a server that somebody else started; ``None`` where it is gone, or has another model."""
        endpoint = await self._answering(found.url, found.name, tell, began, None)
        now = self._places.at(found.url)
        if endpoint is None and now is not None and now.state != "down" and now.reason is not None:
            raise StartFailed(now.reason)
        if endpoint is None or not serves(endpoint, order):
            return None
        return Begun(
            endpoint=endpoint.name,
            url=endpoint.url,
            models=tuple(model.name for model in endpoint.models or ()),
            elapsed=anyio.current_time() - began,
            adopted=True,
        )

    async def _answering(
        self, url: str, name: str, tell: Tell, began: float, record: Started | None
    ) -> Endpoint | None:
        """Wait until a server answers; ``None`` once it is gone."""
        shown = ""
        while True:
            world = self._store.world
            endpoint = self._places.at(url)
            state = endpoint.state if endpoint is not None else "starting"
            if endpoint is not None and (state in CALLABLE or state == "unauthorised"):
                return endpoint  # one that wants a key is there as well
            if record is None and state not in ("starting", "loading"):
                return None
            if record is not None and (not lives(record) or not self._servers.is_current(record)):
                return None
            if state == "down":
                state = "starting"  # it was down before; nobody has looked at it since
            elapsed = anyio.current_time() - began
            words = state + (await self._stage(record) if record is not None and state == "starting" else "")
            if words != shown or elapsed > TELL_EVERY:
                shown = words
                ours = record is not None
                message = f"{name} is {words}"
                tell(Progress(stage=state, message=message, endpoint=name, elapsed=elapsed, ours=ours))
            with anyio.move_on_after(TELL_EVERY):
                await self._store.wait_changed(world.generation)

    async def _stage(self, record: Started) -> str:
        """Say how far a start is, where its log tells; else nothing."""
        now = self._servers.named(record.endpoint) or record
        stage = await anyio.to_thread.run_sync(self._servers.stage, now, abandon_on_cancel=True)
        if stage is None:
            return ""
        share = f", {stage.share * 100:.0f} %" if stage.share is not None else ""
        return f": {stage.words}{share}"

    def _begin_autostarts(self) -> None:
        if not self._keeper.is_running:
            return  # `run` will
        for each in self._autostarts:
            if each not in self._autostarted:
                self._autostarted.add(each)
                self._keeper.soon(functools.partial(self._autostart, each))

    async def _autostart(self, entry: Autostart) -> None:
        params = StartParams(
            provider=entry.provider if entry.is_kind else entry.name,
            model=entry.model,
            context=entry.context,
            arguments=entry.arguments,
        )
        try:
            order = read_order(
                params,
                self._store.world,
                self._servers,
                self._recipes,
                name=entry.name.casefold(),
                apart=entry.is_kind and kind_of_prefix(entry.name, self._store.world.kinds) is None,
            )
            begun = await self._carry_out(order, lambda _: None)
        except HivedError as error:
            log.warning("autostart.failed", name=entry.name, why=error.message)
            endpoint = endpoint_named(entry.name, self._store.world)
            if endpoint is not None and error.code != "start.owned":  # whose it is, the endpoint says itself
                self._keeper.judge(endpoint.url, error.fault)
        else:
            log.info("autostart.done", name=entry.name, endpoint=begun.endpoint, adopted=begun.adopted)

    def _chosen(self, params: StopParams) -> list[Started]:
        named = endpoint_named(params.name, self._store.world)
        exact = self._servers.named(params.name) or (self._servers.of(named) if named is not None else None)
        if exact is not None:
            return [exact]
        kind = kind_of_prefix(params.name, self._store.world.kinds)
        mine = [r for r in self._servers if kind is not None and r.provider == kind.name]
        if not mine:
            if kind is None and named is not None:
                _, port = host_and_port(named.url)
                raise Refused(fault("stop.not_ours", endpoint=params.name, port=port))
            raise Refused(fault("stop.nothing", provider=kind.title if kind else params.name))
        if len(mine) > 1 and not params.everything:
            names = sorted(record.endpoint for record in mine)
            raise Refused(fault("stop.which", endpoints=", ".join(names), first=names[0]))
        return mine
