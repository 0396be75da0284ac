"""What a process holds, as the system counts it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Memory in KiB, and counts."""

    rss: int
    pss: int
    descriptors: int
    threads: int


def usage_of(pid: int) -> Usage:
    """Look at a process."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return Usage(
        int(rows["Rss"].split()[0]), int(rows["Pss"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), threads
    )
