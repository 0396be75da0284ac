"""What this machine is, in one line: what inference runs on first. Pure.

Said once in the log, at the top of ``hived status`` and of ``hived hardware``.
"""

from __future__ import annotations

from collections.abc import Sequence

from hived_client.vocabulary.hardware import Gpu, Hardware


def summary(hardware: Hardware) -> str:
    """Say in one line what this machine is: what inference runs on first."""
    gpus = [gpu for gpu in hardware.gpus or () if gpu.usable]
    # Beside a card no server takes the processor's own graphics by itself.
    gpus = [gpu for gpu in gpus if gpu.kind != "integrated"] or gpus
    cpu, memory = hardware.cpu, hardware.memory
    parts = [_cards(gpus)] if gpus else []
    processor = cpu.model or cpu.architecture or "unknown processor"
    threads = (
        f"{cpu.usable:g} of {cpu.threads}"
        if cpu.usable and cpu.threads and cpu.usable < cpu.threads
        else cpu.threads
    )
    widest = _widest(cpu.extensions or ())
    facts = [f"{threads} threads" if threads else "", widest]
    parts.append(f"{processor} ({', '.join(filter(None, facts))})" if any(facts) else processor)
    parts.append(f"{in_gib(memory.usable)} memory" if memory.usable else "memory unknown")
    others = [
        gpu
        for gpu in hardware.gpus or ()
        if not gpu.usable and gpu.kind != "integrated" and gpu.kind != "slice"
    ]
    parts += [f"not used: {gpu.name or gpu.vendor}" for gpu in others if not gpu.sliced]
    if hardware.gpus is None:
        parts.append("graphics unknown")
    if hardware.system.inside:
        parts.append(f"in {hardware.system.inside}")
    if hardware.power is not None and hardware.power.mains is False:
        parts.append("on battery")
    return f"{hardware.runs_on or 'unknown'}: {', '.join(parts)}"


def _cards(gpus: Sequence[Gpu]) -> str:
    """Name the cards, those that are alike together. Their memory is never added up."""
    groups: dict[tuple[str, int | None, bool], int] = {}
    for gpu in gpus:
        key = (gpu.name or gpu.vendor, gpu.memory, gpu.shared)
        groups[key] = groups.get(key, 0) + 1
    words = []
    asleep = {gpu.name for gpu in gpus if gpu.asleep}
    for (name, memory, shared), count in groups.items():
        size = "memory unknown" if memory is None else in_gib(memory) + (" each" if count > 1 else "")
        size += ", asleep" if name in asleep else ""
        words.append(f"{f'{count} × ' if count > 1 else ''}{name} ({size}{' shared' if shared else ''})")
    return ", ".join(words)


def _widest(extensions: Sequence[str]) -> str:
    order = (
        "AMX-INT8",
        "AVX512-VNNI",
        "AVX512",
        "AVX-VNNI",
        "AVX2",
        "SME",
        "SVE2",
        "SVE",
        "I8MM",
        "DOTPROD",
        "NEON",
    )
    return next((name for name in order if name in extensions), "")


def in_gib(number: int | None) -> str:
    """Say a memory in GiB, as it is on the box."""
    if number is None:
        return "?"
    gib = number / (1 << 30)
    return f"{gib:.3g} GiB" if gib < 1000 else f"{gib / 1024:.3g} TiB"
