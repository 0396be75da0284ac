"""What ``nvidia-smi`` says of the cards: one row a card, and what it says instead where it cannot. Pure."""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.nvidia import INTEGRATED, Said
from hived.machine.hardware.pci import address_of
from hived.machine.hardware.texts import real, whole
from hived_client.vocabulary.hardware import Gpu, GpuProcess, Link, Memory

MIB = 1 << 20

FIELDS = (
    *("index", "uuid", "name", "memory.total", "memory.free", "memory.used", "driver_version", "compute_cap"),
    *("pci.bus_id", "pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current"),
    *("pcie.link.width.max", "utilization.gpu", "temperature.gpu", "mig.mode.current", "addressing_mode"),
)
FEWER_FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "driver_version", "pci.bus_id")
"""What every driver knows: an older one refuses the whole question for one field that it does not."""

_SMI_WHY = (
    ("version mismatch", "LIB_RM_VERSION_MISMATCH"),
    ("couldn't communicate with the NVIDIA driver", "DRIVER_NOT_LOADED"),
    ("Driver Not Loaded", "DRIVER_NOT_LOADED"),
    ("blocked by the operating system", "OPERATING_SYSTEM"),
    ("GPU is lost", "GPU_IS_LOST"),
    ("Insufficient Permissions", "NO_PERMISSION"),
    ("libnvidia-ml.so", "LIBRARY_NOT_FOUND"),
    ("Unable to determine the device handle", "GPU_IS_LOST"),
)


def understand_smi(said: str, fields: tuple[str, ...], machine: Memory) -> Said:
    """Read ``nvidia-smi --query-gpu=… --format=csv,noheader,nounits``, or what it says instead."""
    gpus: list[Gpu] = []
    failing: list[tuple[str | None, str]] = []
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(fields) or whole(cells[0]) is None:
            continue  # a warning among the rows
        row = dict(zip(fields, cells, strict=True))
        gpu = _of_smi(row, machine)
        gpus.append(gpu)
        if gpu.memory is None and not gpu.sliced and (error := _cell_error(row["memory.total"])):
            failing.append((gpu.pci, error))
    if gpus:
        return Said(gpus=tuple(gpus), failing=tuple(failing))
    return Said(error=smi_error(said))


def smi_error(said: str) -> str:
    """Return the word for what nvidia-smi complains of."""
    for text_, word in _SMI_WHY:
        if text_.lower() in said.lower():
            return word
    first = said.strip().splitlines()
    return first[0][:200] if first else "it printed nothing"


def is_unknown_field(said: str) -> bool:
    """Tell whether an older nvidia-smi refused the question for a field that it does not know."""
    return "is not a valid field to query" in said


def _of_smi(row: dict[str, str], machine: Memory) -> Gpu:
    name = _cell(row.get("name", ""))
    total = _mib(row.get("memory.total", ""))
    is_integrated = bool(INTEGRATED.search(name or ""))
    silent = total is None and not _cell_error(row.get("memory.total", ""))
    # One that fails (lost, not permitted) has no memory to tell either, and is not well for that.
    unified = (is_integrated and (silent or total is not None)) or (
        silent and row.get("addressing_mode", "").upper() == "ATS"
    )
    busy = real(row.get("utilization.gpu", ""))
    mig = row.get("mig.mode.current", "")
    return Gpu(
        name=name,
        vendor="nvidia",
        kind="integrated" if unified else "discrete",
        pci=address_of(row.get("pci.bus_id", "")),
        uuid=_cell(row.get("uuid", "")),
        memory=machine.usable if unified else total,
        free=machine.available if unified else _mib(row.get("memory.free", "")) if total else None,
        shared=unified,
        compute=_cell(row.get("compute_cap", "")),
        driver=_cell(row.get("driver_version", "")),
        link=_smi_link(row),
        sliced={"Enabled": True, "Disabled": False}.get(mig),
        busy=busy / 100 if busy is not None and busy <= 100 else None,
        temperature=real(row.get("temperature.gpu", "")),
        source="nvidia-smi" if not unified else "nvidia-smi, /proc/meminfo",
    )


def _smi_link(row: dict[str, str]) -> Link | None:
    found = Link(
        generation=whole(row.get("pcie.link.gen.current", "")),
        width=whole(row.get("pcie.link.width.current", "")),
        most_generation=whole(row.get("pcie.link.gen.max", "")),
        most_width=whole(row.get("pcie.link.width.max", "")),
    )
    return found if found != Link() else None


def _cell(said: str) -> str | None:
    """Return what stands in a cell; ``[N/A]``, ``[Not Supported]`` and the like are unknown."""
    return None if not said or said.startswith("[") or said in ("N/A", "Not Supported") else said


def _cell_error(said: str) -> str:
    """Return the word for a cell that tells of a failure, rather than of nothing to tell."""
    if "Insufficient Permissions" in said:
        return "NO_PERMISSION"
    if "GPU is lost" in said:
        return "GPU_IS_LOST"
    return "UNKNOWN" if "Unknown Error" in said else ""


def _mib(said: str) -> int | None:
    """Read mebibytes as bytes; zero of them are unknown, for no card has none."""
    found = real(said.removesuffix("MiB"))
    return int(found * MIB) if found else None


def with_processes(gpus: tuple[Gpu, ...], said: str) -> tuple[Gpu, ...]:
    """Add who holds memory of each card: ``--query-compute-apps=gpu_uuid,pid,used_memory``."""
    found: dict[str, list[GpuProcess]] = {}
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and (pid := whole(cells[1])):
            found.setdefault(cells[0], []).append(GpuProcess(pid=pid, memory=_mib(cells[2])))
    return tuple(
        msgspec.structs.replace(gpu, processes=tuple(found.get(gpu.uuid or "", ()))) if gpu.uuid else gpu
        for gpu in gpus
    )


def understand_slices(listed: str, detailed: str, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Read the slices of cards: their names from ``-L``, their memory from ``-q -x``."""
    memories = _slice_memories(detailed)
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    found: list[Gpu] = []
    card: Gpu | None = None
    for line in listed.splitlines():
        if head := re.match(r"GPU \d+: .+\(UUID: (GPU-[^)]+)\)", line):
            card = by_uuid.get(head[1])
        elif (
            part := re.match(r"\s+MIG (\S+)\s+Device\s+(\d{1,9}): \(UUID: ([^)]+)\)", line)
        ) and card is not None:
            total, free = memories.get((card.pci, int(part[2])), (None, None))
            found.append(
                Gpu(
                    name=f"{card.name} MIG {part[1]}",
                    vendor="nvidia",
                    kind="slice",
                    uuid=part[3],
                    whole=card.pci or card.uuid,
                    memory=total,
                    free=free,
                    compute=card.compute,
                    driver=card.driver,
                    source="nvidia-smi",
                )
            )
    return tuple(found)


def _slice_memories(detailed: str) -> dict[tuple[str | None, int], tuple[int | None, int | None]]:
    import xml.etree.ElementTree as Tree  # only where there are slices

    try:
        root = Tree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", detailed))
    except Tree.ParseError:
        return {}
    found = {}
    for card in root.iter("gpu"):
        address = address_of(card.get("id", ""))
        for part in card.iter("mig_device"):
            index = whole(part.findtext("index", ""))
            if index is not None:
                found[address, index] = (
                    _mib(part.findtext("fb_memory_usage/total", "")),
                    _mib(part.findtext("fb_memory_usage/free", "")),
                )
    return found
