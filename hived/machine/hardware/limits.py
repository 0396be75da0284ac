"""What a container, or any control group, leaves of memory and processors: cgroup v1 and v2. Pure.

A group is limited by every group around it, so all of them are read, from our own up to the root. Inside a
container ``/sys/fs/cgroup`` is that container's own root, although ``/proc/self/cgroup`` may name a path that
cannot be seen from here; the root itself is therefore always among those that are read.

Page cache counts as used in ``memory.current``, and is given back when a program needs the room: what is used
here is without ``inactive_file``.
"""

from __future__ import annotations

import re

import msgspec

from hived.machine.hardware.texts import Texts, number, text, whole

NO_LIMIT = 2**60
"""More than this is cgroup v1's way of saying that there is no limit."""

ROOT = "sys/fs/cgroup"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is left by all groups together; ``None``: no limit is known."""

    memory: int | None = None
    free: int | None = None
    """Bytes that the tightest group still has."""
    processors: float | None = None
    """By quota."""
    cpuset: int | None = None
    """By the list of processors."""
    source: str = ""


def understand_limits(texts: Texts) -> Limits:
    """Read the limits on this program."""
    memory: list[tuple[int, int | None]] = []
    quotas: list[float] = []
    sets: list[int] = []
    sources: dict[str, None] = {}
    for folder in _folders(texts, ""):
        limit = _v2_limit(texts, f"{folder}/memory.max")
        if limit is not None:
            memory.append((limit, _used(texts, f"{folder}/memory.current", folder)))
            sources["cgroup v2"] = None
        if (quota := _v2_quota(text(texts, f"{folder}/cpu.max"))) is not None:
            quotas.append(quota)
            sources["cgroup v2"] = None
        if (processors := count_list(text(texts, f"{folder}/cpuset.cpus.effective"))) is not None:
            sets.append(processors)
    for folder in _folders(texts, "memory"):
        limit = number(texts, f"{folder}/memory.limit_in_bytes")
        if limit is not None and limit < NO_LIMIT:
            memory.append((limit, _used(texts, f"{folder}/memory.usage_in_bytes", folder)))
            sources["cgroup v1"] = None
    for folder in (*_folders(texts, "cpu"), *_folders(texts, "cpu,cpuacct")):
        if (quota := _v1_quota(texts, folder)) is not None:
            quotas.append(quota)
            sources["cgroup v1"] = None
    for folder in _folders(texts, "cpuset"):
        if (processors := count_list(text(texts, f"{folder}/cpuset.cpus"))) is not None:
            sets.append(processors)
    free = [limit - used for limit, used in memory if used is not None]
    return Limits(
        memory=min((limit for limit, _ in memory), default=None),
        free=max(0, min(free)) if free else None,
        processors=min(quotas, default=None),
        cpuset=min(sets, default=None),
        source=" and ".join(sources),
    )


def wanted_files(cgroup: str) -> list[str]:
    """Return the files that ``understand_limits`` reads, for what /proc/self/cgroup says."""
    texts = {"proc/self/cgroup": cgroup}
    names = {
        "": ("memory.max", "memory.current", "memory.stat", "cpu.max", "cpuset.cpus.effective"),
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
        "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
        "cpu,cpuacct": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
        "cpuset": ("cpuset.cpus",),
    }
    return [
        f"{folder}/{name}"
        for controller, files in names.items()
        for folder in _folders(texts, controller)
        for name in files
    ]


def count_list(said: str) -> int | None:
    """Count a list of processors (``0-3,8``); ``None`` for an empty or a broken one."""
    total = 0
    for part in said.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = whole(first), whole(last if dash else first)
        if low is None or high is None or high < low:
            return None
        total += high - low + 1
    return total


def _folders(texts: Texts, controller: str) -> list[str]:
    """Return where a controller's files are, from our own group to the root. ``""``: version 2."""
    base = f"{ROOT}/{controller}" if controller else ROOT
    own = _own_path(text(texts, "proc/self/cgroup"), controller)
    parts = [part for part in own.split("/") if part and part != ".."]
    paths = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    found = [f"{base}/{path}" for path in paths]
    # Where both versions are mounted, version 2 has a folder of its own.
    bases = [base] if controller else [base, f"{ROOT}/unified"]
    if not controller:
        found += [f"{ROOT}/unified/{path}" for path in paths]
    return [*found, *bases]


def _own_path(said: str, controller: str) -> str:
    for line in said.splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        wanted = set(controller.split(",")) if controller else {""}
        if wanted <= set(fields[1].split(",")) and (controller or fields[0] == "0"):
            return fields[2]
    return ""


def _used(texts: Texts, path: str, folder: str) -> int | None:
    used = number(texts, path)
    if used is None:
        return None
    stat = text(texts, f"{folder}/memory.stat")
    # Version 1 counts what lies below under another name.
    names = r"total_inactive_file" if "total_inactive_file" in stat else r"inactive_file"
    cache = re.search(rf"^{names} (\d{{1,18}})$", stat, re.MULTILINE)
    return max(0, used - int(cache[1])) if cache else used


def _v2_limit(texts: Texts, path: str) -> int | None:
    said = text(texts, path)
    return None if said == "max" else whole(said)


def _v2_quota(said: str) -> float | None:
    fields = said.split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return _share(whole(fields[0]), whole(fields[1]))


def _v1_quota(texts: Texts, folder: str) -> float | None:
    # -1 means that there is none, and is no number to `number`.
    return _share(number(texts, f"{folder}/cpu.cfs_quota_us"), number(texts, f"{folder}/cpu.cfs_period_us"))


def _share(quota: int | None, period: int | None) -> float | None:
    return quota / period if quota and period else None
