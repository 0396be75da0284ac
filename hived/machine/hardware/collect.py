"""Read the kernel's files about this machine, as they are. Only the standard library; also a program.

``python -m hived.machine.hardware.collect ROOT`` prints the files about graphics as JSON, by a process of its
own: reading a file under /sys can wait for a driver that hangs, and nobody can end whoever waits there. A
card that sleeps is not woken: of it only those files are read that its driver answers from memory.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator

MOST_FILES = 8192
MOST_BYTES = 65_536
"""Of one file."""
MOST_CPUINFO = 4_194_304
"""Of /proc/cpuinfo, which has a paragraph for each of hundreds of processors."""

SYSTEM = (
    *("proc/cpuinfo", "proc/meminfo", "proc/version", "proc/self/cgroup", "proc/device-tree/model"),
    *("etc/os-release", "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"),
    *("sys/devices/system/node/node*/meminfo", "sys/devices/system/node/node*/cpulist"),
    "sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list",
)
MOVING = ("proc/meminfo", "proc/self/cgroup")
POWER = tuple(
    f"sys/class/power_supply/*/{name}" for name in ("type", "online", "status", "capacity", "scope")
)

_DISPLAYS = ("0x0300", "0x0302", "0x0380", "0x1200")
_PCI_FILES = ("class", "vendor", "device", "uevent", "power/runtime_status")
_ASLEEP_FILES = ("vendor", "uevent", "product_name", "mem_info_vram_total", "mem_info_gtt_total")
_AWAKE_FILES = (
    *("mem_info_vram_used", "mem_info_gtt_used", "mem_info_vis_vram_total", "mem_info_vram_vendor"),
    *("board_info", "gpu_busy_percent", "unique_id", "current_link_speed", "current_link_width"),
    *("max_link_speed", "max_link_width", "tile*/physical_vram_size_bytes"),
)
_ACCESS = (
    *("dev/kfd", "dev/dri/renderD*", "dev/nvidiactl", "dev/dxg", "dev/nvidia0"),
    *("dev/nvhost-ctrl-gpu", "dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl"),
)
_ID_LISTS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")


def main() -> None:
    """Print the files about graphics."""
    json.dump(collect_cards(sys.argv[1] if len(sys.argv) > 1 else "/"), sys.stdout)


def collect(root: str, patterns: Iterable[str]) -> dict[str, str]:
    """Read the files that match, by their paths below ``root``; what cannot be read is left out."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in _matching(root, pattern):
            if len(found) >= MOST_FILES:
                return found
            said = _read(os.path.join(root, path), MOST_CPUINFO if path == "proc/cpuinfo" else MOST_BYTES)
            if said is not None:
                found[path] = said
    return found


def collect_cards(root: str) -> dict[str, str]:
    """Read what there is about graphics."""
    found: dict[str, str] = {}
    asleep = set()
    for path in _matching(root, "sys/bus/pci/devices/*/class"):
        folder = os.path.dirname(path)
        kind = _read(os.path.join(root, path), 64) or ""
        if kind.startswith(_DISPLAYS):
            found |= collect(root, [f"{folder}/{name}" for name in _PCI_FILES])
            if found.get(f"{folder}/power/runtime_status", "").strip() in ("suspended", "suspending"):
                asleep.add(os.path.basename(folder))
    for card in _matching(root, "sys/class/drm/card[0-9]*"):
        if "-" in os.path.basename(card):
            continue  # a connector of a card
        found |= collect(root, [f"{card}/device/{name}" for name in _ASLEEP_FILES])
        uevent = found.get(f"{card}/device/uevent", "")
        if not any(f"PCI_SLOT_NAME={address}" in uevent for address in asleep):
            found |= collect(root, [f"{card}/device/{name}" for name in _AWAKE_FILES])
            found |= collect(root, [f"{card}/lmem_total_bytes", f"{card}/lmem_avail_bytes"])
    found |= collect(root, ["sys/class/kfd/kfd/topology/nodes/*/properties"])
    found |= collect(root, ["proc/driver/nvidia/version", "proc/driver/nvidia/gpus/*/information"])
    found |= collect(root, ["etc/nv_tegra_release", "proc/device-tree/compatible"])
    found |= _access(root)
    return found | _names(root, found)


def _access(root: str) -> dict[str, str]:
    """Say of each device file whether we may open it, without opening it: that would wake the card."""
    return {
        f"access/{path}": "ok" if os.access(os.path.join(root, path), os.R_OK | os.W_OK) else "denied"
        for pattern in _ACCESS
        for path in _matching(root, pattern)
    }


def _names(root: str, found: dict[str, str]) -> dict[str, str]:
    """Look the devices up in the list of PCI ids, which is long and read only for that."""
    wanted: dict[str, set[str]] = {}
    for path, vendor in found.items():
        if path.startswith("sys/bus/pci/devices/") and path.endswith("/vendor"):
            device = found.get(f"{path.removesuffix('vendor')}device", "")
            wanted.setdefault(vendor.strip().removeprefix("0x"), set()).add(device.strip().removeprefix("0x"))
    for path in _ID_LISTS if wanted else ():
        try:
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as lines:
                return dict(_look_up(lines, wanted))
        except OSError:
            continue
    return {}


def _look_up(lines: Iterable[str], wanted: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    vendor = ""
    for line in lines:
        if line[:1] not in ("\t", "#", "\n"):
            vendor = line[:4]
        elif vendor in wanted and line[:1] == "\t" and line[1:2] != "\t" and line[1:5] in wanted[vendor]:
            yield f"pci.ids/{vendor}/{line[1:5]}", line[5:].strip()


def _matching(root: str, pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern] if os.path.lexists(os.path.join(root, pattern)) else []
    return sorted(glob.glob(pattern, root_dir=root))


def _read(path: str, most: int) -> str | None:
    try:
        # Not to wait for whoever writes to a pipe that lies there.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        parts = []
        while most > 0 and (part := os.read(fd, min(most, MOST_BYTES))):
            parts.append(part)
            most -= len(part)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")


if __name__ == "__main__":
    main()
