"""The processor: /proc/cpuinfo of x86 and Arm. Pure."""

from __future__ import annotations

import re

from hived.machine.hardware.texts import Texts, text, under
from hived_client.vocabulary.hardware import Cpu

_X86 = {
    "avx2": "AVX2",
    "f16c": "F16C",
    "fma": "FMA",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
}
_ARM = {
    "asimd": "NEON",
    "neon": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
    "sme": "SME",
}
"""Flags that the kernel names, to the names that the makers give them."""

_ARM_PARTS = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd85"): "Cortex-X925",
    ("0x41", "0xd87"): "Cortex-A725",
    ("0x61", "0x022"): "Apple M1",
    ("0x61", "0x023"): "Apple M1",
}
"""Implementer and part, which is all that Arm's cpuinfo tells of a model."""


def understand_cpu(texts: Texts) -> Cpu:
    """Read the processor from the kernel's files; what affinity and limits leave of it is not known here."""
    said = text(texts, "proc/cpuinfo")
    if not said:
        return Cpu()
    blocks = [_fields(block) for block in re.split(r"\n\s*\n", said)]
    processors = [block for block in blocks if "processor" in block]
    return Cpu(
        model=_model(texts, blocks),
        architecture=_architecture(processors),
        cores=_cores(texts, processors),
        threads=len(processors) or None,
        extensions=_extensions(processors),
        source="/proc/cpuinfo",
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _model(texts: Texts, blocks: list[dict[str, str]]) -> str | None:
    for block in blocks:
        if name := block.get("model name"):
            return re.sub(r"\s+", " ", name)
    parts = dict.fromkeys(
        _ARM_PARTS.get(
            (block["CPU implementer"], block["CPU part"]),
            f"Arm {block['CPU implementer']}/{block['CPU part']}",
        )
        for block in blocks
        if "CPU part" in block and "CPU implementer" in block
    )
    return " and ".join(parts) or None


def _architecture(processors: list[dict[str, str]]) -> str | None:
    first = processors[0] if processors else {}
    if "flags" in first:
        return "x86_64" if "lm" in first["flags"].split() else "x86"
    if "CPU architecture" in first:
        return "aarch64" if first["CPU architecture"] in ("8", "AArch64") else "arm"
    return None


def _cores(texts: Texts, processors: list[dict[str, str]]) -> int | None:
    """Count physical cores: by the ids that x86 gives, else by the groups of siblings in /sys."""
    ids = {
        (each["physical id"], each["core id"])
        for each in processors
        if "core id" in each and "physical id" in each
    }
    if ids:
        return len(ids)
    siblings = {
        said for _, said in under(texts, r"sys/devices/system/cpu/cpu\d+/topology/thread_siblings_list")
    }
    if siblings:
        return len(siblings)
    # Arm processors that can run two threads on a core are rare enough to be told by /sys where it is there.
    return len(processors) if any("CPU part" in each for each in processors) else None


def _extensions(processors: list[dict[str, str]]) -> tuple[str, ...] | None:
    """Return what every processor can: a program may be moved to the weakest."""
    sets = [set(said.split()) for each in processors if (said := each.get("flags") or each.get("Features"))]
    if not sets:
        return None
    flags = set.intersection(*sets)
    names = _X86 if any("flags" in each for each in processors) else _ARM
    return tuple(dict.fromkeys(name for flag, name in names.items() if flag in flags))
