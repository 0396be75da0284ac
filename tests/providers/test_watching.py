"""Whoever watches folders is told of a change, of a folder that comes and goes, and of nothing else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import watchfiles

from hived.providers import watching
from hived.providers.watching import watch_folders

pytestmark = pytest.mark.anyio


class Told:
    """Counts tellings, and waits for the next one."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._event = anyio.Event()

    def __call__(self) -> None:
        self.times.append(anyio.current_time())
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, count: int, within: float = 60.0) -> None:
        """Wait until it was told so many times in all."""
        with anyio.fail_after(within):
            while len(self.times) < count:
                await self._event.wait()


@asynccontextmanager
async def watched(*folders: Path, **options: object) -> AsyncIterator[Told]:
    """Watch, and go on when the watch has begun, which is told once."""
    told = Told()
    options = {"pause": 0.0} | options  # each change is to be seen
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await watch_folders([str(folder) for folder in folders], told, **options)  # type: ignore[arg-type]

        tasks.start_soon(run)
        await told.wait(1)
        yield told
        began = anyio.current_time()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - began < 4.0  # five seconds if the thread were not told to stop


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is waited for come soon."""
    monkeypatch.setattr(watching, "RECHECK", 0.03)
    monkeypatch.setattr(watching, "ARMED", 20)
    monkeypatch.setattr(watching, "STEP", 10)


async def test_a_change_far_below_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    async with watched(tmp_path) as told:
        (tmp_path / "a" / "b" / "c").write_text("1")
        await told.wait(2)


async def test_a_file_in_a_folder_that_was_just_made_is_told(tmp_path: Path) -> None:
    async with watched(tmp_path) as told:
        (tmp_path / "library" / "m").mkdir(parents=True)
        (tmp_path / "library" / "m" / "latest").write_text("{}")
        await told.wait(2)
        before = len(told.times)
        (tmp_path / "library" / "m" / "latest").unlink()
        await told.wait(before + 1)


async def test_one_of_many_folders_changes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    async with watched(*folders, folders[0], tmp_path / "none") as told:
        (folders[2] / "x").touch()
        await told.wait(2)


async def test_a_folder_that_is_not_there_yet_is_told_when_it_comes(tmp_path: Path) -> None:
    folder, other = tmp_path / "later", tmp_path / "other"
    other.mkdir()
    async with watched(folder, other) as told:
        folder.mkdir()
        await told.wait(3)  # it came, and the watch has begun
        before = len(told.times)
        (folder / "x").touch()
        await told.wait(before + 1)


async def test_a_folder_that_is_removed_and_made_again_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    async with watched(folder) as told:
        shutil.rmtree(folder)
        await told.wait(2)
        folder.mkdir()
        before = len(told.times)
        await told.wait(before + 2)
        before = len(told.times)
        (folder / "x").touch()
        await told.wait(before + 1)


async def test_a_folder_that_is_exchanged_for_another_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for path in (folder, tmp_path / "new"):
        path.mkdir()
    async with watched(folder) as told:
        folder.rename(tmp_path / "old")
        (tmp_path / "new").rename(folder)
        await told.wait(3)
        before = len(told.times)
        (folder / "x").touch()
        await told.wait(before + 1)


async def test_what_is_written_into_a_file_is_not_told_where_only_files_that_come_and_go_are(
    tmp_path: Path,
) -> None:
    async with watched(tmp_path, writes=False) as told:
        with (tmp_path / "weights.part").open("wb") as file:
            await told.wait(2)
            for _ in range(20):
                file.write(b"x" * 4096)
                file.flush()
        before = len(told.times)
        (tmp_path / "weights.part").rename(tmp_path / "weights")
        await told.wait(before + 1)
        (tmp_path / "weights").unlink()
        await told.wait(before + 2)
        assert len(told.times) <= before + 3  # a rename may be told as two


async def test_what_does_not_matter_is_not_told(tmp_path: Path) -> None:
    async with watched(tmp_path, matters=lambda path: path.endswith(".json")) as told:
        (tmp_path / "log").touch()
        (tmp_path / "configuration.json").touch()
        await told.wait(2)
        assert len(told.times) == 2
    seen: list[str] = []

    def nothing(path: str) -> bool:
        seen.append(path)
        return False

    async with watched(tmp_path, matters=nothing) as told:
        (tmp_path / "x").touch()
        with anyio.fail_after(60.0):
            while not seen:
                await anyio.lowlevel.checkpoint()
        assert len(told.times) == 1


async def test_only_the_folder_itself_is_watched_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    seen: list[str] = []

    def matters(path: str) -> bool:
        seen.append(path)
        return True

    async with watched(tmp_path, recursive=False, matters=matters) as told:
        (tmp_path / "below" / "x").touch()
        (tmp_path / "y").touch()
        await told.wait(2)
    assert not [path for path in seen if path.endswith("x")]


async def test_a_flood_is_told_at_its_start_and_then_seldom(tmp_path: Path) -> None:
    async with watched(tmp_path, pause=0.15) as told:
        for n in range(10):
            (tmp_path / str(n)).touch()
            await anyio.sleep(0.02)  # the flood itself
        await told.wait(3)
    gaps = [after - before for before, after in zip(told.times, told.times[1:], strict=False)]
    assert min(gaps) > 0.14  # which is what makes them few


async def test_a_watch_that_the_system_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., object] = watchfiles.watch
    refused: list[tuple[str, ...]] = []

    def watch(*folders: str, **options: object) -> object:
        if not refused:
            refused.append(folders)
            raise OSError(28, "OS file watch limit reached")
        return real(*folders, **options)

    monkeypatch.setattr(watching, "AGAIN", 0.01)
    monkeypatch.setattr(watchfiles, "watch", watch)
    async with watched(tmp_path) as told:
        (tmp_path / "x").touch()
        await told.wait(2)
    assert refused


async def test_a_file_in_the_place_of_a_folder_is_nothing_to_watch(tmp_path: Path) -> None:
    place = tmp_path / "models"
    place.touch()
    told = Told()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch_folders, [str(place)], told)
        await anyio.sleep(0.1)
        assert told.times == []
        place.unlink()
        place.mkdir()
        await told.wait(1)
        tasks.cancel_scope.cancel()


async def test_a_disk_that_hangs_holds_neither_the_loop_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, hangs = threading.Event(), threading.Event()

    def hang(paths: tuple[str, ...]) -> watching.Mark:
        hangs.set()
        goes_on.wait(60.0)
        return ()

    monkeypatch.setattr(watching, "_mark", hang)
    try:
        with anyio.fail_after(10.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch_folders, [str(tmp_path)], Told())
                while not hangs.is_set():  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()
    finally:
        goes_on.set()
