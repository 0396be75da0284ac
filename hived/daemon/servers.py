"""The servers that hived started, as it knows them now: their records, and what is said of each.

It starts and stops nothing. Whether a process lives is asked of the system every time.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping

import anyio.to_thread
import msgspec
import structlog

from hived.daemon.clock import Clock
from hived.decisions.addresses import host_and_port, place
from hived.decisions.expected import Given
from hived.decisions.outcomes import Circumstances
from hived.machine.log_tail import read_tail
from hived.machine.processes import is_alive
from hived.machine.recipes import Recipe, Stage, Wanted
from hived.machine.records import Records, Started
from hived_client.doors.boot import boot_id
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import Endpoint, Process

STARTING = 30.0
"""Seconds for which a refused connection to a living process means that it is starting."""

log = structlog.get_logger(__name__)


class Servers:
    """What hived started, by name."""

    def __init__(self, records: Records, recipes: Mapping[str, Recipe], clock: Clock) -> None:
        self._records = records
        self._recipes = recipes
        self._clock = clock
        self._started: dict[str, Started] = {}
        self._codes: dict[str, int | None] = {}
        self._verdicts: dict[tuple[str, int, str], Fault] = {}

    def __repr__(self) -> str:
        return f"<Servers {sorted(self._started)}>"

    def __iter__(self) -> Iterator[Started]:
        return iter(tuple(self._started.values()))

    def read(self) -> None:
        """Read what an earlier daemon started. Blocks."""
        self._started = {record.endpoint: record for record in self._records.read_all()}
        for record in self:
            if record.ends_with and not record.unit and record.boot != boot_id():
                self.drop(record.endpoint)  # no process tells that it ended with the machine

    def named(self, name: str) -> Started | None:
        """Return the record of a name."""
        return self._started.get(name)

    def at(self, url: str) -> Started | None:
        """Return the record of what was started at an address."""
        where = place(url)
        return next((r for r in self._started.values() if place(r.url) == where), None)

    def of(self, endpoint: Endpoint) -> Started | None:
        """Return the record behind an endpoint, which the configuration may have named before us.

        By its address alone: what has the same name elsewhere (on another device now) is another server.
        """
        return self.at(endpoint.url)

    def is_current(self, record: Started) -> bool:
        """Tell whether a record is still about the same process: not stopped, and not started anew.

        Of a server whose process is not ours to know, only the time of its start tells two apart.
        """
        now = self._started.get(record.endpoint)
        return now is not None and _begun(now) == _begun(record)

    def put(self, record: Started) -> None:
        """Take in a server that was begun, in place of an ended one of the same model."""
        for old in [r for r in self if r.endpoint != record.endpoint and _same(r, record) and not lives(r)]:
            self.drop(old.endpoint)
        self._started[record.endpoint] = record
        self._codes.pop(record.endpoint, None)
        self.withdraw(record.url)

    def change(self, record: Started) -> None:
        """Put a record in the place of itself, here and on disk."""
        self._started[record.endpoint] = record
        try:
            self._records.write(record)
        except OSError as error:
            log.warning("record.not_written", endpoint=record.endpoint, why=error.strerror)

    def drop(self, name: str) -> None:
        """Forget a server."""
        record = self._started.pop(name, None)
        self._codes.pop(name, None)
        if record is not None:
            self._verdicts.pop(place(record.url), None)
        try:
            self._records.remove(name)
        except OSError as error:
            # The process is gone all the same; the record will name one that nobody believes in.
            log.warning("record.not_removed", endpoint=name, why=error.strerror)

    def ended(self, name: str, code: int | None) -> None:
        """Keep how a server ended: its exit status, or that nobody saw it."""
        self._codes[name] = code

    def judge(self, url: str, verdict: Fault) -> None:
        """Keep what hived has to say of a server that is down."""
        self._verdicts[place(url)] = verdict

    def verdict(self, url: str) -> Fault | None:
        """Return what hived has to say of a server that is down."""
        return self._verdicts.get(place(url))

    def withdraw(self, url: str) -> None:
        """Have nothing more to say of it."""
        self._verdicts.pop(place(url), None)

    def given(self) -> tuple[Given, ...]:
        """Return the endpoints that are ours."""
        return tuple(
            Given(
                name=record.endpoint,
                provider=record.provider,
                url=record.url,
                source="started",
                origin="started by hived",
                process=process_of(record),
            )
            for record in self._started.values()
        )

    async def circumstances(self, endpoint: Endpoint) -> Circumstances:
        """Say what is known of the process behind an endpoint, if it is ours."""
        now, record = self._clock.wall(), self.of(endpoint)
        verdict = self.verdict(endpoint.url)
        if record is None or record.identity is None:
            return Circumstances(at=now, verdict=verdict)
        alive = lives(record)
        words, stage = "", None
        if not alive:
            words = await anyio.to_thread.run_sync(self.last_words, record, abandon_on_cancel=True)
        elif self._is_on_its_way(record):
            stage = await anyio.to_thread.run_sync(self.stage, record, abandon_on_cancel=True)
        return Circumstances(
            at=now,
            process_alive=alive,
            last_words=words,
            starting_until=self._starting_until(record),
            stage=stage.words if stage is not None else "",
            verdict=None if alive else verdict,
        )

    def stage(self, record: Started) -> Stage | None:
        """Say how far a start is by its log; ``None`` once it has answered. Blocks for a read."""
        if not self._is_on_its_way(record):
            return None
        return self._recipes[record.provider].stage(read_tail(record.log))

    def _is_on_its_way(self, record: Started) -> bool:
        """Tell whether a server has yet to answer that takes minutes to, and says meanwhile how far it is."""
        recipe = self._recipes.get(record.provider)
        return recipe is not None and record.ready_at is None and recipe.kind.listens_late

    def _starting_until(self, record: Started) -> float:
        if self._is_on_its_way(record):
            return math.inf  # for minutes, or for hours where it downloads: as long as it lives
        return record.started_at + STARTING

    def last_words(self, record: Started, *, started: bool = True) -> str:
        """Say why a server ended: the signal that killed it, or what its log says. Blocks for a read."""
        code = self._codes.get(record.endpoint) or 0
        if code < 0:
            return f"killed by {_signal_name(-code)}"
        recipe = self._recipes.get(record.provider)
        return recipe.why_it_ended(read_tail(record.log), started=started) if recipe is not None else ""

    def broke_down(self, record: Started) -> bool:
        """Tell whether a server that ended in good order had broken. Blocks for a read."""
        recipe = self._recipes.get(record.provider)
        return recipe is not None and recipe.broke_down(read_tail(record.log))


def lives(record: Started) -> bool:
    """Tell whether a server of ours runs, as far as can be told: what cannot be looked at is not given up."""
    if record.identity is None:
        return True
    try:
        return is_alive(record.identity)
    except OSError:
        return True


def _begun(record: Started) -> tuple[object, ...]:
    return record.identity, record.unit, record.started_at


def _same(one: Started, other: Started) -> bool:
    if one.model or other.model:
        return one.provider == other.provider and one.model == other.model
    return place(one.url) == place(other.url)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def again(record: Started) -> Wanted:
    """Return what was asked for, at the very port that it had."""
    wanted = record.wanted or Wanted(model=record.model or None, alias=record.alias, context=record.context)
    return msgspec.structs.replace(wanted, port=host_and_port(record.url)[1])


def process_of(record: Started) -> Process:
    """Return what clients are told of a server that hived started."""
    was = again(record)
    port = was.port if record.model else record.wanted.port if record.wanted is not None else None
    return Process(
        pid=record.identity.pid if record.identity is not None else None,
        command=record.argv,
        log=record.log,
        name=record.endpoint,
        provider=record.provider,
        model=record.model,
        port=port or None,  # where it is configured, unless another one was asked for
        context=was.context,
        alias=was.alias or "",
        arguments=was.arguments,
        unit=record.unit,
    )
