"""Why answers are slow: models on the processor, files of Windows, memory that is short. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hived.cli.doctor.findings import Finding, note, of_fault, ok, warn
from hived.cli.rendering import size
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import Endpoint, Model, World

PRESSED = 10.0
"""Share of time, in percent, that something waits for memory, from which it is felt (PSI, ``some avg10``)."""
SWAPPED = 0.5
"""Share of the swap in use from which it is told, where memory is short too."""
SHORT = 0.05
"""Share of memory that is available, below which it is short."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of this machine, in bytes; ``None``: not known."""

    total: int | None = None
    available: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None
    pressure: float | None = None
    """Percent of the last 10 s in which some process waited for memory."""


class SpeedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What may slow a model down."""

    world: World
    memory: Memory
    gpu: str = ""
    """What this machine has to compute with beside its processor; empty: nothing that is seen."""
    wsl: str = ""
    """``1`` or ``2``; empty: no WSL."""
    models_folders: tuple[str, ...] = ()


def check_speed(facts: SpeedFacts) -> list[Finding]:
    """Judge them."""
    return [*_placement(facts), *_windows(facts), *_memory(facts.memory)]


def read_meminfo(meminfo: str, pressure: str) -> Memory:
    """Read ``/proc/meminfo`` and ``/proc/pressure/memory`` (proc(5), the kernel's accounting/psi)."""
    sizes: dict[str, int] = {}
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    return Memory(
        total=sizes.get("MemTotal"),
        available=sizes.get("MemAvailable"),
        swap_total=sizes.get("SwapTotal"),
        swap_free=sizes.get("SwapFree"),
        pressure=_some_avg10(pressure),
    )


def _some_avg10(text: str) -> float | None:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["some"]:
            for word in words:
                if word.startswith("avg10="):
                    try:
                        return float(word.removeprefix("avg10="))
                    except ValueError:
                        return None
    return None


def _placement(facts: SpeedFacts) -> Iterator[Finding]:
    loaded = 0
    for endpoint in facts.world.endpoints:
        for model in endpoint.models or ():
            if model.state != "loaded":
                continue
            loaded += 1
            yield from _placed(facts, endpoint, model)
    if not loaded:
        yield ok("slow.models", "no model is loaded now")


def _placed(facts: SpeedFacts, endpoint: Endpoint, model: Model) -> Iterator[Finding]:
    name = f"{endpoint.name}/{model.name}"
    kind = kind_named(endpoint.provider, facts.world.kinds)
    placement = kind.placement if kind is not None and kind.placement else None
    on_cpu = model.offload == 0.0 or (model.offload is None and model.device == "cpu")
    if on_cpu and facts.gpu:
        yield of_fault(fault("model.on_cpu", model=name, gpu=facts.gpu, restart=placement), "warn")
    elif on_cpu:
        yield note("slow.cpu", f"{name} runs on the CPU: no GPU is seen here", brief=False)
    elif model.offload is not None and model.offload < 1.0:
        share = f"{1.0 - model.offload:.0%}"
        yield of_fault(fault("model.partly_on_cpu", share=share, model=name, placement=placement), "warn")
    elif model.offload is not None:
        yield ok("slow.models", f"{name} is on the GPU as a whole")
    else:
        yield ok("slow.models", f"where {name} runs is not told by its server")


def _windows(facts: SpeedFacts) -> Iterator[Finding]:
    if not facts.wsl:
        return
    files = [
        model.file for endpoint in facts.world.endpoints for model in endpoint.models or () if model.file
    ]
    foreign = [path for path in (*files, *facts.models_folders) if _is_of_windows(path)]
    for path in foreign[:3]:
        yield warn(
            "slow.wsl", f"{path} lies on a drive of Windows, which WSL reads slowly", "mkdir -p ~/models"
        )
    if not foreign:
        yield ok("slow.wsl", "models lie on WSL's own disk, as far as is known")
    if facts.wsl == "1":
        yield warn("slow.wsl1", "this is WSL 1, which has no GPU", "wsl.exe --set-version $WSL_DISTRO_NAME 2")


def _is_of_windows(path: str) -> bool:
    parts = path.split("/")
    return len(parts) > 3 and parts[:2] == ["", "mnt"] and len(parts[2]) == 1 and parts[2].isalpha()


def _memory(memory: Memory) -> Iterator[Finding]:
    if memory.total is None or memory.available is None:
        return
    said = f"{size(memory.available)} of {size(memory.total)} of memory available"
    is_short = memory.available < SHORT * memory.total
    if memory.pressure is not None and memory.pressure > PRESSED:
        yield warn(
            "slow.memory",
            f"programs wait for memory {memory.pressure:.0f} % of the time; {said}",
            "hived status",
        )
    elif is_short:
        yield warn("slow.memory", f"only {said}", "hived status")
    else:
        yield ok("slow.memory", said, brief=True)
    if memory.swap_total and memory.swap_free is not None:
        used = memory.swap_total - memory.swap_free
        line = f"{size(used)} of {size(memory.swap_total)} of swap in use"
        is_swapping = is_short and used > SWAPPED * memory.swap_total
        yield warn("slow.swap", line, "free -h") if is_swapping else ok("slow.swap", line)
