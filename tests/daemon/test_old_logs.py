"""Logs of servers that are no more: the newest stay, the others for a week, and nothing else is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hived.daemon.old_logs import DAY, KEPT, OLD, OldLogs, outdated, remove_old
from tests.daemon.virtual_time import EPOCH, Backend, VirtualClock, virtual


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


NEWEST = {f"newest-{number}": EPOCH for number in range(KEPT)}


@pytest.mark.parametrize(
    ("changed", "names", "expected"),
    [
        ({"old": EPOCH - OLD - 1.0} | NEWEST, (), ["old"]),
        ({"old": EPOCH - OLD - 1.0} | NEWEST, ("old",), []),  # it runs, and says nothing
        ({"young": EPOCH - OLD + 1.0} | NEWEST, (), []),
        ({"hived": 0.0} | NEWEST, (), []),
        ({"a": 0.0, "b": 1.0}, (), []),  # among the newest
        ({"a": 1.0, "b": 0.0} | NEWEST, (), ["a", "b"]),
        ({"ahead": EPOCH + OLD} | NEWEST, (), []),
    ],
)
def test_what_is_old_and_nobodys_and_not_among_the_newest_is_outdated(
    changed: dict[str, float], names: tuple[str, ...], expected: list[str]
) -> None:
    assert outdated(changed, names, EPOCH) == expected


def write(path: Path, at: float) -> None:
    path.write_text("said\n")
    os.utime(path, (at, at))


def test_a_log_goes_with_the_one_before_it_and_nothing_else_does(tmp_path: Path) -> None:
    for name in NEWEST:
        write(tmp_path / f"{name}.log", EPOCH)
    before = sorted(tmp_path.iterdir())
    for name in ("gone.log", "gone.log.1", "notes.txt", "log"):
        write(tmp_path / name, 0.0)
    (tmp_path / "folder.log").mkdir()
    assert remove_old(str(tmp_path), (), EPOCH) == 2
    assert sorted(tmp_path.iterdir()) == sorted(
        [*before, *map(tmp_path.joinpath, ("notes.txt", "log", "folder.log"))]
    )
    assert remove_old(str(tmp_path / "none"), (), EPOCH) == 0


@pytest.mark.anyio
async def test_they_are_looked_for_now_and_every_day(tmp_path: Path) -> None:
    looked: list[float] = []

    async def at_once(seconds: float, act: Callable[[], int]) -> int:
        looked.append(anyio.current_time())
        if len(looked) == 2:
            raise TimeoutError  # a disk that hangs
        return act()

    with anyio.move_on_after(2.5 * DAY):
        await OldLogs(str(tmp_path), lambda: (), VirtualClock(), at_once).run()
    assert [round((at - looked[0]) / DAY) for at in looked] == [0, 1, 2]
