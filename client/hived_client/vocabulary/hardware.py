"""What this machine is: processor, memory, graphics cards, and what models will run on.

Each group of facts names its source and when it was observed. ``None`` means unknown, never nothing: a
card whose memory nobody tells has ``memory=None``, and a machine that was looked at and has no card has
``gpus=()``. Bytes, seconds since the epoch, shares from 0 to 1, bytes a second.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hived_client.vocabulary.faults import Fault

RunsOn = Literal["CUDA", "ROCm", "Metal", "Vulkan/NVIDIA", "Vulkan/AMD", "Vulkan/Intel", "CPU"]
"""Vulkan on a card by NVIDIA or AMD: only where a server lists it so, and nothing better is there."""
Vendor = Literal["nvidia", "amd", "intel", "apple", "other"]
GpuKind = Literal["discrete", "integrated", "slice"]
"""``integrated``: it works in the memory of the machine. ``slice``: a part of a card (MIG)."""
ProbeState = Literal["ok", "absent", "late", "stuck", "failed", "asleep"]
"""``late``: ended because its time was over. ``stuck``: it could not even be ended, the kernel holds it."""


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How fast memory is read and written, together: between these two, which are equal where it is known."""

    low: float
    high: float
    source: str
    """``measured``, ``clock and bus width``, or ``table``."""
    observed_at: float | None = None
    note: str = ""
    """What does not fit together: that the table says something else, say."""


class Cpu(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The processor, and how much of it this system may use."""

    model: str | None = None
    architecture: str | None = None
    cores: int | None = None
    """Physical ones, of the whole machine."""
    threads: int | None = None
    """What the system counts as processors."""
    usable: float | None = None
    """Of these, what affinity and quota leave; 1.5 is one and a half."""
    quota: float | None = None
    """Processors that a container's limit allows; ``None``: no limit is known."""
    extensions: tuple[str, ...] | None = None
    """Vector extensions that matter to inference (``AVX2``, ``AVX512-VNNI``, ``AMX-INT8``, ``NEON``)."""
    source: str = ""
    observed_at: float | None = None


class NumaNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Memory that is nearer to some processors than to others."""

    number: int
    memory: int | None = None
    processors: int | None = None


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine's own memory."""

    total: int | None = None
    """Of the machine."""
    available: int | None = None
    """What programs here can still have, within every limit; cache that can be given back counts."""
    limit: int | None = None
    """What a container may use at most; ``None``: no limit is known."""
    swap: int | None = None
    numa: tuple[NumaNode, ...] = ()
    bandwidth: Bandwidth | None = None
    source: str = ""
    observed_at: float | None = None

    @property
    def usable(self) -> int | None:
        """Return what programs here can have at most."""
        known = [each for each in (self.total, self.limit) if each is not None]
        return min(known) if known else None


class Power(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the machine runs on."""

    mains: bool | None = None
    charge: float | None = None
    source: str = ""
    observed_at: float | None = None


class System(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The operating system, and what is around it."""

    name: str | None = None
    kernel: str | None = None
    machine: str | None = None
    """The model of the computer, where it tells (``Mac15,9``, ``Raspberry Pi 5 Model B Rev 1.0``)."""
    inside: str | None = None
    """``docker``, ``podman`` or ``wsl``: the network of the machine around it is another one."""
    wsl: bool = False
    translated: bool | None = None
    """Whether this program runs under Rosetta."""
    source: str = ""
    observed_at: float | None = None


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A program that holds memory of a card."""

    pid: int
    memory: int | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a card is connected (PCI Express); what it has now is less while it idles."""

    generation: int | None = None
    width: int | None = None
    most_generation: int | None = None
    most_width: int | None = None


class Gpu(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One card, or one slice of one, once: however many programs tell of it."""

    name: str | None = None
    vendor: Vendor
    kind: GpuKind | None = None
    pci: str | None = None
    """``0000:01:00.0``, in lower case."""
    uuid: str | None = None
    whole: str | None = None
    """Of a slice: the address of the card that it is a part of."""
    backends: tuple[str, ...] = ()
    """Names under which a server lists it (``CUDA0``, ``Vulkan0``)."""
    memory: int | None = None
    """What models can have of it at most. Of an integrated one: a share of the machine's memory."""
    free: int | None = None
    shared: bool = False
    """Whether its memory is the machine's own, and must not be counted twice."""
    processes: tuple[GpuProcess, ...] | None = None
    compute: str | None = None
    """What it can be compiled for: a compute capability (``8.9``), a target (``gfx1151``)."""
    cores: int | None = None
    driver: str | None = None
    runtime: str | None = None
    """The newest CUDA that its driver knows."""
    bandwidth: Bandwidth | None = None
    link: Link | None = None
    nvlinks: int | None = None
    """Links to other cards that are up."""
    sliced: bool | None = None
    """Whether it is divided into slices (MIG), so that it cannot be used as a whole."""
    busy: float | None = None
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    """Why it runs slower than it could just now; ``()``: it does not."""
    asleep: bool = False
    """Whether it was left asleep: what is said of it was known before or stands in its files."""
    visible: bool | None = None
    """Whether programs that are started here see it; ``None``: whom a mask means is not known."""
    usable: bool | None = None
    """Whether models can run on it; ``None``: not known."""
    estimated: bool = False
    """Whether ``memory`` is a rule of thumb."""
    fault: Fault | None = None
    """Why not."""
    source: str = ""
    """Who told, the most telling first: ``nvml, llama-server``."""
    observed_at: float | None = None


class Loaded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a server on this device says that one loaded model holds, to a ten-thousandth.

    It is part of what is in use of a card or of the machine, and must not be added to that.
    """

    endpoint: str
    model: str
    graphics: int
    """Bytes on graphics cards, on all of them together: which one, no server tells."""
    machine: int
    """Bytes of the machine's memory."""


class Probe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one way of asking fared."""

    name: str
    state: ProbeState
    why: str = ""
    seconds: float | None = None
    at: float | None = None
    failures: int = 0
    """How often in a row it did not answer; it is asked ever less often."""


class Hardware(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """This machine."""

    runs_on: RunsOn | None = None
    """What inference will run on, as far as the machine decides that."""
    cpu: Cpu
    memory: Memory
    system: System
    power: Power | None = None
    gpus: tuple[Gpu, ...] | None = None
    """``None``: nobody could tell whether there are any."""
    loaded: tuple[Loaded, ...] | None = None
    """What servers say that their models hold; ``None``: none was asked. In the World its models tell it."""
    problems: tuple[Fault, ...] = ()
    probes: tuple[Probe, ...] = ()
    observed_at: float | None = None
    """When what does not change was looked at."""
    moved_at: float | None = None
    """When what moves (free memory, use) was looked at last."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the machine's facts."""

    again: bool = False
    """Look at everything again, also at what does not change."""
    bandwidth: bool = False
    """Measure the memory's bandwidth, if nobody has yet."""
