"""What is common to the ways of asking NVIDIA's driver, and what its files say. Pure.

Three ways, the best first: the library (``nvml``), its program (``nvidia_smi``), and the driver's files here,
which wake no card. A Jetson before JetPack 6 has neither library nor program: its device tree tells the chip.

That a card does not tell its memory has two meanings: it has none of its own (Jetson, GB10: integrated, it
works in the machine's), or it fails (lost, not permitted), and these must never be taken for one another.
"""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.pci import address_of
from hived.machine.hardware.texts import Texts, text, under
from hived_client.vocabulary.hardware import Gpu, Memory

INTEGRATED = re.compile(r"\b(GB10|Thor|Orin|Xavier|Tegra)\b|\(nvgpu\)", re.IGNORECASE)
"""Names of those that work in the machine's own memory."""

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


_TEGRA = {
    "tegra210": ("Tegra X1", "5.3"),
    "tegra186": ("Tegra X2", "6.2"),
    "tegra194": ("Xavier", "7.2"),
    "tegra234": ("Orin", "8.7"),
    "tegra264": ("Thor", "11.0"),
}
"""Chips of Jetsons, with what their graphics are compiled for (NVIDIA's list of CUDA GPUs)."""

TEGRA_FILES = ("dev/nvhost-ctrl-gpu", "dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl")
"""Device files of their driver."""


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


def understand_tegra(texts: Texts, machine: Memory, inside: str | None) -> tuple[Gpu, ...]:
    """Read the graphics of a Jetson from its device tree, which a container sees that was not given them."""
    chip = re.search(r"nvidia,(tegra\d+)", text(texts, "proc/device-tree/compatible"))
    is_given = any(f"access/{path}" in texts for path in TEGRA_FILES)
    if chip is None or chip[1] not in _TEGRA or not (is_given or inside in ("docker", "podman")):
        return ()
    name, compute = _TEGRA[chip[1]]
    return (
        Gpu(
            name=f"{name} (nvgpu)",
            vendor="nvidia",
            kind="integrated",
            memory=machine.usable if is_given else None,
            free=machine.available if is_given else None,
            shared=True,
            compute=compute if is_given else None,
            source="/proc/device-tree" + (", /proc/meminfo" if is_given else ""),
        ),
    )


def loaded_driver(texts: Texts) -> str | None:
    """Return the version of the driver that the kernel has loaded."""
    version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", text(texts, "proc/driver/nvidia/version"))
    return version[1] if version else None
