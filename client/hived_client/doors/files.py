"""What the files say: the newest snapshot, how alive its daemon is, and how old each fact is.

A beat that is young proves that the daemon lives. An older one is settled by one connection that does
not wait: it is refused in microseconds when the daemon is gone, and accepted by the kernel while the
daemon is merely busy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from hived_client._version import __version__
from hived_client.doors.beat import FULL, UNWRITABLE, Beat, BeatReader, Seen, verdict_of
from hived_client.doors.paths import Places, candidates
from hived_client.doors.since_boot import since_boot
from hived_client.doors.snapshot import Snapshot, read_snapshot
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.world import Endpoint, Verdict, World


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the files."""

    verdict: Verdict
    now: float
    """Seconds since the boot when they were looked at."""
    places: Places
    snapshot: Snapshot | None = None
    beat: Beat | None = None
    problem: Fault | None = None
    """Why there is no snapshot, where there is something in its place."""

    @property
    def running(self) -> bool:
        """Whether there is a daemon to ask."""
        return self.verdict in ("fresh", "lagging", "stale")

    def seen(self, endpoint: str) -> Seen:
        """Return when this daemon last saw an endpoint; never for the World of another daemon.

        Until a new daemon has written its first snapshot, its beat lies beside its predecessor's World,
        whose endpoints had other rows.
        """
        if (
            self.beat is None
            or self.snapshot is None
            or self.snapshot.header.daemon_id != self.beat.daemon_id
        ):
            return Seen(None, None, 15.0)
        return self.beat.seen(self.snapshot.slot(endpoint))

    def age(self, endpoint: str) -> float | None:
        """Return the seconds since an endpoint was last seen; ``None`` where it never was in this boot."""
        return self.seen(endpoint).age(self.now)

    def is_young(self, endpoint: str) -> bool:
        """Tell whether the last look at an endpoint is younger than two cadences."""
        return self.seen(endpoint).is_young(self.now)


class Files:
    """The files of one daemon, looked at as often as there are questions.

    Threads may share one: what is kept is replaced whole, and two that look at once only look twice.
    """

    def __init__(
        self,
        places: Places | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._environment = environment
        self._given = [places] if places is not None else None
        self._candidates = self._given
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._beats = BeatReader()

    def __repr__(self) -> str:
        return f"<Files {self._snapshot!r}>"

    @property
    def candidates(self) -> list[Places]:
        """The places looked at, the likeliest first."""
        known = self._candidates  # another thread may forget them between a test and a use
        if known is None:
            known = self._candidates = candidates(self._environment)
        return known

    def look(self) -> View:
        """Look at the files. Never raises for what is in them."""
        views = []
        for places in self.candidates:
            view = self._look_at(places)
            if view.running:
                return view
            views.append(view)
        self._candidates = self._given  # nothing runs where we looked: read the breadcrumb again next time
        best = next((view for view in views if view.snapshot is not None), views[0])
        return best if best.snapshot is not None else self._last_known(best)

    def _look_at(self, places: Places) -> View:
        now = self._clock()
        beat: Beat | None
        try:
            beat = self._beats.read(places.beat)
            if verdict_of(beat, now) != "fresh":
                beat = self._beats.read_again(places.beat)  # it may lie there anew since
        except FileNotFoundError:
            # No beat, and yet there may be a daemon that has just lost its folder.
            return View(verdict="absent", now=now, places=places)
        except HivedError as error:
            verdict: Verdict = "stale" if accepts(places.socket) else "foreign"
            return View(verdict=verdict, now=now, places=places, problem=error.fault)
        verdict = verdict_of(beat, now)
        if verdict == "fresh":
            known = self._snapshot
            if (
                known is not None
                and known.generation == beat.generation
                and known.header.daemon_id == beat.daemon_id
            ):
                return View(verdict="fresh", now=now, places=places, snapshot=known, beat=beat)
        elif verdict in ("lagging", "stale", "foreign"):
            alive = accepts(places.socket)
            if verdict == "foreign":
                # From another boot (or a clock of another machine): a daemon that accepts is a live one
                # whose files we can not judge; otherwise these are the last known facts. Either way the
                # times in the beat are of another clock, by which an old fact could look young.
                verdict = "stale" if alive else "foreign"
                beat = None
            elif not alive:
                verdict = "absent"
        snapshot, problem = self._read(places)
        return View(verdict=verdict, now=now, places=places, snapshot=snapshot, beat=beat, problem=problem)

    def _read(self, places: Places) -> tuple[Snapshot | None, Fault | None]:
        try:
            snapshot = read_snapshot(places.snapshot, self._snapshot)
        except FileNotFoundError:
            return None, None
        except HivedError as error:
            return None, error.fault
        self._snapshot = snapshot
        return snapshot, None

    def _last_known(self, view: View) -> View:
        try:
            snapshot = read_snapshot(view.places.last_known)
        except (OSError, HivedError):
            return view
        return msgspec.structs.replace(view, snapshot=snapshot)


def accepts(path: str) -> bool:
    """Tell, without waiting, whether somebody of ours listens on a Unix socket."""
    import socket

    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return True  # we have no descriptor left: that says nothing of the daemon
    with connection:
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BlockingIOError:
            return True  # its queue is full: busy, not gone
        except OSError:
            return False
        return True


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The last World, and how far it can be believed."""

    world: World
    verdict: Verdict
    age: float | None
    """Seconds since the daemon's last beat; ``None`` without one in this boot."""
    seen: dict[str, Seen] = {}
    """When each endpoint was last seen, in seconds since the epoch."""
    places: Places
    problem: Fault | None = None
    notes: tuple[Fault, ...] = ()
    """What only a client can tell: that the daemon is of another version."""


def known(view: View, wall: float) -> Known:
    """Return a view as the World with its verdict; ``wall`` is the time now, since the epoch."""
    snapshot = view.snapshot
    world = snapshot.world() if snapshot is not None else World(generation=0)
    age = None
    if view.beat is not None:
        age = max(0.0, view.now - view.beat.at)
    seen = {endpoint.name: _seen_at(view, endpoint, wall) for endpoint in world.endpoints}
    problem = view.problem
    flags = view.beat.flags if view.running and view.beat is not None else 0
    if flags & FULL:
        problem = fault("disk.full", path=view.places.folder)
    elif flags & UNWRITABLE:
        problem = fault("runtime.unwritable", path=view.places.folder, why="hived's log says why")
    return Known(
        world=world,
        verdict=view.verdict,
        age=age,
        seen=seen,
        places=view.places,
        problem=problem,
        notes=_other_version(world) if view.running else (),
    )


def _other_version(world: World) -> tuple[Fault, ...]:
    """Say that the daemon is of another version than this client: each understands the other, but old
    code goes on running until it is started again.
    """
    daemon = world.daemon
    if daemon is None or daemon.version == __version__:
        return ()
    from hived_client.doors.origin import install_command
    from hived_client.vocabulary.versions import is_newer  # only whoever finds another version pays for it

    is_older = is_newer(daemon.version, __version__)
    again = "hived service install" if daemon.managed_by in ("systemd", "launchd") else ""
    return (
        fault(
            "daemon.other_version",
            version=daemon.version,
            ours=__version__,
            pid=daemon.pid,
            upgrade=install_command(upgrade=True) if is_older else "",
            restart=again,
        ),
    )


def _seen_at(view: View, endpoint: Endpoint, wall: float) -> Seen:
    seen = view.seen(endpoint.name)
    if seen.at is None:
        return Seen(endpoint.models_at, None, seen.cadence)
    return Seen(wall - (view.now - seen.at), seen.latency, seen.cadence)
