"""Keeps what is known of this machine: looked at once, kept on disk for this boot, moved while watched.

Nothing here is on the way of a question, and nothing waits for the machine without an end: everything is
asked in a thread that may be left behind, which asks programs that may be left behind. What did not answer is
asked again later and ever less often. While nobody watches, nothing else is asked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

import anyio
import msgspec
import structlog

from hived.daemon import surroundings
from hived.daemon.aside import Aside
from hived.daemon.clock import Clock
from hived.daemon.store import Store
from hived.decisions.hardware import SILENT, WATCHING, YOUNG, next_look, retry_after
from hived.decisions.machine_line import summary
from hived.decisions.transitions import equip
from hived.machine.hardware.asking import Asking
from hived.machine.hardware.bandwidth_table import read_table
from hived.machine.hardware.keeping import Kept, read_kept, write_kept
from hived.machine.hardware.questions import Replies
from hived.machine.hardware.understanding import Captured, understand
from hived_client.vocabulary.hardware import Asked, Bandwidth, Hardware, Probe

T = TypeVar("T")

FILE = "the file of kept facts"
FILE_PATIENCE = 5.0
"""Seconds for reading or writing it: a home on another machine may not answer."""

LONGEST = 60.0
"""Seconds that anything here may take: each question has a deadline of its own, which is shorter."""

UNMEASURED = 300.0
"""Seconds for which a memory that could not be measured is not measured again, unless somebody wants that."""

CHAINS = dict.fromkeys(
    ("nvml", "nvidia-smi", "nvidia-smi processes", "nvidia-smi -L", "nvidia-smi -q -x"), "nvidia"
)
"""Probes that are asked one after the other, under one name."""

log = structlog.get_logger(__name__)


class Machine(Protocol):
    """What is asked about this machine. Blocks; ``give_up`` ends that from outside."""

    def everything(self, skip: frozenset[str]) -> Captured: ...
    def what_moves(self, before: Captured, skip: frozenset[str]) -> Captured: ...
    def mark(self) -> str: ...
    def measure(self, hardware: Hardware | None) -> Bandwidth | None: ...
    def give_up(self) -> None: ...


class Elsewhere(Protocol):
    """Does something that blocks, elsewhere."""

    async def run(self, act: Callable[[], T]) -> T: ...


class OneThread:
    """A thread that is left behind where nobody waits for it any more; the next one waits for its end."""

    def __init__(self) -> None:
        self._thread = Aside()

    async def run(self, act: Callable[[], T]) -> T:
        """Raises TimeoutError where that does not come within ``LONGEST``."""
        return await self._thread.within(LONGEST, act)


class HardwareWatch:
    """Looks at this machine, and tells the World what is new."""

    def __init__(
        self,
        store: Store,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        path: str,
        machine: Machine | None = None,
        aside: Elsewhere | None = None,
        disk: Elsewhere | None = None,
    ) -> None:
        """``path``: where the facts of this boot are kept; ``disk`` reads and writes there."""
        self._store = store
        self._clock = clock
        self._path = path
        self._machine = machine or Asking(environment, root=surroundings.ROOT, wall=clock.wall)
        self._aside = aside or OneThread()
        self._disk = disk or OneThread()
        self._captured: Captured | None = None
        self._understood: Hardware | None = None
        self._hardware: Hardware | None = None
        self._bandwidth: Bandwidth | None = None
        self._measurable = -math.inf
        """When the memory may be measured again that could not be."""
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._file_failures = 0
        self._file_due = float("-inf")
        self._watched_until = float("-inf")
        self._looked_at = float("-inf")
        self._cause = anyio.Event()
        self._turn = anyio.Lock()
        self.looks = 0

    def __repr__(self) -> str:
        return f"<HardwareWatch {self.looks} looks>"

    def statistics(self) -> dict[str, object]:
        """Return counts for ``hived status``."""
        return {"looks": self.looks, "failures": dict(self._failures)}

    def watched(self) -> None:
        """Note that somebody watches, for a while."""
        was_watched = anyio.current_time() < self._watched_until
        self._watched_until = anyio.current_time() + WATCHING
        if not was_watched:
            self._cause.set()

    async def read(self, asked: Asked) -> Hardware:
        """Return the facts as they are now, at most a second old. Safe to cancel."""
        self.watched()
        async with self._turn:
            if self._captured is None:
                await self._begin()
            if asked.again:
                self._due.clear()  # whoever asks for everything is told of everything
                await self._look_at_all()
            else:
                await self._look_if_old()
            if asked.bandwidth and self._is_to_be_measured(again=asked.again):
                await self._measure()
        assert self._hardware is not None
        return self._hardware

    async def run(self) -> None:
        """Look once, and then whenever there is cause."""
        async with self._turn:
            if self._captured is None:
                await self._begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._note_loading)
            await self._look_on()

    async def _look_on(self) -> None:
        while True:
            self._cause = anyio.Event()
            wait = self._wait()
            with anyio.move_on_after(float("inf") if wait is None else wait):
                await self._cause.wait()
            async with self._turn:
                if self._file_failures and self._file_due <= anyio.current_time():
                    await self._try_file_again()
                else:
                    await self._look_if_old()

    async def _note_loading(self) -> None:
        """Have the looks come faster as soon as a model begins to load, rather than after the next one."""
        was_loading, generation = False, -1
        while True:
            generation = (await self._store.wait_changed(generation)).generation
            is_loading = anyio.current_time() < self._watched_until and self._is_loading()
            if is_loading and not was_loading:
                self._cause.set()
            was_loading = is_loading

    def _wait(self) -> float | None:
        now = anyio.current_time()
        due = [*self._due.values(), *([self._file_due] if self._file_failures else [])]
        return next_look(
            watched=now < self._watched_until,
            loading=self._is_loading(),
            retry=min(due) - now if due else None,
        )

    async def _begin(self) -> None:
        """Take what is kept of this boot; else look at everything."""
        mark = await self._do(self._machine.mark)
        kept = await self._on_disk(partial(read_kept, self._path))
        if kept is not None and kept.mark == mark:
            self._captured, self._bandwidth = kept.captured, kept.bandwidth
            await self._look_at_what_moves()
        else:
            await self._look_at_all()
        if self._hardware is not None:
            log.info("hardware.known", runs_on=self._hardware.runs_on, machine=summary(self._hardware))

    async def _look_at_all(self) -> None:
        await self._look(self._machine.everything)
        await self._keep()

    async def _look_if_old(self) -> None:
        """Look at what moves, unless somebody else did just now; at everything where something is due."""
        now = anyio.current_time()
        if any(due <= now for due in self._due.values()):
            await self._look_at_all()  # what failed may be asked at a whole look only
        elif now - self._looked_at >= YOUNG:
            await self._look_at_what_moves()

    async def _look_at_what_moves(self) -> None:
        assert self._captured is not None
        await self._look(partial(self._machine.what_moves, self._captured))

    async def _look(self, ask: Callable[[frozenset[str]], Captured]) -> None:
        """Ask, understand, and tell the World what is new."""
        now = anyio.current_time()
        skip = frozenset(name for name, due in self._due.items() if due > now)
        captured, understood = await self._do(partial(_ask, ask, self._captured, skip))
        self._captured = captured
        self._looked_at = anyio.current_time()
        self.looks += 1
        self._count_failures(captured.replies, skip)
        self._tell(understood)

    def _tell(self, understood: Hardware) -> None:
        self._understood = understood
        probes = tuple(
            msgspec.structs.replace(each, failures=self._failures.get(_question(each.name), 0))
            for each in understood.probes
        )
        if self._file_failures:
            why = f"{self._path} was not to be read or written within {FILE_PATIENCE:.0f} s"
            probes += (Probe(name=FILE, state="late", why=why, failures=self._file_failures),)
        memory = msgspec.structs.replace(understood.memory, bandwidth=self._bandwidth)
        hardware = self._hardware = msgspec.structs.replace(understood, probes=probes, memory=memory)
        self._store.update(lambda world: equip(world, hardware))

    def _count_failures(self, replies: Replies, skip: frozenset[str]) -> None:
        """Put off what did not answer, the longer the more often; and say so once."""
        silent = {_question(name): each.why for name, each in replies.items() if each.state in SILENT}
        asked = {_question(each) for each in replies} - skip
        for name in set(self._due) - skip - asked:  # nobody could ask it now (a card sleeps, say)
            self._put_off(name)
        for name in asked:
            if name not in silent:
                self._failures.pop(name, None)
                self._due.pop(name, None)
                continue
            if self._put_off(name) == 1:
                log.warning("hardware.silent", probe=name, why=silent[name])

    def _put_off(self, name: str) -> int:
        """Have it asked again later; return how often in a row that was so."""
        self._failures[name] = failures = self._failures.get(name, 0) + 1
        self._due[name] = anyio.current_time() + retry_after(failures)
        return failures

    def _is_to_be_measured(self, *, again: bool) -> bool:
        """Tell whether the memory is: once, and anew where the machine was busy, if somebody wants that."""
        if self._bandwidth is None:
            return again or anyio.current_time() >= self._measurable
        return again and bool(self._bandwidth.note)

    async def _measure(self) -> None:
        self._measurable = anyio.current_time() + UNMEASURED
        found = await self._do(partial(self._machine.measure, self._hardware))
        if found is None or self._hardware is None:
            return
        self._bandwidth = msgspec.structs.replace(found, observed_at=self._clock.wall())
        self._tell(self._hardware)
        await self._keep()

    async def _keep(self) -> None:
        """Write down what does not change in this boot, unless something did not answer."""
        if self._captured is None or self._failures:
            return
        mark = await self._do(self._machine.mark)
        kept = Kept(mark=mark, captured=self._captured, bandwidth=self._bandwidth)
        await self._on_disk(partial(write_kept, self._path, kept))

    async def _try_file_again(self) -> None:
        """Write down what is known; where that is not to be kept, see whether the disk answers."""
        if self._failures:
            await self._on_disk(partial(read_kept, self._path))
        else:
            await self._keep()

    async def _on_disk(self, act: Callable[[], T]) -> T | None:
        """Read or write the file; ``None`` where its disk does not answer, and for a while after that."""
        if self._file_failures and anyio.current_time() < self._file_due:
            return None
        found, failures = None, self._file_failures + 1
        with anyio.move_on_after(FILE_PATIENCE):
            found, failures = await self._disk.run(act), 0
        if failures == 1:
            log.warning("hardware.silent", probe=FILE, why=self._path)
        self._file_due = anyio.current_time() + retry_after(max(1, failures))
        if failures != self._file_failures:
            self._file_failures = failures
            if self._understood is not None:
                self._tell(self._understood)
        return found

    def _is_loading(self) -> bool:
        return any(
            endpoint.state == "loading" or any(model.state == "loading" for model in endpoint.models or ())
            for endpoint in self._store.world.endpoints
            if endpoint.locality == "device"
        )

    async def _do(self, act: Callable[[], T]) -> T:
        """Do something that blocks; where nobody waits for it any more, it is told to come to an end."""
        try:
            return await self._aside.run(act)
        except anyio.get_cancelled_exc_class():
            self._machine.give_up()
            raise


def _ask(
    ask: Callable[[frozenset[str]], Captured], before: Captured | None, skip: frozenset[str]
) -> tuple[Captured, Hardware]:
    """Ask all but ``skip``, and understand. Of what was not asked now, the last answer stands. Blocks."""
    captured = ask(skip)
    kept = {
        name: each
        for name, each in (before.replies if before is not None else {}).items()
        if _question(name) in skip or (each.is_answer and _sleeps(captured, name))
    }
    captured = msgspec.structs.replace(_with_files_of(captured, before), replies=captured.replies | kept)
    hardware = understand(captured)
    # Without a card the table is of no use, and need not be in memory.
    return captured, understand(captured, read_table()) if hardware.gpus else hardware


def _with_files_of(captured: Captured, before: Captured | None) -> Captured:
    """Keep the files of before where they could not be read this time."""
    if before is None:
        return captured
    silent = {name for name in ("system", "cards") if not _is_read(captured, name)}
    return msgspec.structs.replace(
        captured,
        system=before.system | captured.system if "system" in silent else captured.system,
        cards=captured.cards or before.cards if "cards" in silent else captured.cards,
    )


def _is_read(captured: Captured, name: str) -> bool:
    reply = captured.replies.get(name)
    return reply is not None and reply.state not in SILENT


def _sleeps(captured: Captured, name: str) -> bool:
    reply = captured.replies.get(name)
    return reply is not None and reply.state == "asleep"


def _question(probe: str) -> str:
    return CHAINS.get(probe, probe)


def kept_path(state: str) -> str:
    """Return where the facts of this boot are kept."""
    return os.path.join(state, "hardware")
