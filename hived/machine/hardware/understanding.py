"""One ``Hardware`` out of everything that was captured of a machine. Pure: no clock, no file, no program."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hived.decisions.gpus import GIVEN_AWAY, Signs, judge, merge, runs_on, troubles
from hived.machine.hardware.amd import understand_amd
from hived.machine.hardware.bandwidth_table import Row, with_bandwidth
from hived.machine.hardware.cpu import understand_cpu
from hived.machine.hardware.devices import Listed, understand_devices
from hived.machine.hardware.intel import understand_intel
from hived.machine.hardware.limits import Limits, understand_limits
from hived.machine.hardware.memory import understand_memory
from hived.machine.hardware.nvidia import (
    TEGRA_FILES,
    WHY,
    Said,
    loaded_driver,
    understand_proc,
    understand_tegra,
)
from hived.machine.hardware.nvidia_smi import FIELDS, understand_slices, understand_smi, with_processes
from hived.machine.hardware.nvml import understand_nvml
from hived.machine.hardware.pci import PciDevice, shown_name, understand_pci
from hived.machine.hardware.power import understand_pmset, understand_power
from hived.machine.hardware.system import understand_system
from hived.machine.hardware.texts import text, under
from hived_client.vocabulary.hardware import Cpu, Gpu, Hardware, Memory, Probe, ProbeState

replace = msgspec.structs.replace


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """How one question to a program, or to the files, came out."""

    state: ProbeState
    out: str = ""
    """What it printed, complaints too."""
    why: str = ""
    seconds: float | None = None
    left: int | None = None
    """The process that could not even be ended."""

    @property
    def is_answer(self) -> bool:
        """Tell whether it came back, well or not."""
        return self.state in ("ok", "failed")


NOBODY = Reply(state="absent")

LONGEST_NAME = 100
"""Characters of a card's name that are kept, whoever told it."""


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was captured of a machine at one moment."""

    darwin: bool = False
    system: dict[str, str] = {}
    """The kernel's files about processor, memory, power."""
    cards: dict[str, str] = {}
    """The kernel's files about graphics, and which device files may be opened."""
    replies: dict[str, Reply] = {}
    """By the name of the probe."""
    smi_fields: tuple[str, ...] = FIELDS
    affinity: int | None = None
    """Processors that this program may run on."""
    inside: str | None = None
    user: str = ""
    environment: dict[str, str] = {}
    """Variables that hide cards."""
    listed_now: bool = True
    """Whether llama-server was asked at this moment; else its list is of an earlier one."""
    hurried: bool = False
    """Whether a question had less time than a driver may take that was not loaded yet."""
    at: float | None = None

    def out(self, name: str) -> str:
        """Return what a program printed; empty where it did not answer."""
        reply = self.replies.get(name, NOBODY)
        return reply.out if reply.is_answer else ""


def understand(captured: Captured, table: Sequence[Row] = ()) -> Hardware:
    """Make one ``Hardware``. ``table``: what is known of the bandwidth of cards."""
    return _mac(captured, table) if captured.darwin else _linux(captured, table)


def _mac(captured: Captured, table: Sequence[Row]) -> Hardware:
    from hived.machine.hardware.apple import understand_mac  # not into the memory of every other system

    mac = understand_mac(
        captured.out("sysctl"),
        captured.out("system_profiler"),
        captured.out("vm_stat"),
        captured.out("metal"),
    )
    listed = _listed(captured)
    gpus = _finished(merge([mac.gpus, listed.gpus]), Signs(), captured, table)
    return _whole(
        captured,
        cpu=replace(mac.cpu, usable=float(mac.cpu.threads) if mac.cpu.threads else None),
        memory=mac.memory,
        hardware=Hardware(
            cpu=mac.cpu,
            memory=mac.memory,
            system=mac.system,
            power=understand_pmset(captured.out("pmset")),
            gpus=gpus if gpus or captured.out("system_profiler") else None,
        ),
    )


def _linux(captured: Captured, table: Sequence[Row]) -> Hardware:
    limits = understand_limits(captured.system)
    cpu = _cpu(captured, limits)
    memory = understand_memory(captured.system, limits)
    devices = understand_pci(captured.cards)
    said = _nvidia(captured, memory)
    listed = _listed(captured)
    sources = [
        said.gpus,
        understand_slices(captured.out("nvidia-smi -L"), captured.out("nvidia-smi -q -x"), said.gpus),
        understand_proc(captured.cards),
        understand_tegra(captured.cards, memory, captured.inside),
        understand_amd(captured.cards, devices, memory, cpu.model),
        understand_intel(captured.cards, devices),
        [_bare(device) for device in devices if device.vendor != "other"],
        listed.gpus,
    ]
    gpus = merge(sources)
    signs = _signs(captured, said, listed)
    if (
        not gpus
        and signs.nvidia_why
        and (signs.nvidia_devices or text(captured.cards, "proc/driver/nvidia/version"))
    ):
        # Something of NVIDIA's is here, and nobody can say what.
        gpus = (Gpu(vendor="nvidia", driver=loaded_driver(captured.cards), source="/dev"),)
    gpus = _finished(gpus, signs, captured, table, memory.total)
    system = understand_system(captured.system, captured.inside)
    return _whole(
        captured,
        cpu=cpu,
        memory=memory,
        hardware=Hardware(
            cpu=cpu,
            memory=memory,
            system=system,
            power=understand_power(captured.system),
            gpus=gpus if gpus or _could_tell(captured) else None,
        ),
    )


def _listed(captured: Captured) -> Listed:
    """Return what llama-server listed; of an earlier moment, what was free then is not said."""
    listed = understand_devices(captured.out("llama-server"))
    if captured.listed_now:
        return listed
    return replace(listed, gpus=tuple(replace(gpu, free=None) for gpu in listed.gpus))


def _cpu(captured: Captured, limits: Limits) -> Cpu:
    cpu = understand_cpu(captured.system)
    bounds = [captured.affinity, limits.cpuset, limits.processors, cpu.threads]
    known = [float(each) for each in bounds if each]
    return replace(cpu, usable=min(known) if known else None, quota=limits.processors)


def _nvidia(captured: Captured, memory: Memory) -> Said:
    """Return what the best of NVIDIA's own ways came to."""
    nvml = captured.replies.get("nvml", NOBODY)
    said = understand_nvml(nvml.out, memory) if nvml.is_answer else Said(error=_late_word(nvml))
    if said.gpus or (said.failing and not said.error):
        return said
    smi = captured.replies.get("nvidia-smi", NOBODY)
    if not smi.is_answer:
        return said if smi.state == "absent" else Said(error=_late_word(smi))
    other = understand_smi(smi.out, captured.smi_fields, memory)
    if (processes := captured.replies.get("nvidia-smi processes", NOBODY)).state == "ok":
        other = replace(other, gpus=with_processes(other.gpus, processes.out))
    return other if other.gpus or said.error in ("", "LIBRARY_NOT_FOUND", "NO_BINDINGS") else said


def _late_word(reply: Reply) -> str:
    return "" if reply.state in ("absent", "asleep") else "TIMEOUT"


def _signs(captured: Captured, said: Said, listed: Listed) -> Signs:
    nvml, smi = captured.replies.get("nvml", NOBODY), captured.replies.get("nvidia-smi", NOBODY)
    late = next(
        (name for name, each in (("nvidia-smi", smi), ("NVML", nvml)) if each.state in ("late", "stuck")), ""
    )
    renders = {match[0]: state for match, state in under(captured.cards, r"access/(dev/dri/renderD\d+)")}
    denied = next((path.removeprefix("access") for path, state in renders.items() if state == "denied"), "")
    tegra = [f"/{path}" for path in TEGRA_FILES if text(captured.cards, f"access/{path}") == "denied"]
    error = said.error if said.error not in ("", "NO_BINDINGS") else ""
    if not error and said.error == "NO_BINDINGS":
        error = "LIBRARY_NOT_FOUND"
    return Signs(
        inside=captured.inside,
        distribution=understand_system(captured.system).name or "",
        user=captured.user,
        kfd=text(captured.cards, "access/dev/kfd"),
        render="denied" if denied else "ok" if renders else "",
        denied=denied,
        tegra_denied=tegra[0] if tegra else "",
        nvidia_error=error,
        nvidia_why=f"{late} did not come back within its time" if late else WHY.get(error, error),
        nvidia_failing=tuple((address, WHY.get(word, word)) for address, word in said.failing),
        nvidia_late=bool(late),
        nvidia_unasked=nvml.state == "asleep",
        nvidia_hurried=captured.hurried and "late" in (nvml.state, smi.state),
        nvidia_devices=any(
            f"access/dev/{name}" in captured.cards for name in ("nvidiactl", "nvidia0", "dxg")
        ),
        too_old=listed.too_old,
        listed_now=captured.listed_now,
    )


def _bare(device: PciDevice) -> Gpu:
    """Say of a card what the bus does: that it is there."""
    return Gpu(
        name=shown_name(device),
        vendor=device.vendor,
        pci=device.address,
        driver=device.driver if device.vendor != "nvidia" or device.driver in GIVEN_AWAY else None,
        asleep=device.asleep,
        source="/sys/bus/pci",
    )


def _finished(
    gpus: Sequence[Gpu], signs: Signs, captured: Captured, table: Sequence[Row], machine: int | None = None
) -> tuple[Gpu, ...]:
    named = [replace(gpu, name=gpu.name[:LONGEST_NAME]) if gpu.name else gpu for gpu in gpus]
    judged = judge(named, signs, captured.environment)
    return tuple(replace(with_bandwidth(table, gpu, machine), observed_at=captured.at) for gpu in judged)


def _could_tell(captured: Captured) -> bool:
    """Tell whether a card would have been seen, so that none seen is none there."""
    files = captured.replies.get("cards", NOBODY)
    return files.state == "ok" and not any(
        each.state in ("late", "stuck")
        for name, each in captured.replies.items()
        if name in ("nvml", "nvidia-smi")
    )


def _whole(captured: Captured, *, cpu: Cpu, memory: Memory, hardware: Hardware) -> Hardware:
    at = captured.at
    return replace(
        hardware,
        runs_on=runs_on(hardware.gpus),
        cpu=replace(cpu, observed_at=at),
        memory=replace(memory, observed_at=at),
        system=replace(hardware.system, observed_at=at),
        power=replace(hardware.power, observed_at=at) if hardware.power else None,
        problems=troubles(hardware.gpus or ()),
        probes=tuple(
            Probe(name=name, state=each.state, why=each.why, seconds=each.seconds, at=at)
            for name, each in captured.replies.items()
            if each.state != "absent"
        ),
        observed_at=at,
        moved_at=at,
    )
