"""Run ``hived …`` as a person would: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

from tests.daemon.running import DEADLINE


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


def hived(environment: Mapping[str, str], *words: str, timeout: float = DEADLINE) -> Said:
    """Run one command, and return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hived", *words],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)
