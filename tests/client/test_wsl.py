"""WSL is told by its kernel, also where nobody logged in from Windows."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from hived_client.vocabulary.faults import fault, system
from hived_client.vocabulary.wsl import wsl_of

LOGIN = {"WSL_DISTRO_NAME": "Debian"}


@pytest.mark.parametrize(
    ("kernel", "environment", "version"),
    [
        ("4.4.0-19041-Microsoft", LOGIN, "1"),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", {}, "1"),
        ("5.15.153.1-microsoft-standard-WSL2", {}, "2"),
        ("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x) (gcc)", LOGIN, "2"),
        ("6.6.1-mine", LOGIN, "2"),
        ("6.1.0-18-amd64", {}, ""),
        ("Linux version 6.1.0-18-amd64 (build@microsoft.com)", {}, ""),
        ("", {}, ""),
    ],
)
def test_wsl_is_told_by_its_kernel(kernel: str, environment: Mapping[str, str], version: str) -> None:
    assert wsl_of(kernel, environment) == version


def test_a_service_in_wsl_gives_hints_for_wsl(monkeypatch: pytest.MonkeyPatch, other_system: None) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WSL_DISTRO_NAME", raising=False)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="5.15.153.1-microsoft-standard-WSL2"))
    assert system() == "wsl"
    assert fault("gpu.driver", gpu="x", why="y").hint == "wsl.exe --shutdown"
