"""This machine as lines of text: for ``hived hardware``, and what the doctor says of it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from hived.cli.rendering import duration
from hived.cli.running import shown
from hived.decisions.machine_line import in_gib, summary
from hived_client.vocabulary.hardware import Bandwidth, Gpu, Hardware, Link, Loaded, Memory, Probe

COLUMN = 11
MOST_PROCESSES = 4
"""Programs that are named of one card."""


def hardware_lines(hardware: Hardware) -> list[str]:
    """Return everything that is known, the most telling first; what is not known says so."""
    rows = [shown(summary(hardware)), ""]
    rows += _row("processor", _processor(hardware))
    rows += _row("memory", _memory(hardware.memory))
    for node in hardware.memory.numa:
        near = "no processors" if node.processors == 0 else f"{node.processors or '?'} processors"
        rows += _row("", [f"node {node.number}: {in_gib(node.memory)} near {near}"])
    rows += _row("system", _system(hardware))
    if hardware.power is not None:
        charge = f"battery at {hardware.power.charge:.0%}" if hardware.power.charge is not None else ""
        source = {True: "mains", False: "battery", None: "unknown"}[hardware.power.mains]
        rows += _row("power", [source, charge])
    if hardware.gpus is None:
        rows += _row("graphics", ["unknown: nobody could tell"])
    elif not hardware.gpus:
        rows += _row("graphics", ["none was found"])
    for gpu in hardware.gpus or ():
        rows += _gpu_rows(gpu)
    rows += _rows("loaded", [_loaded(each) for each in hardware.loaded or ()])
    silent = [_probe(each) for each in hardware.probes if each.state != "ok"]
    rows += _rows("not told", silent)
    for problem in hardware.problems:
        rows += ["", shown(problem.message), *([f"  → {shown(problem.hint)}"] if problem.hint else [])]
    return rows


def folded(lines: Sequence[str], width: int) -> list[str]:
    """Break what ``hardware_lines`` returned between words at a width, facts below facts; 0: no limit.

    A command is left whole: it is there to be copied.
    """
    if width <= 2 * COLUMN:
        return list(lines)
    rows: list[str] = []
    paragraph = 0
    for line in lines:
        paragraph += not line
        below = " " * (COLUMN + 1) if paragraph == 1 else ""
        if len(line) <= width or line.startswith("  →"):
            rows.append(line)
        else:
            rows += textwrap.wrap(
                line, width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False
            )
    return rows


def _row(name: str, facts: Sequence[str]) -> list[str]:
    said = ", ".join(fact for fact in facts if fact)
    return [f"{name:{COLUMN}} {shown(said)}"] if said else []


def _rows(name: str, facts: Sequence[str]) -> list[str]:
    """Give each fact a line of its own."""
    return [row for at, each in enumerate(facts) for row in _row("" if at else name, [each])]


def _processor(hardware: Hardware) -> list[str]:
    cpu = hardware.cpu
    usable = (
        f"{cpu.usable:g} of them usable" if cpu.usable and cpu.threads and cpu.usable < cpu.threads else ""
    )
    return [
        cpu.model or "unknown",
        cpu.architecture or "",
        f"{cpu.cores} cores" if cpu.cores else "",
        f"{cpu.threads} threads" if cpu.threads else "",
        usable,
        f"a limit of {cpu.quota:g} processors" if cpu.quota else "",
        " ".join(cpu.extensions)
        if cpu.extensions
        else "no vector extension is known"
        if cpu.extensions is None
        else "",
    ]


def _memory(memory: Memory) -> list[str]:
    return [
        in_gib(memory.total) if memory.total else "unknown",
        f"limited to {in_gib(memory.limit)}" if memory.limit else "",
        f"{in_gib(memory.available)} available" if memory.available is not None else "",
        f"{in_gib(memory.swap)} swap" if memory.swap else "",
        _speed(memory.bandwidth) if memory.bandwidth else "bandwidth not measured",
    ]


def _system(hardware: Hardware) -> list[str]:
    system = hardware.system
    return [
        system.name or "unknown",
        f"kernel {system.kernel}" if system.kernel else "",
        system.machine or "",
        f"in {system.inside}" if system.inside else "",
        "WSL" if system.wsl and system.inside != "wsl" else "",
        "under Rosetta" if system.translated else "",
    ]


def _gpu_rows(gpu: Gpu) -> Iterator[str]:
    use = {True: "usable", False: "not used", None: "not known whether it can be used"}[gpu.usable]
    kind = {"integrated": "of the processor", "slice": "a slice"}.get(gpu.kind or "", "")
    yield from _row(
        "graphics",
        [gpu.name or f"a card by {gpu.vendor}", kind, gpu.pci or "", "asleep" if gpu.asleep else "", use],
    )
    free = f"{in_gib(gpu.free)} free" if gpu.free is not None else ""
    about = "about " if gpu.estimated else ""
    size = f"{about}{in_gib(gpu.memory)}{' of the machine’s memory' if gpu.shared else ''}"
    yield from _row(
        "", [size if gpu.memory else "memory unknown", free, _speed(gpu.bandwidth) if gpu.bandwidth else ""]
    )
    yield from _row(
        "",
        [
            {"nvidia": "compute capability ", "amd": ""}.get(gpu.vendor, "") + gpu.compute
            if gpu.compute
            else "",
            f"{gpu.cores} cores" if gpu.cores else "",
            f"driver {gpu.driver}" if gpu.driver else "",
            f"CUDA {gpu.runtime}" if gpu.runtime else "",
            _link(gpu.link) if gpu.link else "",
            f"{gpu.nvlinks} NVLinks" if gpu.nvlinks else "",
            f"listed as {', '.join(gpu.backends)}" if gpu.backends else "",
            "divided into slices (MIG)" if gpu.sliced else "",
        ],
    )
    yield from _row(
        "",
        [
            f"{gpu.busy:.0%} busy" if gpu.busy is not None else "",
            f"{gpu.temperature:.0f} °C" if gpu.temperature is not None else "",
            f"slower because of {', '.join(gpu.throttled)}" if gpu.throttled else "",
            {False: "hidden by a variable", None: "a variable may hide it", True: ""}[gpu.visible],
        ],
    )
    yield from _row("", _held(gpu))
    yield from _row("", [f"told by {gpu.source}" if gpu.source else ""])


def _link(link: Link) -> str:
    generation, width = link.most_generation or link.generation, link.most_width or link.width
    return f"PCIe {generation or '?'}.0 ×{width or '?'}"


def _speed(bandwidth: Bandwidth) -> str:
    low, high = bandwidth.low / 1e9, bandwidth.high / 1e9
    figure = f"{low:.0f} GB/s" if bandwidth.low == bandwidth.high else f"{low:.0f} to {high:.0f} GB/s"
    note = f"; {bandwidth.note}" if bandwidth.note else ""
    return f"{figure} ({bandwidth.source}{note})"


def _loaded(loaded: Loaded) -> str:
    parts = [f"{in_gib(loaded.graphics)} on graphics" if loaded.graphics else ""]
    parts.append(f"{in_gib(loaded.machine)} of the machine’s memory" if loaded.machine else "")
    alone = "" if loaded.graphics else ", on the processor alone"
    held = " and ".join(filter(None, parts))
    return f"{loaded.endpoint}/{loaded.model}: {held}{alone}, as its server says"


def _held(gpu: Gpu) -> list[str]:
    """Say what each program holds of a card, the most first."""
    known = sorted(gpu.processes or (), key=lambda each: -(each.memory or 0))
    words = [
        f"{in_gib(each.memory) if each.memory is not None else 'unknown memory'} by process {each.pid}"
        for each in known[:MOST_PROCESSES]
    ]
    more = len(known) - MOST_PROCESSES
    return [f"held: {words[0]}", *words[1:], f"{more} more" if more > 0 else ""] if words else []


def _probe(probe: Probe) -> str:
    spent = f" after {duration(probe.seconds)}" if probe.seconds else ""
    return f"{probe.name} {probe.state}{spent}{f': {probe.why}' if probe.why else ''}"
