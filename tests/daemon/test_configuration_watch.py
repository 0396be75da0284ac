"""However the configuration is replaced, what changed is followed and what did not is left alone."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import Change, Endpoint
from tests.daemon.running import A_CADENCE, Running, wait_until
from tests.servers.strangers import LyingLlamaCpp

pytestmark = pytest.mark.stress

QUIET = 0.5
"""Seconds without a look after which the first looks at a server are over: what it is, and its process."""
A_FEW_POLLS = 1.0
"""Seconds in which a change that is not wanted would have shown."""
LARGE = 5_000_000


class Place(NamedTuple):
    """A daemon that watches ``neighbour``, which nobody touches, and ``lab``, which moves."""

    daemon: Running
    path: Path
    neighbour: LyingLlamaCpp
    old: LyingLlamaCpp
    new: LyingLlamaCpp
    looked: float
    """When both had been looked at. Seconds of CLOCK_MONOTONIC."""

    def requests_at_rest(self) -> int:
        """Return how many requests a server may have had since then though nothing was done."""
        return 3 * int((time.monotonic() - self.looked) / A_CADENCE)

    def document(self, lab: LyingLlamaCpp, padding: int = 0) -> bytes:
        """Return a configuration; both have the same length if the ports have."""
        return document(self.neighbour, lab, padding)

    def lab(self) -> Endpoint | None:
        return next((e for e in self.endpoints() if e.name == "lab"), None)

    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.daemon.client.world().world.endpoints

    def problem(self) -> Fault | None:
        configuration = self.daemon.client.world().world.configuration
        return configuration.error if configuration is not None else None

    def wait_problem(self) -> Fault:
        """Wait until the file cannot be used, and return why."""
        wait_until(lambda: self.problem() is not None)
        found = self.problem()
        assert found is not None
        return found

    def follows(self, server: LyingLlamaCpp) -> bool:
        lab = self.lab()
        return lab is not None and (lab.url, lab.state) == (server.url, "ready")


def document(neighbour: LyingLlamaCpp, lab: LyingLlamaCpp, padding: int = 0) -> bytes:
    providers = {
        name: {"like": "llamacpp", "api_base": server.url}
        for name, server in (("neighbour", neighbour), ("lab", lab))
    }
    more = {"notes": ["x" * 99] * (padding // 104)} if padding else {}
    return json.dumps({"hived": {"guess": False}, "providers": providers} | more, indent=1).encode()


@contextmanager
def watched(
    environment: dict[str, str],
    lay: Callable[[Path, bytes], None],
    *,
    start: Callable[[Running], None] = Running.start,
) -> Iterator[Place]:
    """Run a daemon whose configuration was laid down in some way, until it has looked at all."""
    with LyingLlamaCpp() as neighbour, LyingLlamaCpp() as old, LyingLlamaCpp() as new:
        path = Path(Running(environment).where.configuration)
        path.parent.mkdir(mode=0o700)
        lay(path, document(neighbour, old))
        daemon = Running(environment)
        try:
            start(daemon)
            looked = time.monotonic()
            place = Place(daemon, path, neighbour, old, new, looked)
            wait_until(lambda: place.follows(old) and len(place.endpoints()) == 2, lambda: daemon.log)
            # A server is looked at once more when its process was found.
            wait_until(lambda: all(each["watched"] and each["looks"] > 1 for each in monitors(daemon)))
            wait_quiet(neighbour)
            yield place
        finally:
            daemon.close()


def monitors(daemon: Running) -> list[dict[str, Any]]:
    return list(daemon.client.statistics()["monitors"].values())


def wait_quiet(server: LyingLlamaCpp) -> None:
    """Wait until a server is left alone."""
    since, seen = time.monotonic(), len(server.requests)

    def is_quiet() -> bool:
        nonlocal since, seen
        if len(server.requests) != seen:
            since, seen = time.monotonic(), len(server.requests)
        return time.monotonic() - since > QUIET

    wait_until(is_quiet)


@contextmanager
def undisturbed(place: Place) -> Iterator[list[Change]]:
    """See to it that the neighbour is not asked, not dated anew and not spoken of."""
    told: list[Change] = []
    client = place.daemon.another()

    def listen() -> None:
        try:
            told.extend(client.events())
        except Exception:  # noqa: BLE001 - the client is closed under it at the end
            return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    wait_until(lambda: subscribers(place.daemon) == 1)
    asked, since = len(place.neighbour.requests), place.endpoints()[0].since
    yield told
    after = place.endpoints()[0]
    assert (after.name, after.state, after.since) == ("neighbour", "ready", since)
    assert len(place.neighbour.requests) - asked <= place.requests_at_rest()
    assert [change for change in told if change.endpoint == "neighbour"] == []


def subscribers(daemon: Running) -> int:
    store = daemon.client.statistics()["store"]
    assert isinstance(store, dict)
    return int(store["subscribers"])


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def rename(path: Path, content: bytes) -> None:
    fresh = path.with_name(".configuration.swp")
    fresh.write_bytes(content)
    fresh.replace(path)


def link(path: Path, content: bytes) -> None:
    """Lay the file down elsewhere and link to it, as those do who keep such files in one place."""
    target = path.parent.parent / f"dotfiles-{len(list(path.parent.parent.glob('dotfiles-*')))}" / path.name
    target.parent.mkdir()
    target.write_bytes(content)
    fresh = path.with_name("link")
    fresh.symlink_to(target)
    fresh.replace(path)


def rename_target(path: Path, content: bytes) -> None:
    rename(path.resolve(), content)


RENAME_EXCHANGE, AT_FDCWD = 2, -100


def exchange(one: Path, other: Path) -> None:
    """Put each in the place of the other, so that neither is ever missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    assert libc.renameat2(*names, RENAME_EXCHANGE) == 0, os.strerror(ctypes.get_errno())


def swap_folder(path: Path, content: bytes) -> None:
    """Put a new folder in the place of the old one."""
    fresh = path.parent.with_name("fresh")
    fresh.mkdir(mode=0o700)
    (fresh / path.name).write_bytes(content)
    exchange(fresh, path.parent)


def same_size_and_date(path: Path, content: bytes) -> None:
    """Write in place and set the date back, as some programs do that copy."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )


def with_bom(path: Path, content: bytes) -> None:
    rename(path, b"\xef\xbb\xbf" + content)


def in_pieces(path: Path, content: bytes) -> None:
    """Write so slowly that each half is seen."""
    with path.open("wb") as file:
        for at in range(0, len(content), len(content) // 3 + 1):
            file.write(content[at : at + len(content) // 3 + 1])
            file.flush()
            time.sleep(0.4)  # a poll and a half


Way = Callable[[Path, bytes], None]

WAYS: dict[str, tuple[Way, Way]] = {
    "renamed over": (rename, rename),
    "written in place": (write, write),
    "with a byte order mark": (rename, with_bom),
    "in pieces": (rename, in_pieces),
    "the same size and date": (write, same_size_and_date),
    "through a link, in place": (link, write),
    "through a link, the target renamed over": (link, rename_target),
    "the link set to another file": (link, link),
    "a link in the place of the file": (rename, link),
    "another folder in its place": (rename, swap_folder),
}
"""How it is laid down, and how it is replaced."""


@pytest.mark.parametrize("way", WAYS)
def test_what_changed_is_followed_and_the_neighbour_does_not_notice(
    environment: dict[str, str], way: str
) -> None:
    lay, replace = WAYS[way]
    with watched(environment, lay) as place, undisturbed(place) as told:
        replace(place.path, place.document(place.new))
        wait_until(lambda: place.follows(place.new))
        assert len(place.old.requests) < 10 + place.requests_at_rest()
        wait_until(lambda: any(change.event == "endpoint.moved" for change in told))
        wait_until(lambda: place.problem() is None)


def test_five_megabytes_are_read_and_a_broken_end_of_them_is_told(environment: dict[str, str]) -> None:
    with watched(environment, rename) as place, undisturbed(place):
        rename(place.path, place.document(place.new, LARGE))
        wait_until(lambda: place.follows(place.new))
        rename(place.path, place.document(place.old, LARGE)[:-3])
        problem = place.wait_problem()
        assert problem.code == "configuration.broken"
        assert int(problem.fields["line"] or 0) > 40_000
        wait_until(lambda: place.follows(place.new))


def broken(path: Path) -> None:
    rename(path, b'{"providers": {\n  "lab": {,}}}')


def empty(path: Path) -> None:
    rename(path, b"")


def fifo(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.with_name("pipe").replace(path)


def folder(path: Path) -> None:
    path.with_name("folder").mkdir()
    exchange(path.with_name("folder"), path)


def loop(path: Path) -> None:
    path.with_name("loop").symlink_to(path)
    path.with_name("loop").replace(path)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "broken": (broken, "configuration.broken"),
    "empty": (empty, "configuration.broken"),
    "a pipe": (fifo, "configuration.unreadable"),
    "a folder": (folder, "configuration.unreadable"),
    "a link to itself": (loop, "configuration.unreadable"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_file_that_cannot_be_used_is_told_and_the_last_good_one_is_kept(
    environment: dict[str, str], spoilt: str
) -> None:
    spoil, code = SPOILT[spoilt]
    with watched(environment, write) as place, undisturbed(place):
        spoil(place.path)
        problem = place.wait_problem()
        assert problem.code == code
        assert problem in place.daemon.client.world().world.problems
        if spoilt == "broken":
            assert (problem.fields["line"], problem.fields["column"]) == (2, 11)
        time.sleep(A_FEW_POLLS)
        wait_until(lambda: place.follows(place.old))
        assert len(place.daemon.events("configuration.problem")) == 1
        make_room(place.path)
        rename(place.path, place.document(place.new))
        wait_until(lambda: place.follows(place.new) and place.problem() is None)


def make_room(path: Path) -> None:
    """Have a file where a folder was; what is a file is replaced where it lies."""
    if path.is_dir() and not path.is_symlink():
        exchange(path.with_name("folder"), path)


CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def start_without_privilege(daemon: Running) -> None:
    """Start a daemon for which the mode of a file counts, also where the tests run as root.

    What a thread takes off its bounding set is missing in every program that it starts.
    """

    def start() -> None:
        if os.geteuid() == 0:
            libc = ctypes.CDLL(None, use_errno=True)
            for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
                assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
        daemon.start()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(60.0)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_file_that_may_not_be_read_is_told_until_it_may(environment: dict[str, str]) -> None:
    with watched(environment, write, start=start_without_privilege) as place, undisturbed(place):
        place.path.chmod(0)
        problem = place.wait_problem()
        assert (problem.code, problem.fields["why"]) == ("configuration.unreadable", "Permission denied")
        wait_until(lambda: place.follows(place.old))
        place.path.chmod(0o600)
        wait_until(lambda: place.problem() is None)
        place.path.chmod(0)
        place.wait_problem()
        rename(place.path, place.document(place.new))
        wait_until(lambda: place.follows(place.new) and place.problem() is None)


def test_a_file_that_comes_after_the_daemon_is_read_and_one_that_goes_is_forgotten(
    environment: dict[str, str],
) -> None:
    home = Path(environment["HOME"])
    with LyingLlamaCpp() as neighbour, LyingLlamaCpp() as lab, Running(environment) as daemon:
        path = Path(daemon.where.configuration)
        shutil.rmtree(path.parent, ignore_errors=True)
        for _ in range(2):
            wait_until(lambda: "lab" not in states(daemon))
            path.parent.mkdir(mode=0o700)
            path.write_bytes(document(neighbour, lab))
            wait_until(lambda: states(daemon).get("lab") == "ready")
            shutil.rmtree(path.parent)
        assert home.is_dir()


def states(daemon: Running) -> dict[str, str]:
    return {endpoint.name: endpoint.state for endpoint in daemon.client.world().world.endpoints}


def test_two_writes_within_one_step_of_the_clock_for_dates_are_both_seen(environment: dict[str, str]) -> None:
    with watched(environment, write) as place:
        for _ in range(5):
            for first, last in ((place.new, place.old), (place.old, place.new)):
                write(place.path, place.document(first))
                write(place.path, place.document(last))
                wait_until(lambda server=last: place.follows(server))  # type: ignore[misc]
