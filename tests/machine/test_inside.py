"""What this system runs in, told by its files and its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived.machine.inside import look_inside
from tests.machine.layouts import Layout

WSL2 = "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x) (gcc)"
WSL1 = "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"
PLAIN = "Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org)"


@pytest.mark.parametrize(
    ("files", "environment", "inside"),
    [
        ({"/proc/version": PLAIN, "/proc/1/cgroup": "0::/init.scope"}, {}, None),
        ({}, {}, None),
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": "engine=podman"}, {}, "podman"),
        ({"/proc/1/cgroup": "12:pids:/docker/abc"}, {}, "docker"),
        ({"/proc/1/cgroup": "1:name=systemd:/kubepods/burstable/pod1"}, {}, "docker"),
        ({"/run/systemd/container": "lxc"}, {}, "docker"),
        ({}, {"container": "podman"}, "podman"),
        ({}, {"container": "systemd-nspawn"}, "docker"),
        ({}, {"container": "flatpak"}, None),
        ({"/run/.containerenv": "", "/run/.toolboxenv": ""}, {}, None),
        ({"/run/.containerenv": ""}, {"DISTROBOX_ENTER_PATH": "/x"}, None),
        ({"/proc/version": WSL2}, {}, "wsl"),
        ({"/proc/version": WSL2}, {"WSL_DISTRO_NAME": "Debian"}, "wsl"),
        ({"/proc/version": WSL1}, {"WSL_DISTRO_NAME": "Debian"}, None),
        ({"/proc/version": WSL2, "/sys/class/net/loopback0/mtu": "1500"}, {}, None),
        ({"/proc/version": WSL2, "/.dockerenv": ""}, {}, "docker"),
    ],
)
def test_what_this_system_runs_in(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], inside: str | None
) -> None:
    computer = Layout(tmp_path)
    for path, text in files.items():
        computer.file(path, text)
    assert look_inside(environment, str(computer.root)) == inside
