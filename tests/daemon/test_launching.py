"""A start is whole, or leaves nothing: what is begun is written down, and what cannot be is ended."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hived.daemon.launching import Child, Ended, Launcher
from hived.machine.processes import let_go
from hived.machine.recipes import Launch
from hived.machine.records import Records, Started
from hived.machine.transient import ManagerFailed, UnitState, UnitTaken
from hived_client.errors import StartFailed
from tests.daemon.running import wait_until

pytestmark = pytest.mark.anyio


class FakeManager:
    """A systemd of the user's, which may fail; a unit's process is this one."""

    def __init__(self, *, reachable: bool = True, fails: ManagerFailed | None = None) -> None:
        self.reachable = reachable
        self.fails = fails
        self.units: list[str] = []
        self.stopped: list[str] = []
        self.pid: int | None = os.getpid()

    def is_reachable(self) -> bool:
        return self.reachable

    def start(
        self,
        unit: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        description: str,
        stays: bool = True,
    ) -> int | None:
        assert log.exists()
        if self.fails is not None:
            raise self.fails
        self.units.append(unit)
        return self.pid if stays else None

    def state(self, unit: str) -> UnitState:
        return UnitState(active=unit in self.units, failed=False, pid=self.pid, code=None)

    def stop(self, unit: str) -> None:
        self.stopped.append(unit)
        if unit in self.units:
            self.units.remove(unit)

    def forget(self, unit: str) -> None:
        pass


class FullAfter(Records):
    """Records on a disk that is full after some."""

    def __init__(self, folder: Path, writes: int) -> None:
        super().__init__(folder)
        self._left = writes

    def write(self, started: Started) -> None:
        if self._left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._left -= 1
        super().write(started)


def launch(*argv: str, stays: bool = True, ends_with: tuple[str, ...] = ()) -> Launch:
    return Launch(
        argv=argv or (sys.executable, "-c", "import time; time.sleep(600)"),
        environment=dict(os.environ),
        url="http://127.0.0.1:1",
        stays=stays,
        ends_with=ends_with,
    )


def record(folder: Path, what: Launch) -> Started:
    return Started(
        endpoint="toy",
        provider="toy",
        url=what.url,
        identity=None,
        argv=what.argv,
        model="",
        alias="",
        log=str(folder / "logs" / "toy.log"),
        started_at=0.0,
        ends_with=what.ends_with,
    )


class Adopted:
    """What was taken in."""

    def __init__(self) -> None:
        self.records: list[Started] = []
        self.children: list[Child] = []

    def __call__(self, written: Started, child: Child | None) -> None:
        self.records.append(written)
        if child is not None:
            self.children.append(child)


async def failed(launcher: Launcher, folder: Path, what: Launch) -> str:
    """Return why a launch failed, that nothing was adopted and that no record is left."""
    adopted = Adopted()
    with pytest.raises(StartFailed) as caught:
        await launcher.launch(what, record(folder, what), adopt=adopted, title="Toy")
    assert adopted.records == []
    assert Records(folder / "started").read_all() == []
    return caught.value.code


@pytest.mark.parametrize("writes", [0, 1])
async def test_a_unit_that_cannot_be_written_down_is_stopped(tmp_path: Path, writes: int) -> None:
    manager = FakeManager()
    launcher = Launcher(FullAfter(tmp_path / "started", writes), manager, prefix="hived")
    assert await failed(launcher, tmp_path, launch()) == "disk.full"
    assert manager.units == []
    assert manager.stopped == ["hived-toy.service"][:writes]


@pytest.mark.parametrize(
    ("fails", "code", "stopped"),
    [
        (UnitTaken("x"), "start.unit_taken", []),
        (ManagerFailed("systemd-run did not answer within 5 s"), "start.manager", ["hived-toy.service"]),
    ],
)
async def test_what_systemd_may_have_begun_after_all_is_stopped_and_what_others_have_is_not(
    tmp_path: Path, fails: ManagerFailed, code: str, stopped: list[str]
) -> None:
    manager = FakeManager(fails=fails)
    launcher = Launcher(Records(tmp_path / "started"), manager, prefix="hived")
    assert await failed(launcher, tmp_path, launch()) == code
    assert manager.stopped == stopped


async def test_a_unit_whose_process_is_gone_at_once_leaves_no_record(tmp_path: Path) -> None:
    manager = FakeManager()
    manager.pid = None
    records = Records(tmp_path / "started")
    what = launch()
    with pytest.raises(Ended):
        await Launcher(records, manager, prefix="hived").launch(
            what, record(tmp_path, what), Adopted(), title="Toy"
        )
    assert records.read_all() == []


async def test_a_process_that_cannot_be_written_down_never_begins(tmp_path: Path) -> None:
    began = tmp_path / "began"
    launcher = Launcher(FullAfter(tmp_path / "started", 0), FakeManager(reachable=False), prefix="hived")
    assert await failed(launcher, tmp_path, launch("/usr/bin/touch", str(began))) == "disk.full"
    assert not began.exists()


async def test_a_log_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    launcher = Launcher(Records(tmp_path / "started"), FakeManager(), prefix="hived")
    assert await failed(launcher, tmp_path, launch()) == "runtime.unwritable"


async def test_a_server_of_another_process_that_cannot_be_written_down_is_ended(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    what = launch("/bin/true", stays=False, ends_with=("/usr/bin/touch", str(ended)))
    launcher = Launcher(FullAfter(tmp_path / "started", 0), FakeManager(reachable=False), prefix="hived")
    assert await failed(launcher, tmp_path, what) == "disk.full"
    assert ended.exists()


async def test_a_process_is_written_down_before_it_begins_and_has_its_number(tmp_path: Path) -> None:
    records = Records(tmp_path / "started")
    began = tmp_path / "began"
    what = launch("/bin/sh", "-c", f"echo $$ > {began}; exec sleep 60")
    adopted = Adopted()
    written = await Launcher(records, FakeManager(reachable=False), prefix="hived").launch(
        what, record(tmp_path, what), adopted, title="Toy"
    )
    (child,) = adopted.children
    try:
        assert records.read_all() == [written]
        assert written.identity is not None
        wait_until(lambda: began.exists() and began.read_text().strip() == str(child.pid))
        assert written.identity.pid == child.pid
    finally:
        child.kill()
        child.wait()
        let_go(child)
