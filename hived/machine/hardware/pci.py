"""PCI devices that draw or compute: which there are, who made them, and whether they sleep. Pure.

A card that sleeps (a laptop's second one) must not be woken by looking: its files under /sys do not wake it,
and asking its driver's programs does.
"""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.texts import Texts, text, under
from hived_client.vocabulary.hardware import Vendor

VENDORS: dict[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}

_ADDRESS = re.compile(r"(?:([0-9a-f]+):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
"""VGA, 3D, other displays, and processing accelerators."""


class PciDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    address: str
    vendor: Vendor
    device: str
    """Four hex digits."""
    name: str | None = None
    """As the list of PCI ids has it: ``Navi 31 [Radeon RX 7900 XT/7900 XTX]``."""
    driver: str | None = None
    asleep: bool = False

    @property
    def is_built_in(self) -> bool:
        """Tell whether it is the graphics of an Intel processor, which is always at this address."""
        return self.vendor == "intel" and self.address == "0000:00:02.0"


def address_of(said: str) -> str | None:
    """Return an address as ``0000:01:00.0``: programs write eight digits of a domain, or none."""
    found = _ADDRESS.fullmatch(said.strip())
    if found is None:
        return None
    return f"{int(found[1] or '0', 16):04x}:{found[2]}:{found[3]}.{found[4]}".lower()


def understand_pci(texts: Texts) -> tuple[PciDevice, ...]:
    """Read the devices."""
    found = []
    for match, kind in under(texts, r"sys/bus/pci/devices/([^/]+)/class"):
        address = address_of(match[1])
        if address is None or not kind.startswith(_CLASSES):
            continue
        folder = f"sys/bus/pci/devices/{match[1]}"
        vendor, device = text(texts, f"{folder}/vendor"), text(texts, f"{folder}/device").removeprefix("0x")
        if vendor == "0x8086" and kind.startswith("0x1200"):
            continue  # an NPU
        driver = re.search(r"^DRIVER=(\S+)", text(texts, f"{folder}/uevent"), re.MULTILINE)
        found.append(
            PciDevice(
                address=address,
                vendor=VENDORS.get(vendor, "other"),
                device=device,
                name=text(texts, f"pci.ids/{vendor.removeprefix('0x')}/{device}") or None,
                driver=driver[1] if driver else None,
                asleep=text(texts, f"{folder}/power/runtime_status") in ("suspended", "suspending"),
            )
        )
    return tuple(found)


def shown_name(device: PciDevice) -> str | None:
    """Return the name on the box, which the list of ids has in brackets."""
    if device.name is None:
        return None
    boxed = re.search(r"\[([^\]]+)\]", device.name)
    return boxed[1] if boxed else device.name
