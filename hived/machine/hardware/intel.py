"""What the kernel's files say of Intel's graphics. Pure.

A card tells its memory (the xe driver by tile, i915 as a whole); a processor's own graphics tells none, and
is not used by default: it shares the machine's memory and is no faster than the processor at it.
"""

from __future__ import annotations

import re

from hived.machine.hardware.pci import PciDevice, address_of, shown_name
from hived.machine.hardware.texts import Texts, number, text, under, whole
from hived_client.vocabulary.hardware import Gpu, GpuKind


def understand_intel(texts: Texts, devices: tuple[PciDevice, ...]) -> tuple[Gpu, ...]:
    """Read the cards and the processor's own graphics."""
    by_address = {device.address: device for device in devices}
    found = []
    for match, vendor in under(texts, r"sys/class/drm/card(\d+)/device/vendor"):
        if vendor != "0x8086":
            continue
        card = f"sys/class/drm/card{match[1]}"
        uevent = text(texts, f"{card}/device/uevent")
        slot = re.search(r"^PCI_SLOT_NAME=(\S+)", uevent, re.MULTILINE)
        driver = re.search(r"^DRIVER=(\S+)", uevent, re.MULTILINE)
        address = address_of(slot[1]) if slot else None
        device = by_address.get(address or "")
        total = _tiles(texts, card) or number(texts, f"{card}/lmem_total_bytes") or None
        asleep = device.asleep if device else False
        is_known = not asleep or (device is not None and device.is_built_in)
        kind: GpuKind | None = "discrete" if total else "integrated" if is_known else None
        found.append(
            Gpu(
                name=_name(device),
                vendor="intel",
                kind=kind,  # one that sleeps does not tell its memory
                pci=address,
                memory=total,
                free=number(texts, f"{card}/lmem_avail_bytes") if total else None,
                shared=kind == "integrated",
                driver=driver[1] if driver else None,
                asleep=asleep,
                source="/sys/class/drm",
            )
        )
    return tuple(found)


def _tiles(texts: Texts, card: str) -> int | None:
    sizes = [whole(said) for _, said in under(texts, rf"{card}/device/tile\d+/physical_vram_size_bytes")]
    known = [size for size in sizes if size]
    return sum(known) if known else None


def _name(device: PciDevice | None) -> str | None:
    name = shown_name(device) if device else None
    return name if name is None or name.startswith("Intel") else f"Intel {name}"
