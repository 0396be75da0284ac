"""Tell when something below some folders changes. What changed is not said: whoever is told looks again.

A watch of the system is bound to a folder, not to its path. It goes deaf when the folder is removed, and
cannot begin where there is none yet; so the paths are looked at now and then, whatever the watch says.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable

import anyio
import anyio.from_thread
import anyio.to_thread
import watchfiles

STEP = 100
"""Milliseconds between two looks at what the system has told, in a thread of our own. 20 cost 0.34 % of a
core at rest, 100 cost 0.08 %, and a change is told after one and a bit."""
DEBOUNCE = 200
"""Milliseconds for which changes that come in a row are gathered at most."""
RECHECK = 2.0
"""Seconds between two looks at whether the folders are still the same ones."""
PAUSE = 0.1
"""Seconds between two tellings, unless a caller wants more."""
ARMED = 500
"""Milliseconds after which a new watch is known to have begun, if nothing changes at once."""
AGAIN = 30.0
"""Seconds before a watch that the system refused is tried again."""

Mark = tuple[tuple[str, int, int], ...]


async def watch_folders(
    folders: Iterable[str],
    told: Callable[[], None],
    *,
    recursive: bool = True,
    matters: Callable[[str], bool] = lambda path: True,
    writes: bool = True,
    step: int | None = None,
    pause: float = PAUSE,
) -> None:
    """Call ``told`` after every change below these folders, for ever; safe to cancel, never raises OSError.

    It is also called once when a watch has begun, since something may have changed just before. A folder
    may be missing, be removed and come back: that it came or went is told within ``RECHECK``.
    ``matters`` picks among changes by their path and runs in another thread. Without ``writes`` only files
    that come, go or get another name are told of, and not what is written into them. ``step`` is in the place
    of ``STEP`` where nobody waits for what is told. Changes that come within ``pause`` seconds of a telling
    are told together at its end.
    """

    def is_of_interest(change: watchfiles.Change, path: str) -> bool:
        return (writes or change != watchfiles.Change.modified) and matters(path)

    paths = tuple(dict.fromkeys(folders))
    changed = anyio.Event()

    def tell() -> None:
        changed.set()

    one_thread = anyio.CapacityLimiter(1)

    async def look() -> Mark:
        # In a thread: a folder on a disk that hangs costs this watch, and not the loop.
        return await anyio.to_thread.run_sync(_mark, paths, abandon_on_cancel=True, limiter=one_thread)

    async def keep_watching() -> None:
        mark = await look()
        while True:
            async with anyio.create_task_group() as tasks:
                there = [path for path, _, _ in mark]
                tasks.start_soon(_watch, there, tell, recursive, is_of_interest, step or STEP)
                after = mark
                while after == mark:
                    await anyio.sleep(RECHECK)
                    after = await look()
                tasks.cancel_scope.cancel()
            mark = after
            tell()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_watching)
        while True:
            await changed.wait()
            changed = anyio.Event()
            told()
            await anyio.sleep(pause)


def _mark(paths: tuple[str, ...]) -> Mark:
    """Return which of the folders are there and may be read, and which ones they are. Blocks."""
    found: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and os.access(path, os.R_OK | os.X_OK):
            found.append((path, status.st_dev, status.st_ino))
    return tuple(found)


async def _watch(
    folders: list[str],
    tell: Callable[[], None],
    recursive: bool,
    is_of_interest: Callable[[watchfiles.Change, str], bool],
    step: int,
) -> None:
    """Watch folders that are there, in a thread that is ours alone, until cancelled."""
    if not folders:
        return
    stop = threading.Event()

    def watch() -> None:
        armed = False
        try:
            for changes in watchfiles.watch(
                *folders,
                watch_filter=is_of_interest,
                debounce=max(DEBOUNCE, step),
                step=step,
                stop_event=stop,
                rust_timeout=ARMED,
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=recursive,
                ignore_permission_denied=True,
            ):
                if changes or not armed:
                    armed = True
                    anyio.from_thread.run_sync(tell)
        except (OSError, RuntimeError):
            # The system has no watch left to give, or a folder went while it was walked.
            return

    async def keep() -> None:
        while True:
            # The usual 40 threads are left alone: this one is kept for as long as the watch lasts.
            await anyio.to_thread.run_sync(watch, limiter=anyio.CapacityLimiter(1))
            await anyio.sleep(AGAIN)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        try:
            await anyio.sleep_forever()
        finally:
            # By a sibling: a thread is waited for before whoever runs it learns that it is cancelled.
            stop.set()
