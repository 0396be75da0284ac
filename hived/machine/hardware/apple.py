"""What macOS says of a Mac: ``sysctl``, ``system_profiler``, ``vm_stat`` and Metal. Pure.

All memory is one. How much of it a model can have is Metal's to say; where Metal was not asked, the system's
own setting, and else a rule of thumb that is marked as one.
"""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.texts import whole
from hived_client.vocabulary.hardware import Cpu, Gpu, Memory, System

GIB = 1 << 30

_ARM = {
    "hw.optional.arm64": "NEON",
    "hw.optional.arm.FEAT_DotProd": "DOTPROD",
    "hw.optional.arm.FEAT_I8MM": "I8MM",
    "hw.optional.arm.FEAT_BF16": "BF16",
    "hw.optional.arm.FEAT_SME": "SME",
}
_X86 = {"hw.optional.avx2_0": "AVX2", "hw.optional.avx512f": "AVX512"}

SMALL = 36 * GIB
SHARE_OF_SMALL, SHARE_OF_LARGE = 0.67, 0.75
"""Shares of the memory that Metal was seen to allow at least, on small and on large machines."""


class Mac(msgspec.Struct, frozen=True, kw_only=True):
    """A Mac."""

    cpu: Cpu
    memory: Memory
    system: System
    gpus: tuple[Gpu, ...]


def understand_mac(sysctl: str, profiler: str, vm_stat: str, metal: str) -> Mac:
    """Put together what the programs said; an empty text is a program that said nothing."""
    said = _pairs(sysctl)
    brand = said.get("machdep.cpu.brand_string")
    translated = said.get("sysctl.proc_translated")
    is_arm = said.get("hw.optional.arm64") == "1" or translated == "1" or (brand or "").startswith("Apple")
    total = whole(said.get("hw.memsize", "")) or None
    memory = Memory(
        total=total, available=_available(vm_stat), source="sysctl" + (", vm_stat" if vm_stat else "")
    )
    names = _ARM if is_arm else _X86
    known = [name for key, name in names.items() if said.get(key) == "1"]
    return Mac(
        cpu=Cpu(
            model=brand,
            architecture="aarch64" if is_arm else "x86_64" if brand else None,
            cores=whole(said.get("hw.physicalcpu", "")),
            threads=whole(said.get("hw.logicalcpu", "")),
            extensions=tuple(known) if known else None,
            source="sysctl",
        ),
        memory=memory,
        system=System(
            name=f"macOS {said['kern.osproductversion']}" if "kern.osproductversion" in said else "macOS",
            kernel=said.get("kern.osrelease"),
            machine=said.get("hw.model"),
            translated={"1": True, "0": False}.get(translated or "", False if is_arm else None),
            source="sysctl",
        ),
        gpus=_gpus(profiler, brand, memory, whole(metal), whole(said.get("iogpu.wired_limit_mb", "")))
        if brand
        else (),
    )


def _gpus(
    profiler: str, brand: str | None, memory: Memory, metal: int | None, wired: int | None
) -> tuple[Gpu, ...]:
    found = []
    for item in _displays(profiler):
        name = str(item.get("sppci_model") or item.get("_name") or "")
        if str(item.get("spdisplays_vendor", "")).endswith("Apple") or name.startswith("Apple"):
            found.append(_apple_gpu(name, whole(str(item.get("sppci_cores", ""))), memory, metal, wired))
    if not found and (brand or "").startswith("Apple"):
        # system_profiler is slow and may have been too late: the chip is known all the same.
        found.append(_apple_gpu(brand or "", None, memory, metal, wired))
    return tuple(found)


def _apple_gpu(name: str, cores: int | None, memory: Memory, metal: int | None, wired: int | None) -> Gpu:
    total = memory.total
    limit, source, estimated = metal or None, "Metal", False
    if limit is None and wired:
        limit, source = wired << 20, "iogpu.wired_limit_mb"
    if limit is None and total is not None:
        limit, source, estimated = (
            int(total * (SHARE_OF_SMALL if total <= SMALL else SHARE_OF_LARGE)),
            "estimate",
            True,
        )
    free = min(limit, memory.available) if limit is not None and memory.available is not None else None
    return Gpu(
        name=name,
        vendor="apple",
        kind="integrated",
        memory=limit,
        free=free,
        shared=True,
        cores=cores,
        estimated=estimated,
        source=f"system_profiler, {source}" if cores is not None else source,
    )


def _displays(profiler: str) -> list[dict[str, object]]:
    try:
        found = msgspec.json.decode(profiler, type=dict[str, list[dict[str, object]]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return found.get("SPDisplaysDataType", [])


def _pairs(sysctl: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in sysctl.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _available(vm_stat: str) -> int | None:
    page = re.search(r"page size of (\d{1,9}) bytes", vm_stat)
    if page is None:
        return None
    counts = dict(
        re.findall(r"^Pages (free|inactive|speculative|purgeable):\s+(\d{1,15})\.", vm_stat, re.MULTILINE)
    )
    return sum(map(int, counts.values())) * int(page[1]) if counts else None
