"""Start and stop model servers when somebody asks, and remember which ones are ours.

What is started is written down before anything waits for it, so a daemon that is killed in the middle
finds it again. A server that hived started outlives hived. Two that ask for the same model make one
start.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from hived.daemon.clock import Clock
from hived.daemon.store import Store
from hived.decisions.addresses import host_and_port, place
from hived.decisions.expected import Given
from hived.decisions.outcomes import Circumstances
from hived.machine import llamacpp
from hived.machine.processes import identify, is_alive, let_go, reap, release, spawn_detached, stop
from hived.machine.records import Records, Started
from hived_client.doors.paths import unwritable
from hived_client.doors.wire import Begun, Progress, StartParams, StopParams, Stopped
from hived_client.errors import Refused, StartFailed
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import LLAMACPP, kind_of_prefix
from hived_client.vocabulary.world import CALLABLE, Endpoint, Process

STARTING = 30.0
"""Seconds for which a refused connection to a living process means that it is starting."""

TELL_EVERY = 1.0
"""Seconds between two words to whoever waits for a start."""

log = structlog.get_logger(__name__)

Tell = Callable[[Progress], None]


class Jobs:
    """The servers that hived started: starting, finding again, stopping."""

    def __init__(
        self,
        store: Store,
        records: Records,
        *,
        logs: str,
        environment: Mapping[str, str],
        clock: Clock,
        reconcile: Callable[[], None],
        poke: Callable[[str], None],
    ) -> None:
        self._store = store
        self._records = records
        self._logs = Path(logs)
        self._environment = environment
        self._clock = clock
        self._reconcile = reconcile
        self._poke = poke
        self._started: dict[str, Started] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._codes: dict[str, int] = {}
        self._starting = anyio.Lock()
        self._reapers: anyio.abc.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<Jobs {sorted(self._started)}>"

    def statistics(self) -> dict[str, object]:
        """Return what is ours."""
        return {"started": sorted(self._started), "children": sorted(self._children)}

    def find_again(self) -> None:
        """Read what an earlier daemon started. Blocks."""
        self._started = {record.endpoint: record for record in self._records.read_all()}

    def given(self) -> tuple[Given, ...]:
        """Return the endpoints that are ours."""
        return tuple(
            Given(
                name=record.endpoint,
                provider=record.provider,
                url=record.url,
                source="started",
                origin="started by hived",
                process=Process(
                    pid=record.identity.pid,
                    command=record.argv,
                    log=record.log,
                    restart=_restart_command(record),
                ),
            )
            for record in self._started.values()
        )

    def circumstances(self, endpoint: Endpoint) -> Circumstances:
        """Say what is known of the process behind an endpoint, if it is ours."""
        now, record = self._clock.wall(), self._record_of(endpoint)
        if record is None:
            return Circumstances(at=now)
        alive = _lives(record)
        words = "" if alive else self._last_words(record)
        return Circumstances(
            at=now, process_alive=alive, last_words=words, starting_until=record.started_at + STARTING
        )

    async def run(self) -> None:
        """Collect the exit status of children that end, so that none stays a zombie."""
        async with anyio.create_task_group() as tasks:
            self._reapers = tasks
            try:
                await anyio.sleep_forever()
            finally:
                self._reapers = None
                for child in self._children.values():
                    let_go(child)

    async def start(self, params: StartParams, tell: Tell) -> Begun:
        """Start a server and wait until it answers. Raises ``StartFailed`` or ``Refused``."""
        _check(params)
        kind = kind_of_prefix(params.provider)
        if kind is not LLAMACPP:
            raise Refused(fault("start.unsupported", provider=params.provider, known=LLAMACPP.name))
        began = anyio.current_time()
        async with self._starting:
            record = self._serving(params) or await self._launch(params, tell)
        try:
            with anyio.fail_after(params.timeout):
                return await self._wait_ready(record, tell, began)
        except TimeoutError as error:
            raise StartFailed(
                fault("start.timeout", title=LLAMACPP.title, seconds=params.timeout, log=record.log)
            ) from error

    async def stop(self, params: StopParams) -> Stopped:
        """Stop what hived started under a name: an endpoint's, or a provider's. Raises ``Refused``."""
        ended: dict[str, str] = {}
        for record in self._chosen(params):
            how = await stop(record.identity, grace=params.grace if params.grace >= 0 else 0.0)  # NaN too
            self._forget(record.endpoint)
            log.info("server.stopped", endpoint=record.endpoint, pid=record.identity.pid, how=how)
            ended[record.endpoint] = how
        return Stopped(endpoints=ended)

    def _serving(self, params: StartParams) -> Started | None:
        """Return the server of ours that already runs this model as it is asked for."""
        for record in self._started.values():
            same = record.model == os.path.abspath(params.model or "") and params.port in (
                None,
                0,
                int(record.url.rpartition(":")[2]),
            )
            if same and params.context in (None, record.context) and _lives(record):
                return record
        return None

    async def _launch(self, params: StartParams, tell: Tell) -> Started:
        if not params.model:
            raise Refused(fault("start.no_file", path="(none given)", directory="."))
        model = os.path.abspath(params.model)
        program = await anyio.to_thread.run_sync(llamacpp.find_program)
        if program is None:
            raise StartFailed(fault("start.not_installed"))
        await anyio.to_thread.run_sync(llamacpp.check_model, model)
        port = params.port or llamacpp.free_port("127.0.0.1")
        if params.port and not llamacpp.is_port_free("127.0.0.1", params.port):
            raise StartFailed(fault("start.port_taken", port=port, path=model))
        alias = params.alias or llamacpp.alias_of(model)
        name = self._name(port)
        path = self._logs / f"{name}.log"

        def spawn() -> tuple[subprocess.Popen[bytes], list[str]]:
            argv = llamacpp.command(
                program, model=model, port=port, alias=alias, context=params.context, extra=params.arguments
            )
            _put_aside(path)
            variables = llamacpp.environment(self._environment)
            return spawn_detached(argv, log=path, environment=variables, held=True), argv

        tell(Progress(stage="starting", message=f"starting {program.kind} on port {port}", endpoint=name))
        try:
            child, argv = await anyio.to_thread.run_sync(spawn)
        except ValueError as error:
            raise Refused(fault("params.invalid", method="start", why=str(error))) from error
        except OSError as error:
            why = f": {error.strerror or error}"
            raise StartFailed(fault("start.ended", title=LLAMACPP.title, why=why, log=str(path))) from error
        identity = identify(child.pid)
        if identity is None:
            release(child)
            await reap(child)
            raise StartFailed(_ended(path, model))
        record = Started(
            endpoint=name,
            provider=LLAMACPP.name,
            url=f"http://127.0.0.1:{port}",
            identity=identity,
            argv=tuple(argv),
            model=model,
            alias=alias,
            log=str(path),
            started_at=self._clock.wall(),
            context=params.context,
        )
        try:
            self._records.write(record)
        except OSError as error:
            # A server that nobody will know again is worse than none.
            child.kill()
            child.wait()
            release(child)
            raise StartFailed(unwritable(str(self._records.folder), error)) from error
        self._adopt(record, child)
        release(child)
        return record

    def _adopt(self, record: Started, child: subprocess.Popen[bytes]) -> None:
        # A record of the same model that has ended is what this start replaces.
        for old in [r for r in self._started.values() if r.model == record.model and not _lives(r)]:
            self._started.pop(old.endpoint)
            if old.endpoint != record.endpoint:
                self._remove_record(old.endpoint)
        self._started[record.endpoint] = record
        self._codes.pop(record.endpoint, None)
        self._children[record.endpoint] = child
        if self._reapers is not None:
            self._reapers.start_soon(self._reap, record.endpoint, child)
        log.info("server.started", endpoint=record.endpoint, pid=record.identity.pid, model=record.model)
        self._reconcile()

    async def _reap(self, endpoint: str, child: subprocess.Popen[bytes]) -> None:
        code = await reap(child)
        if self._children.get(endpoint) is child:
            del self._children[endpoint]
            self._codes[endpoint] = code
        log.info("server.ended", endpoint=endpoint, pid=child.pid, code=code)
        record = self._started.get(endpoint)
        watched = self._endpoint_of(record) if record is not None else None
        self._poke(watched.name if watched is not None else endpoint)

    async def _wait_ready(self, record: Started, tell: Tell, began: float) -> Begun:
        name, shown = record.endpoint, ""
        while True:
            world = self._store.world
            endpoint = self._endpoint_of(record)
            elapsed = anyio.current_time() - began
            if endpoint is not None and endpoint.state in CALLABLE:
                return Begun(
                    endpoint=name,
                    url=record.url,
                    pid=record.identity.pid,
                    models=tuple(model.name for model in endpoint.models or ()),
                    log=record.log,
                    elapsed=elapsed,
                )
            if not _lives(record):
                problem = _ended(Path(record.log), record.model)
                self._forget(name)
                raise StartFailed(problem)
            state = endpoint.state if endpoint is not None else "starting"
            if state != shown or elapsed > TELL_EVERY:
                shown = state
                tell(Progress(stage=state, message=f"{name} is {state}", endpoint=name, elapsed=elapsed))
            with anyio.move_on_after(TELL_EVERY):
                await self._store.wait_changed(world.generation)

    def _endpoint_of(self, record: Started) -> Endpoint | None:
        """Return the endpoint at a record's address: the configuration may have named it before us."""
        where = place(record.url)
        return next((e for e in self._store.world.endpoints if place(e.url) == where), None)

    def _record_of(self, endpoint: Endpoint) -> Started | None:
        known = self._started.get(endpoint.name)
        if known is not None:
            return known
        where = place(endpoint.url)
        return next((r for r in self._started.values() if place(r.url) == where), None)

    def _last_words(self, record: Started) -> str:
        """Say why a server ended: the signal that killed it, or what its log says."""
        code = self._codes.get(record.endpoint, 0)
        if code < 0:
            return f"killed by {_signal_name(-code)}"
        return llamacpp.why_it_ended(Path(record.log), started=True)

    def _chosen(self, params: StopParams) -> list[Started]:
        named = self._store.endpoint(params.name)
        exact = self._started.get(params.name) or (self._record_of(named) if named is not None else None)
        if exact is not None:
            return [exact]
        kind = kind_of_prefix(params.name)
        mine = [r for r in self._started.values() if kind is not None and r.provider == kind.name]
        if not mine:
            if kind is None and named is not None:
                _, port = host_and_port(named.url)
                raise Refused(fault("stop.not_ours", endpoint=params.name, port=port))
            raise Refused(fault("stop.nothing", provider=kind.title if kind else params.name))
        if len(mine) > 1 and not params.everything:
            names = sorted(record.endpoint for record in mine)
            raise Refused(fault("stop.which", endpoints=", ".join(names), first=names[0]))
        return mine

    def _forget(self, endpoint: str) -> None:
        self._started.pop(endpoint, None)
        self._codes.pop(endpoint, None)
        self._remove_record(endpoint)
        self._reconcile()

    def _remove_record(self, endpoint: str) -> None:
        try:
            self._records.remove(endpoint)
        except OSError as error:
            # The process is gone all the same; the record will name one that nobody believes in.
            log.warning("record.not_removed", endpoint=endpoint, why=error.strerror)

    def _name(self, port: int) -> str:
        return f"{LLAMACPP.name}-{port}"


def _check(params: StartParams) -> None:
    """Refuse what no server could be started with. Raises ``Refused``."""
    alias = params.alias
    wrong = {
        "timeout is not a number": math.isnan(params.timeout),
        "port is not 0 to 65535": params.port is not None and not 0 <= params.port <= 65_535,
        "context is not 1 to 2**31": params.context is not None and not 1 <= params.context < 2**31,
        "alias is not a name": alias is not None and (not alias.isprintable() or alias[:1] in ("-", "")),
        "model is not a path": "\0" in (params.model or ""),
    }
    for why in (why for why, is_wrong in wrong.items() if is_wrong):
        raise Refused(fault("params.invalid", method="start", why=why))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def _lives(record: Started) -> bool:
    """Tell whether a server of ours runs. One that cannot be looked at just now is not given up."""
    try:
        return is_alive(record.identity)
    except OSError:
        return True


def _restart_command(record: Started) -> str:
    import shlex

    return f"hived start {record.provider} --model {shlex.quote(record.model)}"


def _ended(log: Path, model: str) -> Fault:
    """Say why a server ended while it started, by what its log says. Blocks."""
    words = llamacpp.why_it_ended(log)
    why = f": {words}" if words else ""
    code = "start.no_memory" if llamacpp.is_out_of_memory(words) else "start.ended"
    return fault(code, title=LLAMACPP.title, why=why, log=str(log), path=model)


def _put_aside(path: Path) -> None:
    try:
        os.replace(path, f"{path}.1")
    except OSError:
        return
