"""Have the memory's bandwidth measured, by a program of its own: ``memory_speed``. Blocks."""

from __future__ import annotations

import sys

import msgspec

from hived.machine.commands import Run
from hived_client.vocabulary.hardware import Bandwidth, Hardware

MEASURING = 8.0
"""Seconds that measuring the memory may take."""


ALIKE = 0.1
"""Share by which the two figures of an idle machine differ at most."""


def measure_memory(run: Run, hardware: Hardware | None) -> Bandwidth | None:
    """Measure the memory's bandwidth, without a date; ``None`` where that fails. Blocks.

    Of a machine that was busy it is between two figures, and says so.
    """
    usable = hardware.cpu.usable if hardware is not None else None
    available = hardware.memory.available if hardware is not None else None
    threads = str(max(1, int(usable or 1)))
    words = [
        sys.executable,
        "-P",
        "-m",
        "hived.machine.hardware.memory_speed",
        threads,
        *([str(available // 8)] if available else []),
    ]
    done = run(words, seconds=MEASURING)
    try:
        found = msgspec.json.decode(done.out, type=dict[str, float | None]) if done and done.code == 0 else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    low, high = found.get("bytes_per_second"), found.get("at_most")
    if not low:
        return None
    if high is None or high - low <= ALIKE * high:
        return Bandwidth(low=low, high=low, source="measured")
    return Bandwidth(low=low, high=high, source="measured", note="other programs were busy")
