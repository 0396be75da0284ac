"""The daemon, put together: the only place that knows every concrete part.

    lock → last known World → snapshot (warm) → socket → READY → monitors → fresh snapshot

Clients have yesterday's answer, with its age, before the first probe has run. The end runs the other
way: no new connections, half-close, the last snapshot, our socket unlinked, the lock given back.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.abc
import structlog

from hived.daemon.claim import StateTaken, claim_state
from hived.daemon.clock import Clock, until_next
from hived.daemon.code import own_code
from hived.daemon.configuring import ConfigurationWatch
from hived.daemon.fleet import Fleet
from hived.daemon.hardware import HardwareWatch, kept_path
from hived.daemon.instance import AlreadyRunning, Instance
from hived.daemon.jobs import Jobs
from hived.daemon.launching import Launcher
from hived.daemon.logs import configure_logs, is_terminal_gone, leave_terminal
from hived.daemon.lookups import free_lookups
from hived.daemon.methods import Methods
from hived.daemon.monitor import Monitor, knock
from hived.daemon.notify import Notifier, managed_by
from hived.daemon.old_logs import OldLogs
from hived.daemon.probes import gather_probes, shelf_of
from hived.daemon.progress import Duty, Progress
from hived.daemon.publish import Publisher, read_last_known
from hived.daemon.pulse import Pulse
from hived.daemon.requests import RequestCounter
from hived.daemon.server import Server
from hived.daemon.servers import Servers
from hived.daemon.store import Store
from hived.daemon.supervise import Supervisor
from hived.daemon.surroundings import ThisMachine
from hived.daemon.watching import SystemProcesses
from hived.decisions.transitions import introduce, remember
from hived.machine.recipe_table import recipes
from hived.machine.records import Records
from hived.machine.transient import UserManager
from hived.providers.disk_lm_studio import studio_folder
from hived.providers.http import Http
from hived_client._version import __version__
from hived_client.doors.beat import INTERVAL as BEAT_INTERVAL
from hived_client.doors.boot import boot_id
from hived_client.doors.paths import Places, ensure_folder
from hived_client.doors.whole import remove_unfinished
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import Daemon, Endpoint, Installation, World

SELF_CHECK = 2.0
"""Seconds between two looks at our own lock and socket."""

START_EXTENSION = 30.0
"""Seconds that plug-ins and a slow disk may add to a start."""
STOP_EXTENSION = 15.0
"""Seconds in which connections are drained and the last World is written."""

EXIT_ALREADY_RUNNING = 75
EXIT_BAD_INSTALLATION = 78

log = structlog.get_logger(__name__)


class App:
    """One daemon."""

    def __init__(
        self,
        places: Places,
        environment: Mapping[str, str],
        clock: Clock | None = None,
        notes: tuple[Fault, ...] = (),
    ) -> None:
        """``notes`` are what was found wrong before the daemon began."""
        self._places = places
        self._notes = notes
        self._environment = environment
        self._clock = clock or Clock()
        self._notifier = Notifier(environment)
        self._instance = Instance(places)
        self._id = uuid.uuid4()
        self._code = own_code()
        self._stopping = anyio.Event()
        self._is_lost = False

    def __repr__(self) -> str:
        return f"<App {self._places.runtime}>"

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Be the daemon until ``stop``, ``retire`` or a signal. Raises ``Unavailable`` where it cannot be."""
        try:
            self._instance.acquire()
            self._prepare_state()
            claim_state(self._places)
            for path in (self._places.snapshot, self._places.last_known, self._places.breadcrumb):
                remove_unfinished(path)
            await self._assemble()
            # Before anybody can connect: whoever finds the socket finds a World beside it.
            self._publisher.publish()
            listener = self._instance.bind()
            await self._serve(listener, task_status)
        except HivedError as error:
            self._notifier.failed(error.fault)
            raise
        finally:
            self._instance.release()
        log.info("daemon.stopped")

    def stop(self) -> None:
        """End in good order."""
        self._stopping.set()

    def reload(self) -> None:
        """Read the configuration again, soon."""
        self._configuration.reload_soon()

    def statistics(self) -> dict[str, object]:
        """Return what every part counts about itself."""
        return {
            "code": self._code,
            "store": self._store.statistics(),
            "publisher": self._publisher.statistics(),
            "server": self._server.statistics(),
            "supervisor": self._supervisor.statistics(),
            "monitors": self._fleet.statistics(),
            "jobs": self._jobs.statistics(),
            "http": {"requests": self._http.requests},
            "requests": self._counter.statistics(),
            "hardware": self._hardware.statistics(),
        }

    def _prepare_state(self) -> None:
        for path in (self._places.state, self._places.logs, self._places.started):
            try:
                ensure_folder(path)
            except HivedError as error:
                if error.code not in ("runtime.unwritable", "disk.full"):
                    raise
                # Watching needs no memory; what does (a start) will say so when it is asked for.
                log.warning("state.unwritable", path=path, why=error.message)

    async def _assemble(self) -> None:
        last = read_last_known(self._places.last_known)
        world = remember(last) if last is not None else World(generation=0)
        self._store = Store(world, self._clock)
        self._publisher = Publisher(
            self._store, self._places, self._clock, self._id.bytes, is_ours=self._instance.holds_lock
        )
        # A schedule needs to be uneven, not unguessable.
        chance = random.Random().random
        self._supervisor = Supervisor(chance)
        self._http = Http()
        self._notifier.extend(START_EXTENSION)
        self._probes = await gather_probes(self._http, self._environment)
        processes = self._processes = SystemProcesses()
        surroundings = ThisMachine(self._environment, processes, lambda: studio_folder(self._environment))
        self._jobs = self._make_jobs(surroundings)
        self._jobs.find_again()
        self._old_logs = OldLogs(self._places.logs, self._jobs.names, self._clock)

        def make(endpoint: Endpoint) -> Monitor | None:
            probe = self._probes.by_provider.get(endpoint.provider)
            if probe is None:
                return None
            return Monitor(
                endpoint.name,
                probe,
                self._store,
                background=self._jobs,
                processes=processes,
                knock=knock,
                random=chance,
                clock=self._clock,
                shelf=shelf_of(self._probes, endpoint, self._environment, lambda: self._store.world),
                surroundings=surroundings,
            )

        self._fleet = Fleet(self._store, self._supervisor, make)
        self._configuration = ConfigurationWatch(
            self._store,
            self._probes,
            self._places.configuration,
            self._environment,
            self._clock,
            self._notifier,
            started=self._jobs.given,
            autostart=self._jobs.autostart,
        )
        self._counter = RequestCounter(self._store, self._probes.by_provider)
        self._hardware = HardwareWatch(
            self._store, self._environment, self._clock, path=kept_path(self._places.state)
        )
        methods = Methods(
            self._store,
            self._fleet,
            self._jobs,
            self._counter,
            self._hardware,
            publish=self._publisher.flush,
            reload=self._configuration.reload,
            retire=self.stop,
            others_busy=lambda talk: self._server.others_busy(talk),
            statistics=self.statistics,
        )
        self._server = Server(self._store, methods.table(), daemon_id=self._id.hex, boot=boot_id())
        self._store.update(lambda world: introduce(world, self._daemon(), self._probes.kinds))
        await self._configuration.read()

    def _make_jobs(self, surroundings: ThisMachine) -> Jobs:
        async def installation(provider: str) -> Installation | None:
            found = await surroundings.place(provider)
            return found.installation if found is not None else None

        records = Records(Path(self._places.started))
        table = recipes(studio_folder)
        manager = UserManager(self._environment, folder=self._places.folder)
        manager.tidy()
        return Jobs(
            self._store,
            Servers(records, table, self._clock),
            Launcher(records, manager, prefix=_unit_prefix(self._places)),
            table,
            logs=self._places.logs,
            environment=self._environment,
            clock=self._clock,
            look=lambda names: self._fleet.refresh(names),
            installation=installation,
            reconcile=lambda: self._configuration.reconcile(),
            poke=lambda name: self._fleet.poke(name),
        )

    def _daemon(self) -> Daemon:
        return Daemon(
            version=__version__,
            pid=os.getpid(),
            started_at=self._clock.wall(),
            managed_by=managed_by(self._environment),
            socket=self._places.socket,
            id=self._id.hex,
            boot=boot_id(),
            broken_plugins=self._probes.broken,
            notes=self._notes,
        )

    async def _serve(self, listener: socket.socket, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with anyio.create_task_group() as everything:
            everything.start_soon(self._signals, everything.cancel_scope)
            async with anyio.create_task_group() as background:
                async with anyio.create_task_group() as serving:
                    await serving.start(self._server.run, listener)
                    background.start_soon(self._supervisor.keep, "publisher", self._publisher.run)
                    background.start_soon(self._supervisor.keep, "memory", self._publisher.run_memory)
                    background.start_soon(self._supervisor.keep, "configuration", self._configuration.run)
                    background.start_soon(self._supervisor.keep, "processes", self._processes.run)
                    background.start_soon(self._supervisor.keep, "jobs", self._jobs.run)
                    background.start_soon(self._supervisor.keep, "logs", self._old_logs.run)
                    background.start_soon(self._supervisor.keep, "fleet", self._fleet.run)
                    background.start_soon(self._supervisor.keep, "hardware", self._hardware.run)
                    self._announce()
                    task_status.started()
                    await self._beat(serving)
                    self._notifier.stopping()
                    self._notifier.extend(STOP_EXTENSION)
                    log.info("daemon.stopping")
                    await self._server.drain()
                    serving.cancel_scope.cancel()
                background.cancel_scope.cancel()
            await self._publisher.finish(last_word=self._instance.holds_lock())
            await self._http.aclose()
            everything.cancel_scope.cancel()

    def _announce(self) -> None:
        self._instance.leave_breadcrumb(
            {
                "pid": os.getpid(),
                "runtime": self._places.runtime,
                "daemon_id": self._id.hex,
                "boot_id": boot_id(),
                "version": __version__,
            }
        )
        for note in self._notes:
            log.warning("daemon.note", code=note.code, why=note.message, hint=note.hint)
        log.info("daemon.ready", socket=self._places.socket, version=__version__, pid=os.getpid())
        self._notifier.ready()

    async def _beat(self, tasks: anyio.abc.TaskGroup) -> None:
        """Beat until it is time to stop, and look now and then at whether we can still be found."""
        checked = anyio.current_time()
        pulse = Pulse(
            self._progress(),
            self._notifier,
            self._clock,
            beat=self._publisher.beat,
            resumed=self._fleet.poke_all,
        )
        while not self._stopping.is_set():
            now = anyio.current_time()
            pulse.take(now)
            if now - checked >= SELF_CHECK:
                checked = now
                self._keep_log()
                if not self._instance.is_intact():
                    await self._recover(tasks)
                elif not self._publisher.is_intact():
                    log.warning("snapshot.lost", path=self._places.folder)
                    self._publisher.reopen()
            with anyio.move_on_after(until_next(BEAT_INTERVAL)):
                await self._stopping.wait()

    def _keep_log(self) -> None:
        """Go on in a file where the terminal that this was started in is closed (``hived serve &``)."""
        if is_terminal_gone():
            leave_terminal(f"{self._places.logs}/hived.log")
            log.info("terminal.gone", pid=os.getpid())

    def _progress(self) -> Progress:
        """Return what must get on for this to be a daemon that is alive."""

        def duty(name: str, turns: Callable[[], int], is_due: Callable[[], bool] = lambda: True) -> Duty:
            # What has crashed and waits for its next try is the supervisor's business, not the watchdog's.
            return Duty(name, turns, lambda: is_due() and not self._supervisor.is_resting(name))

        return Progress(
            (
                duty("configuration", lambda: self._configuration.turns),
                duty("processes", lambda: self._processes.turns),
                duty("publisher", lambda: self._publisher.turns, lambda: self._publisher.is_behind),
                duty("fleet", lambda: self._fleet.turns, lambda: self._fleet.is_behind),
                duty("server", lambda: self._server.turns, lambda: self._server.is_asked),
            )
        )

    async def _recover(self, tasks: anyio.abc.TaskGroup) -> None:
        """Our folder was removed under us: make it again, unless another daemon was quicker.

        After a logout the folder above it is gone too, and comes back with the next login.
        """
        is_new, self._is_lost = not self._is_lost, True
        if is_new:
            log.warning("runtime.lost", path=self._places.folder)
        try:
            listener = self._instance.recover()
            claim_state(self._places)
        except (AlreadyRunning, StateTaken):
            log.warning("daemon.superseded", path=self._places.folder)
            self.stop()
            return
        except HivedError as error:
            if is_new:
                log.warning("runtime.not_recovered", why=error.message)
            return
        self._is_lost = False
        log.info("runtime.recovered", path=self._places.folder)
        self._server.stop_accepting()
        self._publisher.reopen()
        await tasks.start(self._server.run, listener)

    async def _signals(self, scope: anyio.CancelScope) -> None:
        if not _is_main_thread():
            return
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self.reload()
                elif self._stopping.is_set():
                    log.warning("daemon.killed", signal=number.name)
                    scope.cancel()
                else:
                    log.info("daemon.signalled", signal=signal.Signals(number).name)
                    self.stop()


def serve(
    places: Places,
    environment: Mapping[str, str],
    *,
    backend: str = "asyncio",
    notes: tuple[Fault, ...] = (),
    tell: Callable[[Fault], None] | None = None,
) -> int:
    """Run the daemon in this process; return its exit code: 0, 75 (already running) or 78 (cannot run).

    ``notes`` are what was found wrong before it began. ``tell`` is told why it cannot
    run, in place of the log.
    """
    configure_logs("info")
    app_failed: list[HivedError] = []

    async def main() -> None:
        free_lookups()
        try:
            await App(places, environment, notes=notes).run()
        except HivedError as error:
            app_failed.append(error)

    anyio.run(main, backend=backend)
    if not app_failed:
        return 0
    why = app_failed[0].fault
    if tell is not None:
        tell(why)
    else:
        log.error("daemon.failed", code=why.code, why=why.message, hint=why.hint)
    return EXIT_ALREADY_RUNNING if isinstance(app_failed[0], AlreadyRunning) else EXIT_BAD_INSTALLATION


def _unit_prefix(places: Places) -> str:
    """Return what the names of our units begin with: other daemons of this user have other ones."""
    if places.runtime == f"/run/user/{os.getuid()}/hived":
        return "hived"
    return f"hived-{hashlib.blake2b(places.runtime.encode(), digest_size=4).hexdigest()}"


def _is_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
