"""One list of graphics cards from what several sources say of them, and what models will run on. Pure.

A card is told by its PCI address, then by its own number (UUID), then by its name. Each card is in the list
once, and its memory is never added to another's. Of two sources the one that asked the driver itself comes
first; a server's own list adds under which names it can be used, and a card that nobody else sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.hardware import Gpu, Hardware, RunsOn, Vendor

replace = msgspec.structs.replace

ALIKE = 0.15
"""Share by which the memory of one card differs at most between its driver and a server: some is reserved."""

MASKS: dict[Vendor, tuple[str, ...]] = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "intel": ("GGML_VK_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR"),
}
"""Variables that hide cards from programs; of an empty one no card is left."""

AMD_APUS = frozenset({"gfx1151"})
"""Processors' own graphics by AMD that servers use by default."""


_NO_NAMES = frozenset({"", "radeon", "device"})
"""What is left of names that a driver gives to a card that has none."""

GIVEN_AWAY = frozenset({"vfio-pci", "pci-stub"})
"""Drivers that hold a card for a virtual machine: no program here can use it."""


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known around the cards."""

    inside: str | None = None
    distribution: str = ""
    """The name of the system, by which its packages are called."""
    user: str = ""
    kfd: str = ""
    """``ok``, ``denied``; empty: there is no /dev/kfd."""
    render: str = ""
    """The same of the render devices; ``denied`` where one is."""
    denied: str = ""
    """The path of the one that may not be opened."""
    tegra_denied: str = ""
    """The path of a Jetson's graphics that may not be opened."""
    nvidia_error: str = ""
    """The word for why NVIDIA's driver does not answer as a whole."""
    nvidia_why: str = ""
    nvidia_failing: tuple[tuple[str | None, str], ...] = ()
    """Address of a card, and why it does not answer; without an address: some card."""
    nvidia_late: bool = False
    """Whether its driver took longer than it has; it may hang."""
    nvidia_unasked: bool = False
    """Whether nobody asked its driver, because a card sleeps."""
    nvidia_hurried: bool = False
    """Whether it was given so little time that it may be well, and slow to begin."""
    nvidia_devices: bool = False
    """Whether NVIDIA's device files are here."""
    too_old: bool = False
    """Whether llama-server said that the driver is too old for it."""
    listed_now: bool = True
    """Whether llama-server was asked just now, so that a card on its list is one that answers."""


def merge(sources: Iterable[Sequence[Gpu]]) -> tuple[Gpu, ...]:
    """Make one list, each card once. The sources come in the order in which they are believed."""
    found: list[Gpu] = []
    for gpus in sources:
        taken: set[tuple[int, str]] = set()
        for gpu in gpus:
            at = _find(found, gpu, taken)
            if at is None:
                found.append(gpu)
                at = len(found) - 1
            else:
                found[at] = _joined(found[at], gpu)
            taken.add((at, _backend(gpu)))
    return tuple(found)


def _find(found: Sequence[Gpu], gpu: Gpu, taken: set[tuple[int, str]]) -> int | None:
    """Return where a card is already. By name they are taken one to one, since twins have the same."""
    for at, known in enumerate(found):
        if known.kind == "slice" or gpu.kind == "slice":
            is_same = gpu.uuid is not None and gpu.uuid == known.uuid
        else:
            is_same = (gpu.pci is not None and gpu.pci == known.pci) or (
                gpu.uuid is not None and gpu.uuid == known.uuid
            )
        if is_same:
            return at
    free = [at for at in range(len(found)) if (at, _backend(gpu)) not in taken and _may_be(found[at], gpu)]
    # One that is called by its maker alone is the processor's own rather than a card, which has a name.
    return min(free, key=lambda at: (_is_nameless(gpu) and found[at].kind != "integrated", at), default=None)


def _may_be(known: Gpu, gpu: Gpu) -> bool:
    """Tell whether two that have no address and no number in common are one card, by name and memory."""
    if known.vendor != gpu.vendor or (known.kind == "slice") != (gpu.kind == "slice"):
        return False
    if (known.pci and gpu.pci) or (known.uuid and gpu.uuid):
        return False  # then they would have been found to be the same
    if not (_is_nameless(known) or _is_nameless(gpu) or _is_one_name(known.name or "", gpu.name or "")):
        return False
    if known.memory is None or gpu.memory is None or known.shared or known.kind == "integrated":
        return True  # of the machine's memory each backend counts another share
    return abs(known.memory - gpu.memory) <= ALIKE * known.memory


def _is_nameless(gpu: Gpu) -> bool:
    """Tell whether all that is said of a card is who made it (``AMD Radeon(TM) Graphics``)."""
    return gpu.name is None or _plain(gpu.name) in _NO_NAMES


def _is_one_name(one: str, other: str) -> bool:
    """Tell whether two names can be of one card: the list of PCI ids has a whole family's in one."""
    if _plain(one) == _plain(other):
        return True
    families = [name for name in (one, other) if "/" in name]
    numbers = [set(re.findall(r"\d{3,4}", name)) for name in (one, other)]
    return bool(families) and bool(numbers[0] & numbers[1])


def _plain(name: str) -> str:
    words = re.sub(r"\([^)]*\)", "", name.lower())
    words = re.sub(r"\b(nvidia|geforce|amd|intel|corporation|graphics|edition)\b", "", words)
    return re.sub(r"[^a-z0-9]+", "", words)


def _backend(gpu: Gpu) -> str:
    return re.sub(r"\d+$", "", gpu.backends[0]) if gpu.backends else ""


def _joined(first: Gpu, second: Gpu) -> Gpu:
    """Complete what the first says with what the second does."""
    filled = {
        name: getattr(second, name)
        for name in Gpu.__struct_fields__
        if getattr(first, name) in (None, "", ()) and name not in ("vendor", "shared", "source", "backends")
    }
    if first.memory is not None:
        filled.pop("estimated", None)
    if "/" in (first.name or "") and not _is_nameless(second) and "/" not in (second.name or ""):
        filled["name"] = second.name  # the one of the family
    return replace(
        first,
        **filled,
        backends=tuple(dict.fromkeys((*first.backends, *second.backends))),
        asleep=first.asleep or second.asleep,
        source=", ".join(dict.fromkeys([*_words(first.source), *_words(second.source)])),
    )


def _words(source: str) -> list[str]:
    return [word for word in source.split(", ") if word]


def judge(gpus: Sequence[Gpu], signs: Signs, environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Say of each card whether programs see it and models can run on it, and why not."""
    seen = _masked(gpus, environment)
    sliced = {gpu.whole for gpu in seen if gpu.kind == "slice"}
    return tuple(_judged(gpu, signs, sliced) for gpu in seen)


def _judged(gpu: Gpu, signs: Signs, sliced: set[str | None]) -> Gpu:
    problem = _fault_of(gpu, signs)
    if problem is not None and problem.code != "gpu.driver_old":
        return replace(gpu, fault=problem, usable=False)
    gpu = replace(gpu, fault=problem)  # a driver too old for one server: others bring what they need
    if gpu.driver in GIVEN_AWAY:
        return replace(gpu, usable=False)
    if gpu.usable and gpu.visible is not False:
        return gpu  # a server listed it
    if gpu.visible is False:
        return replace(gpu, usable=False)
    if gpu.sliced and gpu.kind != "slice":
        return replace(gpu, usable=False)
    match gpu.vendor:
        case "nvidia":
            usable = _nvidia_usable(gpu, signs)
        case "amd":
            can_compute = gpu.compute is not None and signs.kfd == "ok"
            usable = can_compute and (gpu.kind != "integrated" or gpu.compute in AMD_APUS)
        case "intel":
            usable = None if gpu.kind is None and gpu.asleep else gpu.kind == "discrete"
        case "apple":
            usable = True
        case _:
            usable = None
    return replace(gpu, usable=usable)


def _nvidia_usable(gpu: Gpu, signs: Signs) -> bool | None:
    # What only the list of PCI devices names has no driver of NVIDIA's, or one that nobody could ask.
    if gpu.memory is not None or gpu.compute is not None or (gpu.asleep and gpu.driver is not None):
        return True
    return None if (signs.nvidia_unasked and not gpu.asleep) or signs.nvidia_hurried else False


def _fault_of(gpu: Gpu, signs: Signs) -> Fault | None:
    name = gpu.name or {"nvidia": "the NVIDIA card", "amd": "the AMD card", "intel": "the Intel card"}.get(
        gpu.vendor, "the card"
    )
    if gpu.driver in GIVEN_AWAY:
        return None
    if gpu.vendor == "nvidia":
        return _nvidia_fault(gpu, name, signs)
    is_contained = signs.inside in ("docker", "podman") and not signs.kfd
    if gpu.vendor == "amd" and gpu.kind == "discrete" and is_contained and not gpu.backends:
        mend = f"{signs.inside} run --device /dev/kfd --device /dev/dri IMAGE"
        return fault("gpu.not_passed", gpu=name, mend=mend)
    if gpu.backends:
        return None  # a server reaches it, by whatever way
    if (gpu.vendor == "amd" and gpu.kind != "integrated") or gpu.compute in AMD_APUS:
        if signs.kfd == "denied":
            return fault("gpu.permission", path="/dev/kfd", user=signs.user, gpu=name)
        if signs.kfd == "ok" and signs.render == "denied":
            return fault("gpu.permission", path=signs.denied, user=signs.user, gpu=name)
    if gpu.vendor == "intel" and gpu.kind == "discrete" and signs.render == "denied":
        return fault("gpu.permission", path=signs.denied, user=signs.user, gpu=name)
    return None


def _nvidia_fault(gpu: Gpu, name: str, signs: Signs) -> Fault | None:
    failing = dict(signs.nvidia_failing)
    why = failing.get(gpu.pci) if gpu.pci is not None else None
    if why is not None:
        return fault("gpu.driver", gpu=name, why=why)
    is_jetson = gpu.kind == "integrated" and gpu.pci is None
    if is_jetson and signs.tegra_denied:
        return fault("gpu.permission", path=signs.tegra_denied, user=signs.user, gpu=name)
    if _answers(gpu, signs) and signs.too_old:
        mend = _install(signs.distribution)
        return fault("gpu.driver_old", gpu=name, version=gpu.driver, what="llama-server", mend=mend)
    if _answers(gpu, signs) or gpu.asleep:
        return None
    if signs.nvidia_hurried:
        return None  # the probe is said to be silent, which is all that is known
    if signs.nvidia_late:
        return fault("gpu.driver", gpu=name, why=signs.nvidia_why)
    if (
        signs.nvidia_error == "LIBRARY_NOT_FOUND"
        and signs.inside in ("docker", "podman")
        and not signs.nvidia_devices
    ):
        mend = {"podman": "podman run --device nvidia.com/gpu=all IMAGE"}.get(
            signs.inside, f"docker run {'--runtime nvidia' if is_jetson else '--gpus all'} IMAGE"
        )
        return fault("gpu.not_passed", gpu=name, mend=mend)
    if signs.nvidia_error:
        installed = _install(signs.distribution)
        mends = {"DRIVER_NOT_LOADED": "sudo modprobe nvidia", "LIBRARY_NOT_FOUND": installed}
        return fault("gpu.driver", gpu=name, why=signs.nvidia_why, mend=mends.get(signs.nvidia_error))
    return None


def _answers(gpu: Gpu, signs: Signs) -> bool:
    """Tell whether somebody asked the driver and was answered. An old list says nothing of one that died."""
    if gpu.compute is not None:
        return True
    is_dead = signs.nvidia_late or signs.nvidia_error not in ("", "LIBRARY_NOT_FOUND")
    return gpu.memory is not None and (signs.listed_now or not is_dead)


def _install(distribution: str) -> str | None:
    """Return the command that installs the driver, where the system's packages are known."""
    commands = {
        "Ubuntu": "sudo ubuntu-drivers install",
        "Mint": "sudo ubuntu-drivers install",
        "Debian": "sudo apt install nvidia-driver",
        "Fedora": "sudo dnf install akmod-nvidia",
        "Arch": "sudo pacman -Syu nvidia",
        "openSUSE": "sudo zypper install nvidia-driver-G06-kmp-default",
    }
    return next((command for name, command in commands.items() if name in distribution), None)


def runs_on(gpus: Sequence[Gpu] | None) -> RunsOn | None:
    """Return what inference will run on: the best way in which a card can be used."""
    if gpus is None:
        return None
    ways = {_way(gpu) for gpu in gpus if gpu.usable}
    order: tuple[RunsOn, ...] = ("CUDA", "ROCm", "Metal", "Vulkan/NVIDIA", "Vulkan/AMD", "Vulkan/Intel")
    return next((way for way in order if way in ways), "CPU")


def _way(gpu: Gpu) -> RunsOn | None:
    only_vulkan = bool(gpu.backends) and all(name.startswith("Vulkan") for name in gpu.backends)
    match gpu.vendor:
        case "nvidia":
            return "Vulkan/NVIDIA" if only_vulkan and gpu.compute is None else "CUDA"
        case "amd":
            by_kfd = gpu.compute is not None and (gpu.kind != "integrated" or gpu.compute in AMD_APUS)
            return "Vulkan/AMD" if only_vulkan and not by_kfd else "ROCm"
        case "apple":
            return "Metal"
        case "intel":
            return "Vulkan/Intel"
    return None


def troubles(gpus: Sequence[Gpu]) -> tuple[Fault, ...]:
    """Return what is wrong with the cards, each thing once."""
    found: dict[tuple[str, str], Fault] = {}
    for gpu in gpus:
        if gpu.fault is not None:
            found.setdefault((gpu.fault.code, gpu.fault.message), gpu.fault)
    return tuple(found.values())


def best_gpu(hardware: Hardware | None) -> Gpu | None:
    """Return the usable card with the most memory, which is what a model on the CPU could have had.

    A processor's own graphics comes last: its memory is the machine's, and no faster.
    """
    usable = [gpu for gpu in (hardware.gpus or () if hardware else ()) if gpu.usable]
    return max(usable, key=lambda gpu: (gpu.kind != "integrated", gpu.memory or 0), default=None)


def _masked(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    return [replace(gpu, visible=_visible(gpu, gpus, environment)) for gpu in map(_rested, gpus)]


def _rested(gpu: Gpu) -> Gpu:
    """Of a card that sleeps, what was true when it was awake is not said."""
    return replace(gpu, free=None, busy=None, processes=None, temperature=None) if gpu.asleep else gpu


def _visible(gpu: Gpu, gpus: Sequence[Gpu], environment: Mapping[str, str]) -> bool | None:
    for variable in MASKS.get(gpu.vendor, ()):
        mask = environment.get(variable)
        if mask is not None:
            verdict = _in_mask(gpu, gpus, mask, environment, variable)
            if verdict is not True:
                return verdict
    return True


def _in_mask(
    gpu: Gpu, gpus: Sequence[Gpu], mask: str, environment: Mapping[str, str], variable: str
) -> bool | None:
    """Tell whether a mask leaves a card. What comes after a word that means none is not read."""
    words = []
    for word in mask.split(","):
        if word.strip() in ("", "-1", "none", "void", "NoDevFiles"):
            break
        words.append(word.strip())
    if not words:
        return False
    if all(word.isascii() and word.isdigit() for word in words):
        if not _is_numbered_alone(gpu, gpus, environment, variable):
            return None
        same = [each for each in gpus if each.vendor == gpu.vendor and each.kind != "slice"]
        numbers = {int(word) for word in words}
        if numbers >= set(range(len(same))):
            return True
        # Numbers follow the speed of the cards unless they are told to follow the bus.
        if environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and len({each.name for each in same}) > 1:
            return None
        ordered = sorted(same, key=lambda each: each.pci or "")
        return any(at in numbers and each == gpu for at, each in enumerate(ordered))
    if not gpu.uuid:
        return None
    own = gpu.uuid.lower()
    starts = (own, own.removeprefix("gpu-"), f"gpu-{own}")  # the kernel writes AMD's without the first word
    return any(each.startswith(word.lower()) for word in words for each in starts)


def _is_numbered_alone(gpu: Gpu, gpus: Sequence[Gpu], environment: Mapping[str, str], variable: str) -> bool:
    """Tell whether a variable's numbers are those of this vendor's whole cards, each counted once."""
    if any(each.kind == "slice" for each in gpus if each.vendor == gpu.vendor):
        return False  # slices are counted instead, in an order that nobody tells
    if variable == "GGML_VK_VISIBLE_DEVICES":
        return all(each.vendor == gpu.vendor for each in gpus)  # it counts everybody's
    return (
        variable == "ROCR_VISIBLE_DEVICES" or "ROCR_VISIBLE_DEVICES" not in environment or gpu.vendor != "amd"
    )
