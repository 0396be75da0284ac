"""What may hang, beside the loop."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from hived.daemon.aside import Aside

pytestmark = pytest.mark.anyio


async def test_it_returns_what_is_returned_and_raises_what_is_raised() -> None:
    aside = Aside()
    assert await aside.within(10.0, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await aside.within(10.0, lambda: 1 // 0)


async def test_those_that_hang_are_few_and_make_room_when_they_come_back() -> None:
    aside, goes_on = Aside(2), threading.Event()
    begun: list[int] = []

    def hang() -> None:
        begun.append(1)
        goes_on.wait(60.0)

    try:
        for _ in range(6):
            with pytest.raises(TimeoutError):
                await aside.within(0.05, hang)
        assert len(begun) == 2
    finally:
        goes_on.set()
    with anyio.fail_after(10.0):
        while True:
            try:
                await aside.within(1.0, time.monotonic)
                break
            except TimeoutError:
                await anyio.sleep(0.01)


async def test_after_one_that_nobody_waits_for_any_more_the_next_has_its_turn() -> None:
    aside, goes_on = Aside(), threading.Event()
    with anyio.move_on_after(0.05):
        await aside.within(60.0, lambda: goes_on.wait(60.0))
    async with anyio.create_task_group() as tasks:

        async def go_on() -> None:
            await anyio.sleep(0.05)
            goes_on.set()

        tasks.start_soon(go_on)
        assert await aside.within(60.0, lambda: "done") == "done"


async def test_who_is_cancelled_leaves_it_behind() -> None:
    aside, goes_on = Aside(), threading.Event()
    try:
        with anyio.move_on_after(0.05) as scope:
            await aside.within(60.0, lambda: goes_on.wait(60.0))
        assert scope.cancelled_caught
    finally:
        goes_on.set()
