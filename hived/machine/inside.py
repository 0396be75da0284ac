"""Whether this system is a guest whose loopback is not that of the machine around it. Blocks for files.

A container of the usual kind and WSL 2 have a network of their own: a server on the host is not at
127.0.0.1 here. Toolbox, distrobox and flatpak share the host's network, and so does WSL in mirrored mode,
which shows itself by an interface ``loopback0``; there nothing is to be said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from hived.decisions.outcomes import Inside
from hived_client.vocabulary.wsl import wsl_of

_CGROUP = re.compile(r"docker|kubepods|containerd|/lxc|libpod|garden")
_SHARED = frozenset({"flatpak", "snap", "toolbox", "distrobox"})
"""Values of ``container`` where the network is the host's."""


def look_inside(environment: Mapping[str, str], root: str = "/") -> Inside | None:
    """Say what this system runs in; ``None`` where it is a machine of its own or shares its host's network.

    ``root`` is the folder taken for ``/``. Never raises.
    """

    def exists(path: str) -> bool:
        return os.path.exists(os.path.join(root, path))

    named = environment.get("container", "")
    if named in _SHARED or exists("run/.toolboxenv") or "DISTROBOX_ENTER_PATH" in environment:
        return None
    if exists("run/.containerenv") or named == "podman":
        return "podman"
    groups = _text(os.path.join(root, "proc/1/cgroup"))
    if exists(".dockerenv") or named or exists("run/systemd/container") or _CGROUP.search(groups):
        return "docker"
    kernel = _text(os.path.join(root, "proc/version"))
    if wsl_of(kernel, environment) == "2":  # WSL 1 shares the network of Windows
        return None if exists("sys/class/net/loopback0") else "wsl"
    return None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""
