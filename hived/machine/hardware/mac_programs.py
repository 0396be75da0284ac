"""Which programs of macOS are asked about a Mac, and for what."""

from __future__ import annotations

import sys

SYSCTL_NAMES = (
    *("hw.memsize", "hw.model", "hw.physicalcpu", "hw.logicalcpu", "hw.optional.arm64"),
    *("machdep.cpu.brand_string", "hw.optional.arm.FEAT_DotProd", "hw.optional.arm.FEAT_I8MM"),
    *("hw.optional.arm.FEAT_BF16", "hw.optional.arm.FEAT_SME", "hw.optional.avx2_0", "hw.optional.avx512f"),
    *("iogpu.wired_limit_mb", "sysctl.proc_translated", "kern.osproductversion", "kern.osrelease"),
)

MAC_FIRST = {
    "sysctl": ("/usr/sbin/sysctl", "-i", *SYSCTL_NAMES),
    "system_profiler": ("/usr/sbin/system_profiler", "SPDisplaysDataType", "-json"),
    "vm_stat": ("/usr/bin/vm_stat",),
    "pmset": ("/usr/bin/pmset", "-g", "batt"),
    "metal": (sys.executable, "-P", "-m", "hived.machine.hardware.metal_child"),
}
MAC_MOVING = {name: MAC_FIRST[name] for name in ("vm_stat", "pmset", "sysctl", "metal")}
"""The last two, since whoever owns a Mac may set how much of its memory graphics may have."""
