"""Keeps what is known of this machine: looked at once, kept on disk for this boot, moved while watched.

Nothing here is on the way of a question, and nothing waits for the machine without an end: everything is
asked in a thread that may be left behind, which asks programs that may be left behind. What did not answer is
asked again later and ever less often. While nobody watches, nothing else is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog

from hived.daemon import surroundings
from hived.daemon.clock import Clock
from hived.daemon.store import Store
from hived.decisions.hardware import SILENT, WATCHING, YOUNG, next_look, retry_after
from hived.decisions.machine_line import summary
from hived.decisions.transitions import equip
from hived.machine.commands import run_bounded
from hived.machine.hardware.asking import Asking, Replies, measure_memory
from hived.machine.hardware.bandwidth_table import read_table
from hived.machine.hardware.keeping import Kept, read_kept, write_kept
from hived.machine.hardware.understanding import Captured, understand
from hived_client.vocabulary.hardware import Asked, Bandwidth, Hardware

T = TypeVar("T")

CHAINS = {"nvml": "nvidia", "nvidia-smi": "nvidia", "nvidia-smi -L": "nvidia", "nvidia-smi -q -x": "nvidia"}
"""Probes that are asked one after the other, under one name."""

log = structlog.get_logger(__name__)


class HardwareWatch:
    """Looks at this machine, and tells the World what is new."""

    def __init__(
        self,
        store: Store,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        path: str,
        asking: Asking | None = None,
    ) -> None:
        """``path``: where the facts of this boot are kept."""
        self._store = store
        self._clock = clock
        self._path = path
        self._asking = asking or Asking(environment, root=surroundings.ROOT, wall=clock.wall)
        self._captured: Captured | None = None
        self._hardware: Hardware | None = None
        self._bandwidth: Bandwidth | None = None
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._watched_until = float("-inf")
        self._looked_at = float("-inf")
        self._cause = anyio.Event()
        self._turn = anyio.Lock()
        self._threads = anyio.CapacityLimiter(1)
        self._is_told = False
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
            if asked.again or self._captured is None:
                await self._look_at_all()
            elif anyio.current_time() - self._looked_at >= YOUNG:
                await self._look_at_what_moves()
            if asked.bandwidth and self._bandwidth is None:
                await self._measure()
        assert self._hardware is not None
        return self._hardware

    async def run(self) -> None:
        """Look once, and then whenever there is cause."""
        async with self._turn:
            if self._captured is None:
                await self._begin()
        while True:
            now = anyio.current_time()
            wait = next_look(
                watched=now < self._watched_until,
                loading=self._is_loading(),
                retry=min(self._due.values()) - now if self._due else None,
            )
            self._cause = anyio.Event()
            with anyio.move_on_after(float("inf") if wait is None else wait):
                await self._cause.wait()
            async with self._turn:
                # Whoever asked meanwhile may have looked already.
                if anyio.current_time() - self._looked_at >= YOUNG:
                    await self._look_at_what_moves()

    async def _begin(self) -> None:
        """Take what is kept of this boot; else look at everything."""
        mark = await self._aside(self._asking.mark)
        kept = await self._aside(partial(read_kept, self._path))
        if kept is None or mark is None or kept.mark != mark:
            await self._look_at_all()
            return
        self._captured, self._bandwidth = kept.captured, kept.bandwidth
        await self._look_at_what_moves()

    async def _look_at_all(self) -> None:
        await self._take(self._asking.everything)
        await self._keep()

    async def _look_at_what_moves(self) -> None:
        before = self._captured
        assert before is not None
        await self._take(partial(self._asking.what_moves, before))

    async def _take(self, ask: Callable[..., Captured]) -> None:
        """Ask, understand, and tell the World what is new."""
        now = anyio.current_time()
        skip = frozenset(name for name, due in self._due.items() if due > now)
        captured, understood = await self._aside(partial(_ask, ask, self._captured, skip))
        self._looked_at = anyio.current_time()
        self.looks += 1
        self._captured = captured
        self._count_failures(captured.replies, skip)
        self._tell(understood)

    def _tell(self, understood: Hardware) -> None:
        probes = tuple(
            msgspec.structs.replace(each, failures=self._failures.get(CHAINS.get(each.name, each.name), 0))
            for each in understood.probes
        )
        memory = msgspec.structs.replace(understood.memory, bandwidth=self._bandwidth)
        hardware = self._hardware = msgspec.structs.replace(understood, probes=probes, memory=memory)
        if not self._is_told:
            self._is_told = True
            log.info("hardware.known", runs_on=hardware.runs_on, machine=summary(hardware))
        self._store.update(lambda world: equip(world, hardware))

    def _count_failures(self, replies: Replies, skip: frozenset[str]) -> None:
        """Put off what did not answer, the longer the more often; and say so once."""
        broken = {CHAINS.get(name, name) for name, each in replies.items() if each.state in SILENT}
        for name in {CHAINS.get(each, each) for each in replies} - skip:
            if name not in broken:
                self._failures.pop(name, None)
                self._due.pop(name, None)
                continue
            self._failures[name] = failures = self._failures.get(name, 0) + 1
            self._due[name] = anyio.current_time() + retry_after(failures)
            if failures == 1:
                why = next(
                    each.why for key, each in replies.items() if CHAINS.get(key, key) == name and each.why
                )
                log.warning("hardware.silent", probe=name, why=why)

    async def _measure(self) -> None:
        speed = await self._aside(partial(measure_memory, run_bounded, self._hardware))
        if speed is None:
            return
        self._bandwidth = Bandwidth(low=speed, high=speed, source="measured", observed_at=self._clock.wall())
        if self._hardware is not None:
            self._tell(self._hardware)
        await self._keep()

    async def _keep(self) -> None:
        """Write down what does not change in this boot, unless something did not answer."""
        captured = self._captured
        if captured is None or self._failures:
            return
        mark = await self._aside(self._asking.mark)
        if mark is not None:
            kept = Kept(mark=mark, captured=captured, bandwidth=self._bandwidth)
            await self._aside(partial(write_kept, self._path, kept))

    def _is_loading(self) -> bool:
        return any(
            endpoint.state == "loading" or any(model.state == "loading" for model in endpoint.models or ())
            for endpoint in self._store.world.endpoints
            if endpoint.locality == "device"
        )

    async def _aside(self, act: Callable[[], T]) -> T:
        """Do something that blocks in a thread, which is told to end where nobody waits any more."""
        try:
            return await anyio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._threads)
        except anyio.get_cancelled_exc_class():
            self._asking.give_up()
            raise


def _ask(
    ask: Callable[..., Captured], before: Captured | None, skip: frozenset[str]
) -> tuple[Captured, Hardware]:
    """Ask all but ``skip``, of which the last answer stands, and understand. Blocks."""
    captured = ask(skip=skip)
    kept = (
        {name: each for name, each in before.replies.items() if CHAINS.get(name, name) in skip}
        if before
        else {}
    )
    captured = msgspec.structs.replace(captured, replies=captured.replies | kept)
    return captured, understand(captured, read_table())


def kept_path(state: str) -> str:
    """Return where the facts of this boot are kept."""
    return os.path.join(state, "hardware")
