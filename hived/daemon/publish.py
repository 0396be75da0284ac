"""Write the World where every client reads it, and keep a copy that outlives the machine's sleep.

The snapshot is written when the World changes, at most twenty times a second, and an endpoint that did
not change is not encoded again. The beat is written twice a second by the daemon's own loop: a loop
that hangs must look hung.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

import anyio
import msgspec
import structlog

from hived.daemon.aside import Aside
from hived.daemon.clock import Clock
from hived.daemon.store import Store
from hived.decisions.transitions import complain
from hived_client.doors.beat import FULL, STOPPED, UNWRITABLE, encode_beat
from hived_client.doors.paths import Places, unwritable
from hived_client.doors.snapshot import WARM, Entry, encode_endpoint, encode_snapshot, read_snapshot
from hived_client.doors.whole import write_whole
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import CALLABLE, Endpoint, World

COALESCE = 0.05
"""Seconds between two snapshots, at least."""

RETRY = 1.0
"""Seconds between two tries while the folder can not be written."""

REMEMBER_EVERY = 5.0
"""Seconds between two copies to the state folder, at least."""

PATIENCE = 5.0
"""Seconds that a copy may take: the state folder may lie on a disk that hangs."""

log = structlog.get_logger(__name__)


class Publisher:
    """Writes the snapshot, the beat and the last known World."""

    def __init__(
        self,
        store: Store,
        places: Places,
        clock: Clock,
        daemon_id: bytes,
        *,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """``is_ours`` tells whether the folder is still this daemon's: another one's is left alone."""
        self._is_ours = is_ours
        self._store = store
        self._places = places
        self._clock = clock
        self._id = daemon_id
        self._entries: dict[str, tuple[Endpoint, Entry]] = {}
        self._published = -1
        self._remembered = -1
        self._beat_fd = -1
        self._memory = Aside()
        self._failing = False
        self._troubles: dict[str, Fault] = {}
        self.writes = 0
        self.turns = 0

    def __repr__(self) -> str:
        return f"<Publisher generation {self._published}, {self.writes} writes>"

    def statistics(self) -> dict[str, int | bool]:
        """Return counts for ``hived status``."""
        return {"published": self._published, "writes": self.writes, "failing": self._failing}

    @property
    def is_behind(self) -> bool:
        """Whether the World is another than the one that was written last."""
        return self._published != self._store.world.generation

    async def run(self) -> None:
        """Publish every change."""
        while True:
            self.turns += 1
            self.publish()
            # What changes meanwhile is written together; a disk that is full is not tried in a hurry.
            await anyio.sleep(RETRY if self._failing else COALESCE)
            await self._store.wait_changed(self._published)

    async def run_memory(self) -> None:
        """Copy the World to the state folder, now and then, when it has changed."""
        while True:
            await self._store.wait_changed(self._remembered)
            await self._remember(self._dated())
            await anyio.sleep(REMEMBER_EVERY)

    def flush(self) -> None:
        """Have the files show the World as it is now, for a client that is about to be told of it.

        A folder that cannot be written is left to ``run``, which tries it now and then.
        """
        if self._failing or self._published == self._store.world.generation:
            self.beat()
        else:
            self.publish()

    def publish(self, *, flags: int = 0) -> None:
        """Write the snapshot, then the beat. A disk that is full loses neither the World nor the daemon."""
        world = self._store.world
        if not self._is_ours():
            # It was removed, and another daemon may have made it again: its snapshot is not ours to replace.
            self._failing = True
            return
        if not any(slot[0] for slot in self._store.slots):
            flags |= WARM
        data = encode_snapshot(world, self._encode(world.endpoints), daemon_id=self._id, flags=flags)
        try:
            write_whole(self._places.snapshot, data)
        except OSError as error:
            self._fail(error)
        else:
            self._published = world.generation
            self.writes += 1
            self._failing = False
            self._tell(self._places.folder, None)
        self.beat(flags=flags)

    def beat(self, *, flags: int = 0) -> None:
        """Say that the daemon lives."""
        current = self._published == self._store.world.generation
        trouble = self._troubles.get(self._places.folder)
        if trouble is not None:
            flags |= FULL if trouble.code == "disk.full" else UNWRITABLE
        data = encode_beat(
            generation=max(0, self._published),
            at_ns=self._clock.since_boot_ns(),
            daemon_id=self._id,
            # A snapshot that could not be written must not be taken for today's: clients then ask.
            slots=self._store.slots if current or not self._failing else (),
            flags=flags,
        )
        try:
            if self._beat_fd < 0:
                self._beat_fd = os.open(
                    self._places.beat, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
                os.ftruncate(self._beat_fd, len(data))
            os.pwrite(self._beat_fd, data, 0)
        except OSError as error:
            self._fail(error)

    def reopen(self) -> None:
        """Forget the files: they, or their folder, have gone. The next beat makes new ones."""
        if self._beat_fd >= 0:
            os.close(self._beat_fd)
            self._beat_fd = -1
        self._published = -1
        self.publish()

    def is_intact(self) -> bool:
        """Tell whether the files are still there, and the beat is the one that we write."""
        try:
            there = os.stat(self._places.beat)
            mine = os.fstat(self._beat_fd)
            os.stat(self._places.snapshot)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    async def finish(self, *, last_word: bool = True) -> None:
        """Publish the last World as the last, and keep it, where the disk comes back in time.

        Without ``last_word`` the folder is another daemon's by now, and its files are left alone.
        """
        if last_word:
            self.publish(flags=STOPPED)
        await self._remember(self._dated())
        if self._beat_fd >= 0:
            os.close(self._beat_fd)
            self._beat_fd = -1

    def _encode(self, endpoints: Sequence[Endpoint]) -> list[Entry]:
        fresh: dict[str, tuple[Endpoint, Entry]] = {}
        for endpoint in endpoints:
            known = self._entries.get(endpoint.name)
            if known is None or known[0] is not endpoint:
                known = (endpoint, encode_endpoint(endpoint))
            fresh[endpoint.name] = known
        self._entries = fresh
        return [entry for _, entry in fresh.values()]

    def _dated(self) -> World:
        """Return the World with the date of each inventory, which is what will matter when it is read."""
        world, now = self._store.world, self._clock.wall()
        endpoints = []
        for endpoint in world.endpoints:
            age = self._store.age(endpoint.name)
            if endpoint.models is not None and endpoint.state in CALLABLE and age is not None:
                endpoint = msgspec.structs.replace(endpoint, models_at=now - age)
            endpoints.append(endpoint)
        return msgspec.structs.replace(world, endpoints=tuple(endpoints))

    async def _remember(self, world: World) -> None:
        """Write what survives the daemon; put into the World that it cannot be."""

        def write() -> None:
            entries = [encode_endpoint(endpoint) for endpoint in world.endpoints]
            data = encode_snapshot(world, entries, daemon_id=self._id)
            write_whole(self._places.last_known, data, sync=True)

        try:
            await self._memory.within(PATIENCE, write)
        except TimeoutError:
            self._tell(self._places.state, OSError(errno.ETIMEDOUT, "the disk does not answer"))
        except OSError as error:
            self._tell(self._places.state, error)
        else:
            self._remembered = world.generation
            self._tell(self._places.state, None)

    def _fail(self, error: OSError) -> None:
        self._failing = True
        self._tell(self._places.folder, error)

    def _tell(self, folder: str, error: OSError | None) -> None:
        """Put into the World that a folder cannot be written, or that it can be again.

        The snapshot cannot say so of its own folder: the beat, which has its room already, has flags for it.
        """
        before, now = self._troubles.get(folder), None if error is None else unwritable(folder, error)
        if before == now:
            return
        if now is None:
            del self._troubles[folder]
            log.warning("folder.writable", path=folder)
        else:
            self._troubles[folder] = now
            log.warning(now.code, path=folder, why=now.message)
        troubles = tuple(self._troubles.values())
        self._store.update(lambda world: complain(world, troubles))


def read_last_known(path: str) -> World | None:
    """Read what an earlier daemon kept; a file that makes no sense is put aside and forgotten."""
    try:
        return read_snapshot(path).world()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("state.unreadable", path=path, why=error.strerror)
        return None
    except HivedError as error:
        log.warning("state.corrupt", path=path, why=error.message)
        try:
            os.replace(path, f"{path}.corrupt")
        except OSError:
            pass
        return None
