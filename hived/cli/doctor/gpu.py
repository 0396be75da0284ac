"""What this machine computes with beside its processor, as far as its device files tell: nothing is run.

A driver that hangs would hang whoever asked it. What the cards are, and how much memory they have, is not
looked at here.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping

import msgspec

from hived.cli.doctor.findings import Finding, note, of_fault, ok
from hived.machine.owners import user_name
from hived_client.vocabulary.faults import fault


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device file through which programs compute."""

    path: str
    is_ours: bool
    """Whether this user may open it."""


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is there."""

    devices: tuple[Device, ...] = ()
    tools: tuple[str, ...] = ()
    """Where ``nvidia-smi`` and ``rocm-smi`` are."""
    user: str = ""
    is_apple: bool = False


def read_gpu(environment: Mapping[str, str], root: str = "/") -> GpuFacts:
    """Look for devices below a folder that is taken for ``/``. Blocks; opens none of them."""
    names = ["nvidiactl", "kfd", "dxg", *sorted(_names(f"{root}dev/dri"))]
    paths = [f"{root}dev/{name}" for name in names]
    tools = (shutil.which(name, path=environment.get("PATH", "")) for name in ("nvidia-smi", "rocm-smi"))
    return GpuFacts(
        devices=tuple(
            Device(path=path, is_ours=os.access(path, os.R_OK | os.W_OK))
            for path in paths
            if os.path.exists(path)
        ),
        tools=tuple(tool for tool in tools if tool is not None),
        user=user_name(os.getuid()),
        is_apple=sys.platform == "darwin" and platform.machine() == "arm64",
    )


def named(facts: GpuFacts) -> str:
    """Name what models can run on; empty where nothing but a processor is certain. Pure.

    A device of the display alone (``/dev/dri``) may be that of a card without any use for models.
    """
    if facts.is_apple:
        return "an Apple GPU"
    kinds = {"nvidiactl": "an NVIDIA GPU", "kfd": "an AMD GPU", "dxg": "a GPU of Windows"}
    found = (kinds.get(os.path.basename(each.path), "") for each in facts.devices)
    return next(filter(None, found), "")


def check_gpu(facts: GpuFacts) -> list[Finding]:
    """Judge it. Pure."""
    return list(_findings(facts))


def _findings(facts: GpuFacts) -> Iterator[Finding]:
    for device in facts.devices:
        closed = fault("gpu.permission", path=device.path, user=facts.user)
        is_sure = not os.path.basename(device.path).startswith("renderD")
        if not device.is_ours:
            yield of_fault(closed, "warn" if is_sure else "note")
    tools = {os.path.basename(tool) for tool in facts.tools}
    has_nvidia = any(device.path.endswith("nvidiactl") for device in facts.devices)
    if has_nvidia and "nvidia-smi" not in tools:
        yield note("gpu.tools", "there is an NVIDIA GPU, and no nvidia-smi on PATH", "ls -l /dev/nvidia*")
    gpu = named(facts)
    paths = ", ".join((*(device.path for device in facts.devices if device.is_ours), *facts.tools))
    if gpu:
        yield ok("gpu.found", f"this machine has {gpu}{f' ({paths})' if paths else ''}", brief=True)
    elif facts.devices:
        yield ok("gpu.found", f"no GPU but that of the display is seen ({paths or 'closed to this user'})")
    else:
        yield ok("gpu.found", "no GPU is seen here: models run on the processor")


def _names(folder: str) -> list[str]:
    try:
        return [f"dri/{name}" for name in os.listdir(folder) if name.startswith("renderD")]
    except OSError:
        return []
