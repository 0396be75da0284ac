"""What the kernel's files say of AMD's graphics: amdgpu's sizes, and what kfd can compute on. Pure.

A processor's own graphics (APU) has little memory set aside and uses the machine's through the GTT; a card's
GTT lies across the bus and is no memory for models. What ``mem_info_gtt_used`` leaves out (memory that HIP
takes) makes the free part of an APU the machine's own business: what is available there.
"""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.pci import PciDevice, address_of, shown_name
from hived.machine.hardware.texts import Texts, number, text, under, whole
from hived_client.vocabulary.hardware import Gpu, Link, Memory

GIB = 1 << 30
SMALL_CARVE_OUT = 4 * GIB
LARGE_GTT = 8 * GIB

APU_TARGETS = frozenset(
    {
        *("gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1037"),
        *("gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153"),
    }
)
"""What only processors' own graphics are compiled for (LLVM's guide to AMDGPU: its column of APUs)."""

APU_NAMES = re.compile(r"80[456]0S|Strix Halo|RYZEN AI MAX", re.IGNORECASE)


class KfdNode(msgspec.Struct, frozen=True, kw_only=True):
    """One device that the kernel can compute on."""

    address: str
    target: str


def understand_amd(
    texts: Texts, devices: tuple[PciDevice, ...], machine: Memory, cpu: str | None
) -> tuple[Gpu, ...]:
    """Read the cards and the processor's own graphics. ``cpu``: its name, which tells of an APU."""
    nodes = {node.address: node for node in kfd_nodes(texts)}
    by_address = {device.address: device for device in devices}
    found = []
    for match, vendor in under(texts, r"sys/class/drm/card(\d+)/device/vendor"):
        if vendor != "0x1002":
            continue
        folder = f"sys/class/drm/card{match[1]}/device"
        slot = re.search(r"^PCI_SLOT_NAME=(\S+)", text(texts, f"{folder}/uevent"), re.MULTILINE)
        address = address_of(slot[1]) if slot else None
        device = by_address.get(address or "")
        found.append(_gpu(texts, folder, address, device, nodes.get(address or ""), machine, cpu))
    return tuple(found)


def _gpu(
    texts: Texts,
    folder: str,
    address: str | None,
    device: PciDevice | None,
    node: KfdNode | None,
    machine: Memory,
    cpu: str | None,
) -> Gpu:
    own, gtt = (
        number(texts, f"{folder}/mem_info_vram_total") or None,
        number(texts, f"{folder}/mem_info_gtt_total") or None,
    )
    used = number(texts, f"{folder}/mem_info_vram_used")
    name = text(texts, f"{folder}/product_name") or (shown_name(device) if device else None)
    is_known = node is not None and node.target in APU_TARGETS
    apu = is_known or _is_apu(texts, folder, own, gtt, name or "", cpu or "")
    if apu and (boxed := re.search(r"w/ (Radeon .+)$", cpu or "")):
        name = f"AMD {boxed[1]}"
    on_gtt = apu and gtt is not None and gtt > (own or 0)
    total = min(gtt or 0, machine.usable or gtt or 0) if on_gtt else own
    free = None
    if on_gtt:
        free = min(total or 0, machine.available) if machine.available is not None else None
    elif own is not None and used is not None:
        free = max(0, own - used)
    busy = number(texts, f"{folder}/gpu_busy_percent")
    return Gpu(
        name=name,
        vendor="amd",
        kind=None if apu is None else "integrated" if apu else "discrete",
        pci=address,
        uuid=text(texts, f"{folder}/unique_id") or None,
        memory=total or None,
        free=free,
        shared=bool(on_gtt),
        compute=node.target if node else None,
        driver=device.driver if device else None,
        link=_link(texts, folder) if not apu else None,
        busy=busy / 100 if busy is not None and busy <= 100 else None,
        asleep=device.asleep if device else False,
        source="/sys/class/drm" + (", kfd" if node else "") + (", /proc/meminfo" if on_gtt else ""),
    )


def _is_apu(texts: Texts, folder: str, own: int | None, gtt: int | None, name: str, cpu: str) -> bool | None:
    """Tell a processor's own graphics from a card; ``None`` where nothing tells."""
    if APU_NAMES.search(name):
        return True  # also where most of the memory was set aside for it
    if text(texts, f"{folder}/mem_info_vram_vendor") or text(texts, f"{folder}/board_info"):
        return False
    if APU_NAMES.search(cpu):
        return True
    if own is None:
        return None
    return own <= SMALL_CARVE_OUT and gtt is not None and gtt >= LARGE_GTT and gtt >= 4 * own


def _link(texts: Texts, folder: str) -> Link | None:
    speeds = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
    words = [text(texts, f"{folder}/{end}_link_speed").split(" ")[0] for end in ("current", "max")]
    found = Link(
        generation=speeds.get(words[0]),
        most_generation=speeds.get(words[1]),
        width=number(texts, f"{folder}/current_link_width") or None,
        most_width=number(texts, f"{folder}/max_link_width") or None,
    )
    return found if found != Link() else None


def kfd_nodes(texts: Texts) -> tuple[KfdNode, ...]:
    """Read the nodes that are graphics: processors are nodes too, and have no target."""
    found = []
    for _, said in under(texts, r"sys/class/kfd/kfd/topology/nodes/(\d+)/properties"):
        fields = {
            words[0]: whole(words[1]) or 0 for line in said.splitlines() if _is_number(words := line.split())
        }
        target = gfx_name(fields.get("gfx_target_version", 0))
        if target:
            found.append(KfdNode(address=_location(fields), target=target))
    return tuple(found)


def gfx_name(version: int) -> str | None:
    """Return ``gfx90a`` for 90010: the step is a hex digit."""
    if version <= 0:
        return None
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _is_number(words: list[str]) -> bool:
    return len(words) == 2 and whole(words[1]) is not None


def _location(fields: dict[str, int]) -> str:
    place = fields.get("location_id", 0)
    return f"{fields.get('domain', 0):04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
