"""The service of this user, where there can be none, or where it does not do what it is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from hived.cli.service.here import Here
from hived.machine.commands import run_bounded
from hived.service.interface import as_root
from hived.service.launchd import Launchd
from hived.service.stamp import drift
from hived.service.systemd import Systemd
from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running, configure
from tests.faults.asking import raised
from tests.faults.provoking import provokes
from tests.service.fake_systemctl import FakeSystemctl, root_with_systemd
from tests.service.launchctl import LaunchctlProgram


@pytest.fixture
def systemctl(home: Path) -> FakeSystemctl:
    return FakeSystemctl([f"{home}/.config/systemd/user"])


@pytest.fixture
def systemd(home: Path, systemctl: FakeSystemctl) -> Systemd:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return Systemd("hived", environment, systemctl, root=root_with_systemd(home / "root"))


def why_not(manager: Systemd | Launchd) -> Fault:
    found = manager.why_not()
    assert found is not None
    return found


@provokes("service.not_installed", "a start of a service that nobody has installed")
def test_not_installed(environment: dict[str, str]) -> Fault:
    found = raised(Here(environment, sys.executable, "linux").require_installed)
    assert found.hint == "hived service install"
    return found


@provokes("service.no_systemd", "a container, in which nothing looks after services")
def test_in_a_container(tmp_path: Path, systemctl: FakeSystemctl) -> Fault:
    (tmp_path / ".dockerenv").touch()
    return why_not(Systemd("hived", {"HOME": "/root"}, systemctl, root=str(tmp_path)))


@provokes("service.no_systemd", "WSL, where systemd is not switched on")
def test_in_wsl(
    tmp_path: Path, systemctl: FakeSystemctl, monkeypatch: pytest.MonkeyPatch, other_system: None
) -> Fault:
    monkeypatch.setenv("WSL_DISTRO_NAME", "Debian")
    release = tmp_path / "proc/sys/kernel/osrelease"
    release.parent.mkdir(parents=True)
    release.write_text("5.15.167.4-microsoft-standard-WSL2\n")
    found = why_not(Systemd("hived", {"HOME": "/root"}, systemctl, root=str(tmp_path)))
    assert "systemd=true" in found.hint
    return found


@provokes("service.no_session", "a login by ssh or su, whose user has no systemd running")
def test_no_session(home: Path, systemctl: FakeSystemctl) -> Fault:
    root = root_with_systemd(home / "root", session=False)
    return why_not(Systemd("hived", {"HOME": str(home), "PATH": os.environ["PATH"]}, systemctl, root=root))


@provokes("service.as_root", "sudo hived service install")
def test_with_sudo() -> Fault:
    assert as_root({"SUDO_USER": "me"}, 1000) is None
    assert as_root({}, 0) is None
    found = as_root({"SUDO_USER": "me"}, 0)
    assert found is not None
    return found


@provokes("service.no_launchd", "a launchctl that knows no domain of this user")
def test_no_launchd(home: Path) -> Fault:
    LaunchctlProgram(home / "bin", ())
    return why_not(Launchd("hived", {"HOME": str(home), "PATH": str(home / "bin")}, run_bounded))


@provokes("service.no_interpreter", "a Python that does not know where it is")
def test_no_interpreter(environment: dict[str, str], systemd: Systemd) -> Fault:
    order = Here(environment, sys.executable, "linux").order
    return raised(lambda: systemd.render(msgspec.structs.replace(order, python="")))


@provokes("service.unseen", "an XDG_CONFIG_HOME that the user's systemd does not know of")
def test_unseen(systemd: Systemd, systemctl: FakeSystemctl) -> Fault:
    systemctl.unit_path = ["/etc/systemd/user"]
    return why_not(systemd)


@provokes("service.refused", "a unit that somebody has masked")
def test_refused(systemd: Systemd, systemctl: FakeSystemctl) -> Fault:
    systemctl.refusals["enable"] = "Failed to enable unit: Unit file hived.service is masked.\n"
    found = raised(systemd.enable)
    assert found.hint == "systemctl --user unmask hived.service"
    return found


@provokes("service.failed", "a daemon that says why it cannot be, under systemd")
def test_failed(systemd: Systemd, systemctl: FakeSystemctl) -> Fault:
    systemctl.refusals["start"] = "Job for hived.service failed because the control process exited.\n"
    words = "/run/user/1000/hived cannot be trusted: others may write to it."
    systemctl.properties |= {"ActiveState": "failed", "Result": "exit-code", "StatusText": words}
    found = raised(systemd.start)
    assert "others may write to it" in found.message
    return found


@provokes("service.foreign_daemon", "a daemon in somebody's terminal, in the place of the service's")
def test_somebody_elses_daemon(environment: dict[str, str]) -> Fault:
    configure(environment)
    with Running(environment) as daemon:
        found = raised(lambda: Here(environment, sys.executable, "linux").wait_ready(5.0))
        assert str(daemon.pid) in found.hint
    return found


@provokes("service.drift", "a unit that an older version has written")
def test_drift() -> Fault:
    found = drift(
        "/home/me/.config/systemd/user/hived.service", f"# hived 0.0.1 template {'0' * 16}\n", "systemd"
    )
    assert found is not None
    return found
