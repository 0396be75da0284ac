"""What NVIDIA's library, its program and its driver's files say of the cards. Pure.

Three ways to ask, the best first: NVML (as ``nvml_child`` prints it), ``nvidia-smi``, the driver's files.
That a card does not tell its memory has two meanings: it has none of its own (Jetson, GB10: integrated, it
works in the machine's), or it fails (lost, not permitted), and these must never be taken for one another.
"""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.pci import address_of
from hived.machine.hardware.texts import Texts, real, text, under, whole
from hived_client.vocabulary.hardware import Bandwidth, Gpu, GpuProcess, Link, Memory

MIB = 1 << 20

FIELDS = (
    *("index", "uuid", "name", "memory.total", "memory.free", "memory.used", "driver_version", "compute_cap"),
    *("pci.bus_id", "pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current"),
    *("pcie.link.width.max", "utilization.gpu", "temperature.gpu", "mig.mode.current", "addressing_mode"),
)
FEWER_FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "driver_version", "pci.bus_id")
"""What every driver knows: an older one refuses the whole question for one field that it does not."""

INTEGRATED = re.compile(r"\b(GB10|Thor|Orin|Xavier|Tegra)\b|\(nvgpu\)", re.IGNORECASE)
"""Names of those that work in the machine's own memory."""

_ATS = 2
"""NVML's number for an addressing mode in which the card uses the machine's page tables."""

_THROTTLING = {
    0x4: "power limit",
    0x8: "slowed down by the hardware",
    0x20: "temperature",
    0x40: "temperature, by the hardware",
    0x80: "power brake",
}
"""Reasons that make it slower than it could be; that it idles or that somebody set its clocks are none."""

WHY = {
    "LIB_RM_VERSION_MISMATCH": "the driver was updated, and the old one is still loaded (version mismatch)",
    "DRIVER_NOT_LOADED": "its driver is not loaded",
    "GPU_IS_LOST": "the card is lost (it fell off the bus)",
    "RESET_REQUIRED": "the card must be reset",
    "NO_PERMISSION": "it may not be asked (insufficient permissions)",
    "OPERATING_SYSTEM": "the operating system blocks it",
    "LIBRARY_NOT_FOUND": "the driver's library libnvidia-ml.so.1 is not here",
    "TIMEOUT": "the driver took too long",
    "UNKNOWN": "the driver says that the error is unknown",
}
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


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one of the three ways came to."""

    gpus: tuple[Gpu, ...] = ()
    error: str = ""
    """NVML's word for why there is no answer (``DRIVER_NOT_LOADED``); empty: there is one."""
    failing: tuple[tuple[str | None, str], ...] = ()
    """Cards that do not answer: address or name, and the word."""

    @property
    def why(self) -> str:
        """Return the error as words."""
        return WHY.get(self.error, self.error)


class _Memory(msgspec.Struct):
    total: int | None = None
    free: int | None = None
    used: int | None = None


class _Slice(msgspec.Struct):
    index: int = 0
    name: str | None = None
    uuid: str | None = None
    memory: _Memory | None = None


class _Device(msgspec.Struct):
    index: int = 0
    error: str = ""
    errors: dict[str, str] = {}
    name: str | None = None
    uuid: str | None = None
    pci: str | None = None
    cores: int | None = None
    bus_width: int | None = None
    memory_clock: int | None = None
    link_generation: int | None = None
    link_width: int | None = None
    most_link_generation: int | None = None
    most_link_width: int | None = None
    temperature: int | None = None
    throttled: int | None = None
    addressing: int | None = None
    compute: tuple[int, ...] = ()
    busy: int | None = None
    mig: bool | None = None
    memory: _Memory | None = None
    processes: dict[str, int | None] | None = None
    nvlinks: int | None = None
    slices: tuple[_Slice, ...] = ()


class _Nvml(msgspec.Struct):
    error: str = ""
    driver: str | None = None
    cuda: int | None = None
    devices: tuple[_Device, ...] = ()


def understand_nvml(said: str, machine: Memory) -> Said:
    """Read what the child printed. ``machine``: its memory, which an integrated card works in."""
    try:
        found = msgspec.json.decode(said, type=_Nvml)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Said(error="it printed nothing that can be read")
    if found.error:
        return Said(error=found.error)
    gpus: list[Gpu] = []
    failing: list[tuple[str | None, str]] = []
    for device in found.devices:
        if device.error:
            failing.append((None, device.error))
            continue
        gpu = _of_nvml(device, found, machine)
        gpus += [gpu, *_slices(device, gpu)]
        if (
            gpu.memory is None
            and not gpu.sliced
            and (error := device.errors.get("memory", "")) != "NOT_SUPPORTED"
        ):
            failing.append((gpu.pci, error or "UNKNOWN"))
    return Said(gpus=tuple(gpus), failing=tuple(failing))


def _of_nvml(device: _Device, found: _Nvml, machine: Memory) -> Gpu:
    memory = device.memory or _Memory()
    total = memory.total or None  # zero bytes are no memory that anybody has
    unified = total is None and device.errors.get("memory", "NOT_SUPPORTED") == "NOT_SUPPORTED"
    is_integrated = bool(INTEGRATED.search(device.name or ""))
    unified = (unified and (is_integrated or device.addressing == _ATS)) or is_integrated
    return Gpu(
        name=device.name,
        vendor="nvidia",
        kind="integrated" if unified else "discrete",
        pci=address_of(device.pci or ""),
        uuid=device.uuid,
        memory=machine.usable if unified else total,
        free=machine.available if unified else memory.free if total else None,
        shared=unified,
        processes=_processes(device.processes),
        compute=".".join(map(str, device.compute)) or None,
        cores=device.cores,
        driver=found.driver,
        runtime=f"{found.cuda // 1000}.{found.cuda % 1000 // 10}" if found.cuda else None,
        bandwidth=_bandwidth(device),
        link=_link(device),
        nvlinks=device.nvlinks,
        sliced=device.mig,
        busy=device.busy / 100 if device.busy is not None and 0 <= device.busy <= 100 else None,
        temperature=float(device.temperature) if device.temperature is not None else None,
        throttled=tuple(name for bit, name in _THROTTLING.items() if device.throttled & bit)
        if device.throttled is not None
        else None,
        source="nvml" if not unified else "nvml, /proc/meminfo",
    )


def _slices(device: _Device, whole_card: Gpu) -> list[Gpu]:
    return [
        Gpu(
            name=each.name or f"{whole_card.name} MIG {each.index}",
            vendor="nvidia",
            kind="slice",
            uuid=each.uuid,
            whole=whole_card.pci or whole_card.uuid,
            memory=(each.memory.total or None) if each.memory else None,
            free=each.memory.free if each.memory and each.memory.total else None,
            compute=whole_card.compute,
            driver=whole_card.driver,
            runtime=whole_card.runtime,
            source="nvml",
        )
        for each in device.slices
    ]


def _bandwidth(device: _Device) -> Bandwidth | None:
    """Return what bus and clock give: two transfers a cycle, a bit a line of the bus each."""
    if not device.bus_width or not device.memory_clock:
        return None
    speed = 2.0 * device.memory_clock * 1e6 * device.bus_width / 8
    return Bandwidth(low=speed, high=speed, source="clock and bus width")


def _link(device: _Device) -> Link | None:
    found = Link(
        generation=device.link_generation or None,
        width=device.link_width or None,
        most_generation=device.most_link_generation or None,
        most_width=device.most_link_width or None,
    )
    return found if found != Link() else None


def _processes(found: dict[str, int | None] | None) -> tuple[GpuProcess, ...] | None:
    if found is None:
        return None
    return tuple(GpuProcess(pid=int(pid), memory=memory) for pid, memory in found.items() if pid.isdigit())


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
    unified = is_integrated or (silent and row.get("addressing_mode", "").upper() == "ATS")
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
            part := re.match(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: ([^)]+)\)", line)
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


def understand_proc(texts: Texts) -> tuple[Gpu, ...]:
    """Read the driver's files, which name the cards and wake none."""
    version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", text(texts, "proc/driver/nvidia/version"))
    found = []
    for match, said in under(texts, r"proc/driver/nvidia/gpus/([^/]+)/information"):
        fields = {
            name.strip(): value.strip()
            for name, _, value in (line.partition(":") for line in said.splitlines())
        }
        uuid = fields.get("GPU UUID", "")
        found.append(
            Gpu(
                name=fields.get("Model") or None,
                vendor="nvidia",
                pci=address_of(fields.get("Bus Location", "") or match[1]),
                uuid=uuid if uuid and "?" not in uuid else None,
                driver=version[1] if version else None,
                source="/proc/driver/nvidia",
            )
        )
    return tuple(found)


def loaded_driver(texts: Texts) -> str | None:
    """Return the version of the driver that the kernel has loaded."""
    version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", text(texts, "proc/driver/nvidia/version"))
    return version[1] if version else None
