"""The configuration is read beside all else, and whoever waits for it is told that this is over."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import pytest

from hived.daemon import configuring
from hived.daemon.clock import Clock
from hived.daemon.configuring import ConfigurationWatch
from hived.daemon.notify import Notifier
from hived.daemon.probes import Probes
from hived.daemon.store import Store
from hived.decisions.autostart import Autostart
from tests.client.worlds import world


def watch_of(
    folder: Path,
    autostart: Callable[[tuple[Autostart, ...]], None],
    environment: Mapping[str, str],
    store: Store | None = None,
) -> ConfigurationWatch:
    clock = Clock()
    return ConfigurationWatch(
        store or Store(world(), clock),
        Probes(by_provider={}, shelves={}, kinds=(), broken=()),
        str(folder / "configuration.json"),
        environment,
        clock,
        Notifier({"NOTIFY_SOCKET": str(folder / "notify")}),
        started=lambda: (),
        autostart=autostart,
    )


class Slow(dict[str, str]):
    """An environment that a thread reads as slowly as a file of many megabytes."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        if threading.current_thread() is not threading.main_thread():
            assert self.go_on.wait(5.0), "nobody else had a turn"
        return super().get(name, default)


@pytest.mark.anyio
async def test_while_the_configuration_is_read_others_have_their_turn(tmp_path: Path) -> None:
    environment, taken = Slow(), list[tuple[Autostart, ...]]()
    watch = watch_of(tmp_path, taken.append, environment)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.read)
        await anyio.wait_all_tasks_blocked()
        assert taken == []
        environment.go_on.set()
    assert taken == [()]


@pytest.mark.anyio
async def test_of_a_disk_that_does_not_answer_nobody_waits_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuring, "LONGEST_READ", 0.05)
    environment, store = Slow(), Store(world(), Clock())
    watch = watch_of(tmp_path, lambda _: None, environment, store)
    environment.go_on.set()
    await watch.read()
    assert store.world.configuration is not None
    assert store.world.configuration.state == "missing"
    environment.go_on.clear()
    try:
        await watch.read()
        assert store.world.configuration.error is not None
        assert store.world.configuration.error.code == "configuration.unreadable"
    finally:
        environment.go_on.set()


@pytest.mark.anyio
async def test_a_reading_that_breaks_down_does_not_leave_the_unit_reloading(tmp_path: Path) -> None:
    def broken(_: tuple[Autostart, ...]) -> None:
        raise RuntimeError("a mistake of ours")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        watch = watch_of(tmp_path, broken, {})
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await watch.reload()
        manager.setblocking(False)
        assert manager.recv(100).startswith(b"RELOADING=1")
        assert manager.recv(100).startswith(b"READY=1")
