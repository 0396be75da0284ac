"""Have the memory's bandwidth measured, by a program of its own: ``memory_speed``. Blocks."""

from __future__ import annotations

import sys

import msgspec

from hived.machine.commands import Run
from hived_client.vocabulary.hardware import Hardware

MEASURING = 8.0
"""Seconds that measuring the memory may take."""


def measure_memory(run: Run, hardware: Hardware | None) -> float | None:
    """Measure the memory's bandwidth, in bytes a second; ``None`` where that fails. Blocks."""
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
    return found.get("bytes_per_second")
