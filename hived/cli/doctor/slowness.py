"""Why answers are slow: models on the processor, files of Windows, memory that is short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hived.cli.doctor.findings import Finding, note, of_fault, ok, warn
from hived.decisions.machine_line import in_gib
from hived_client.vocabulary.faults import fault, quoted
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import Model, World
from hived_client.vocabulary.wsl import wsl_of

PRESSED = 10.0
"""Share of time, in percent, that something waits for memory, from which it is felt (PSI, ``some avg10``)."""
SWAPPED = 0.5
"""Share of the swap in use from which it is told, where memory is short too."""
SHORT = 0.05
"""Share of memory that is available, below which it is short."""

SHOW_GREATEST = "ps -eo rss,pid,comm --sort=-rss | head"


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of this machine, in bytes; ``None``: not known."""

    total: int | None = None
    available: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None
    pressure: float | None = None
    """Percent of the last 10 s in which some process waited for memory."""


class System(msgspec.Struct, frozen=True, kw_only=True):
    """What this system is, as far as it matters for speed."""

    memory: Memory = Memory()
    wsl: str = ""
    """``1`` or ``2``; empty: no WSL."""


def read_system(root: str = "/") -> System:
    """Read what the kernel says. Blocks; elsewhere than on Linux nothing is known."""
    texts = (_text(f"{root}proc/{name}") for name in ("meminfo", "pressure/memory", "version"))
    meminfo, pressure, kernel = texts
    return System(memory=read_meminfo(meminfo, pressure), wsl=wsl_of(kernel, {}))


def check_speed(world: World, system: System, gpu: str, models_folders: Iterable[str]) -> list[Finding]:
    """Judge all of it. Pure. ``gpu`` names what there is beside the processor; empty: nothing."""
    return [*_placement(world, gpu), *_windows(world, system.wsl, models_folders), *_memory(system.memory)]


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


def _placement(world: World, gpu: str) -> Iterator[Finding]:
    loaded = [
        (endpoint, model)
        for endpoint in world.endpoints
        for model in endpoint.models or ()
        if model.state == "loaded"
    ]
    for endpoint, model in loaded:
        kind = kind_named(endpoint.provider, world.kinds)
        yield _placed(model, f"{endpoint.name}/{model.name}", gpu, (kind.placement if kind else "") or None)
    if not loaded:
        yield ok("slow.models", "no model is loaded now")


def _placed(model: Model, name: str, gpu: str, placement: str | None) -> Finding:
    on_cpu = model.offload == 0.0 or (model.offload is None and model.device == "cpu")
    if on_cpu and gpu:
        return of_fault(fault("model.on_cpu", model=name, gpu=gpu, restart=placement), "warn")
    if on_cpu:
        return note("slow.cpu", f"{name} runs on the processor: no usable GPU is known here", brief=False)
    if model.offload is not None and model.offload < 1.0:
        share = f"{1.0 - model.offload:.0%}"
        return of_fault(fault("model.partly_on_cpu", share=share, model=name, placement=placement), "warn")
    where = (
        "is on the GPU as a whole"
        if model.offload is not None
        else "is loaded, and its server does not say where"
    )
    return ok("slow.models", f"{name} {where}")


def _windows(world: World, wsl: str, models_folders: Iterable[str]) -> Iterator[Finding]:
    if not wsl:
        return
    files = [model.file for endpoint in world.endpoints for model in endpoint.models or () if model.file]
    foreign = [path for path in (*files, *models_folders) if _is_of_windows(path)]
    for path in foreign[:3]:
        said = f"{path} lies on a drive of Windows, which WSL reads slowly"
        yield warn("slow.wsl", said, f"mkdir -p ~/models && cp -r {quoted(path)} ~/models/")
    if not foreign:
        yield ok("slow.wsl", "models lie on WSL's own disk, as far as is known")
    if wsl == "1":
        said = "this is WSL 1, which has no GPU"
        yield warn("slow.wsl1", said, "wsl.exe --set-version $WSL_DISTRO_NAME 2")


def _is_of_windows(path: str) -> bool:
    parts = path.split("/")
    return len(parts) > 3 and parts[:2] == ["", "mnt"] and len(parts[2]) == 1 and parts[2].isalpha()


def _memory(memory: Memory) -> Iterator[Finding]:
    if memory.total is None or memory.available is None:
        return
    said = f"{in_gib(memory.available)} of {in_gib(memory.total)} of memory available"
    is_short = memory.available < SHORT * memory.total
    if memory.pressure is not None and memory.pressure > PRESSED:
        waits = f"programs wait for memory {memory.pressure:.0f} % of the time; {said}"
        yield warn("slow.memory", waits, SHOW_GREATEST)
    elif is_short:
        yield warn("slow.memory", f"only {said}", SHOW_GREATEST)
    else:
        yield ok("slow.memory", said, brief=True)
    if memory.swap_total and memory.swap_free is not None:
        used = memory.swap_total - memory.swap_free
        line = f"{in_gib(used)} of {in_gib(memory.swap_total)} of swap in use"
        is_swapping = is_short and used > SWAPPED * memory.swap_total
        yield warn("slow.swap", line, SHOW_GREATEST) if is_swapping else ok("slow.swap", line)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(65_536).decode("utf-8", "replace")
    except OSError:
        return ""
