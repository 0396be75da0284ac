"""Whoever waits for the configuration to be read is told that this is over, however it went."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hived.daemon.clock import Clock
from hived.daemon.configuring import ConfigurationWatch
from hived.daemon.notify import Notifier
from hived.daemon.probes import Probes
from hived.daemon.store import Store
from hived.decisions.autostart import Autostart
from tests.client.worlds import world


@pytest.mark.anyio
async def test_a_reading_that_breaks_down_does_not_leave_the_unit_reloading(tmp_path: Path) -> None:
    def broken(_: tuple[Autostart, ...]) -> None:
        raise RuntimeError("a mistake of ours")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        clock = Clock()
        watch = ConfigurationWatch(
            Store(world(), clock),
            Probes(by_provider={}, shelves={}, kinds=(), broken=()),
            str(tmp_path / "configuration.json"),
            {},
            clock,
            Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}),
            started=lambda: (),
            autostart=broken,
        )
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await watch.reload()
        manager.setblocking(False)
        assert manager.recv(100).startswith(b"RELOADING=1")
        assert manager.recv(100).startswith(b"READY=1")
