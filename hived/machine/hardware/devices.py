"""What a model server itself sees: ``llama-server --list-devices``. Pure.

It is the last word on whether a card can be used, and the first where a driver is too old for it.
"""

from __future__ import annotations

import re

import msgspec

from hived_client.vocabulary.hardware import Gpu, Vendor

MIB = 1 << 20
_LINE = re.compile(r"^\s+(\S+?):\s+(.+?)\s+\((\d{1,9}) MiB, (\d{1,9}) MiB free\)\s*$", re.MULTILINE)
_TOO_OLD = re.compile(r"CUDA driver version is insufficient for CUDA runtime version", re.IGNORECASE)
_FAILED = re.compile(r"failed to initialize (?:CUDA|ROCm|HIP|Vulkan)[^:\n]*: ([^\n]+)", re.IGNORECASE)

_SOFTWARE = ("llvmpipe", "SwiftShader")
"""Beginnings of the names of what Vulkan calls a device and is the processor."""

_SLICE = re.compile(r"\bMIG \d+[gc]\.")

_BACKENDS: dict[str, Vendor] = {
    "CUDA": "nvidia",
    "ROCm": "amd",
    "HIP": "amd",
    "SYCL": "intel",
    "Metal": "apple",
    "MTL": "apple",
}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What it listed."""

    gpus: tuple[Gpu, ...] = ()
    too_old: bool = False
    """Whether it said that the driver is too old for it."""
    failed: str = ""
    """Why it could not use a card, in its words."""


def understand_devices(said: str) -> Listed:
    """Read the list. A device of no memory is none (BLAS, a processor); one elsewhere (RPC) is not here."""
    found = []
    for name, description, total, free in _LINE.findall(said):
        backend = re.sub(r"\d+$", "", name)
        if name.startswith("RPC") or int(total) == 0 or backend in ("CPU", "BLAS"):
            continue
        if description.startswith(_SOFTWARE):
            continue
        vendor = _BACKENDS.get(backend) or vendor_of(description)
        found.append(
            Gpu(
                name=re.sub(r"\s+\((NVIDIA|RADV[^)]*|AMD[^)]*|Intel[^)]*)\)$", "", description),
                vendor=vendor,
                kind="slice" if _SLICE.search(description) else None,
                backends=(name,),
                memory=int(total) * MIB,
                free=min(int(free), int(total)) * MIB,
                usable=True,
                source="llama-server",
            )
        )
    failed = _FAILED.search(said)
    return Listed(
        gpus=tuple(found), too_old=bool(_TOO_OLD.search(said)), failed=failed[1].strip() if failed else ""
    )


def vendor_of(description: str) -> Vendor:
    """Return who made a card, by its name."""
    words = description.lower()
    marks: tuple[tuple[str, Vendor], ...] = (
        ("nvidia", "nvidia"),
        ("geforce", "nvidia"),
        ("radeon", "amd"),
        ("amd", "amd"),
        ("intel", "intel"),
        ("apple", "apple"),
    )
    return next((vendor for mark, vendor in marks if mark in words), "other")
