"""What NVIDIA's library says of the cards, as ``nvml_child`` prints it. Pure."""

from __future__ import annotations

import msgspec

from hived.machine.hardware.nvidia import INTEGRATED, Said
from hived.machine.hardware.pci import address_of
from hived.machine.hardware.texts import whole
from hived_client.vocabulary.hardware import Bandwidth, Gpu, GpuProcess, Link, Memory

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
    silent = total is None and device.errors.get("memory", "NOT_SUPPORTED") == "NOT_SUPPORTED"
    is_integrated = bool(INTEGRATED.search(device.name or ""))
    # One that fails (lost, not permitted) has no memory to tell either, and is not well for that.
    unified = (is_integrated and (silent or total is not None)) or (silent and device.addressing == _ATS)
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
    return tuple(
        GpuProcess(pid=number, memory=memory)
        for pid, memory in found.items()
        if (number := whole(pid)) is not None
    )
