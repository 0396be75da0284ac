"""From a command to a server that is written down and will outlive hived.

Where the user's systemd answers, the server gets a transient unit; else it is a process with a session of
its own. Either way its record is on disk before it can begin, so that whoever kills hived in between leaves
no server that nobody knows: a held process ends by itself, and a unit's name stands in the record.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
import msgspec
import structlog

from hived.machine.log_tail import put_aside
from hived.machine.processes import identify, make_log, reap, release, spawn_detached
from hived.machine.recipes import Launch
from hived.machine.records import Records, Started
from hived.machine.start_faults import log_of
from hived.machine.transient import ONESHOT_PATIENCE, STOP_PATIENCE, ManagerFailed, UnitState, UnitTaken
from hived_client.doors.paths import unwritable
from hived_client.errors import StartFailed
from hived_client.vocabulary.faults import fault

log = structlog.get_logger(__name__)

replace = msgspec.structs.replace

LINGERING = STOP_PATIENCE + 5.0
"""Seconds for a unit to be gone after its process."""

LOOK = 0.25
"""Seconds between two looks at a unit that is going."""

END_PATIENCE = 15.0
"""Seconds for a command that ends a server."""

Child = subprocess.Popen[bytes]
Adopt = Callable[[Started, Child | None], None]
"""Takes in what has been written down, before it begins where that can be."""


class Ended(Exception):
    """The command ended before anybody could know it; its log says why."""


class Manager(Protocol):
    """What is asked of a service manager. Blocks, within bounds; raises ``ManagerFailed``."""

    def is_reachable(self) -> bool: ...

    def start(
        self,
        unit: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        description: str,
        stays: bool = True,
    ) -> int | None: ...

    def state(self, unit: str) -> UnitState: ...

    def stop(self, unit: str) -> None: ...

    def forget(self, unit: str) -> None: ...


class Launcher:
    """Begins servers. ``prefix`` is what the names of their units begin with."""

    def __init__(self, records: Records, manager: Manager, *, prefix: str) -> None:
        self._records = records
        self.manager = manager
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<Launcher of {self._prefix}-*, {self.manager!r}>"

    async def launch(self, launch: Launch, record: Started, adopt: Adopt, title: str) -> Started:
        """Begin a server and return its record as it was written.

        Not cut short by whoever asked for it leaving: a start is whole, or leaves nothing. Raises
        ``StartFailed`` where it could not be begun or written down, ``Ended`` where it ended at once.
        """
        with anyio.CancelScope(shield=True):  # each step has its own bound
            if await anyio.to_thread.run_sync(self.manager.is_reachable):
                record = await self._in_unit(launch, record, adopt, title)
            elif launch.stays:
                record = await self._detached(launch, record, adopt, title)
            else:
                await self._to_its_end(launch, record, title)
                try:
                    self._write(record)
                except StartFailed:
                    await run_to_end(record.ends_with, launch.environment)
                    raise
                adopt(record, None)
        return record

    async def _in_unit(self, launch: Launch, record: Started, adopt: Adopt, title: str) -> Started:
        unit = f"{self._prefix}-{record.endpoint}.service"
        if not launch.stays:
            # What its command leaves running is somebody's application, which keeps the unit, and so its
            # name, for as long as it lives.
            unit = f"{self._prefix}-{record.endpoint}-{secrets.token_hex(4)}.service"
        record = replace(record, unit=unit)
        path = Path(record.log)

        def begin() -> int | None:
            put_aside(path)
            make_log(path)
            return self.manager.start(
                unit,
                launch.argv,
                environment=launch.environment,
                log=path,
                description=f"{title}, started by hived",
                stays=launch.stays,
            )

        if launch.stays:
            await wait_gone(self.manager, unit)
        self._write(record)
        try:
            pid = await anyio.to_thread.run_sync(begin)
        except UnitTaken as error:
            self._remove(record)
            raise StartFailed(fault("start.unit_taken", unit=unit)) from error
        except ManagerFailed as error:
            await anyio.to_thread.run_sync(self.manager.stop, unit)
            self._remove(record)
            raise StartFailed(fault("start.manager", title=title, why=str(error))) from error
        except OSError as error:
            self._remove(record)
            raise StartFailed(unwritable(str(path.parent), error)) from error
        if launch.stays:
            identity = identify(pid) if pid is not None else None
            if identity is None:
                await anyio.to_thread.run_sync(self.manager.forget, unit)
                self._remove(record)
                raise Ended
            record = replace(record, identity=identity)
            try:
                self._write(record)
            except StartFailed:
                # A server that nobody will know again is worse than none.
                await anyio.to_thread.run_sync(self.manager.stop, unit)
                self._remove(record)
                raise
        adopt(record, None)
        return record

    async def _detached(self, launch: Launch, record: Started, adopt: Adopt, title: str) -> Started:
        path = Path(record.log)

        def spawn() -> Child:
            put_aside(path)
            return spawn_detached(launch.argv, log=path, environment=launch.environment, held=True)

        child = await self._spawned(spawn, record, title)
        identity = identify(child.pid)
        if identity is None:
            release(child)
            await reap(child)
            raise Ended
        record = replace(record, identity=identity)
        try:
            self._write(record)
        except StartFailed:
            child.kill()
            child.wait()
            release(child)
            raise
        adopt(record, child)
        release(child)
        return record

    async def _to_its_end(self, launch: Launch, record: Started, title: str) -> None:
        """Run a command that ends once its server runs. Raises ``Ended`` where it ended badly."""
        path = Path(record.log)

        def spawn() -> Child:
            put_aside(path)
            return spawn_detached(launch.argv, log=path, environment=launch.environment)

        child = await self._spawned(spawn, record, title)
        with anyio.move_on_after(ONESHOT_PATIENCE):
            if await reap(child):
                raise Ended
            return
        child.kill()
        await reap(child)
        raise StartFailed(fault("start.timeout", title=title, seconds=ONESHOT_PATIENCE, **log_of(record.log)))

    async def _spawned(self, spawn: Callable[[], Child], record: Started, title: str) -> Child:
        try:
            return await anyio.to_thread.run_sync(spawn)
        except (OSError, ValueError) as error:
            words = (error.strerror if isinstance(error, OSError) else None) or error
            why = f": {words}"
            raise StartFailed(fault("start.ended", title=title, why=why, **log_of(record.log))) from error

    def _write(self, record: Started) -> None:
        try:
            self._records.write(record)
        except OSError as error:
            raise StartFailed(unwritable(str(self._records.folder), error)) from error

    def _remove(self, record: Started) -> None:
        try:
            self._records.remove(record.endpoint)
        except OSError as error:
            log.warning("record.not_removed", endpoint=record.endpoint, why=error.strerror)


async def wait_gone(manager: Manager, unit: str) -> None:
    """Wait until nothing is left of a unit whose process has ended; bounded, and not for one that runs.

    What a server left behind (a runner, an engine) is ended by systemd first, which takes a while; until
    then nothing else can be started under the name.
    """
    with anyio.move_on_after(LINGERING), contextlib.suppress(ManagerFailed):
        while True:
            state = await anyio.to_thread.run_sync(manager.state, unit, abandon_on_cancel=True)
            if not state.active or state.code is None:
                return
            await anyio.sleep(LOOK)


async def run_to_end(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command that ends a server; return why that failed, or nothing. Not cut short."""

    def run() -> str:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=END_PATIENCE,
                env=dict(environment),
                check=False,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return str(error)
        return f"{argv[0]} ended with {done.returncode}" if done.returncode else ""

    return await anyio.to_thread.run_sync(run)
