"""Processor, limits, power and system, each by the files that the kernel gives."""

from __future__ import annotations

import pytest

from hived.machine.hardware.cpu import understand_cpu
from hived.machine.hardware.limits import Limits, count_list, understand_limits, wanted_files
from hived.machine.hardware.memory import understand_memory
from hived.machine.hardware.power import understand_pmset, understand_power
from hived.machine.hardware.system import understand_system
from hived.machine.hardware.understanding import understand
from hived_client.vocabulary.hardware import Power
from tests.machine.hardware.machines import GIB, PI5, SAPPHIRE, apple, cpuinfo, mac, meminfo

V1 = (
    "12:pids:/docker/a\n9:memory:/docker/a\n5:cpu,cpuacct:/docker/a\n"
    "4:cpuset:/docker/a\n1:name=systemd:/docker/a\n0::/\n"
)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/"}, Limits()),
        (
            {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/memory.max": "max",
                "sys/fs/cgroup/cpu.max": "max 100000",
            },
            Limits(),
        ),
        (  # the tightest of all groups, from our own up to the root
            {
                "proc/self/cgroup": "0::/a.slice/b.scope",
                "sys/fs/cgroup/a.slice/b.scope/memory.max": str(8 * GIB),
                "sys/fs/cgroup/a.slice/b.scope/memory.current": str(2 * GIB),
                "sys/fs/cgroup/a.slice/memory.max": str(4 * GIB),
                "sys/fs/cgroup/a.slice/memory.current": str(3 * GIB),
                "sys/fs/cgroup/a.slice/memory.stat": f"anon 1\ninactive_file {GIB}\nactive_file 7\n",
                "sys/fs/cgroup/a.slice/b.scope/cpu.max": "150000 100000",
                "sys/fs/cgroup/a.slice/cpuset.cpus.effective": "0-3",
            },
            Limits(memory=4 * GIB, free=2 * GIB, processors=1.5, cpuset=4, source="cgroup v2"),
        ),
        (  # inside a container the path that is named cannot be seen
            {
                "proc/self/cgroup": "0::/../../docker-1.scope",
                "sys/fs/cgroup/memory.max": str(GIB),
                "sys/fs/cgroup/memory.current": str(5 * GIB),
            },
            Limits(memory=GIB, free=0, source="cgroup v2"),
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GIB),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
                "sys/fs/cgroup/memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB // 2}\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpuset/docker/a/cpuset.cpus": "0,2-3",
            },
            Limits(memory=2 * GIB, free=3 * GIB // 2, processors=0.5, cpuset=3, source="cgroup v1"),
        ),
        (  # what version 1 says where there is no limit
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            Limits(),
        ),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/memory.max": "-5"}, Limits()),
    ],
)
def test_what_groups_leave(files: dict[str, str], expected: Limits) -> None:
    assert understand_limits(files) == expected
    assert files.keys() - {"proc/self/cgroup"} <= set(wanted_files(files["proc/self/cgroup"])) | {
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    }


def test_a_limit_above_what_there_is_limits_nothing() -> None:
    found = understand_memory({"proc/meminfo": meminfo(16, 10)}, Limits(memory=64 * GIB, free=60 * GIB))
    assert (found.limit, found.available, found.usable) == (None, 10 * GIB, 16 * GIB)


@pytest.mark.parametrize(
    ("said", "count"), [("0", 1), ("0-3", 4), ("0-3,8,10-11", 7), ("", None), ("x", None), ("3-1", None)]
)
def test_a_list_of_processors_is_counted(said: str, count: int | None) -> None:
    assert count_list(said) == count


@pytest.mark.parametrize(
    ("said", "architecture", "cores", "extensions"),
    [
        (
            cpuinfo("Xeon", SAPPHIRE, 8, 4),
            "x86_64",
            4,
            ("AVX2", "AVX512", "AVX512-VNNI", "AVX512-BF16", "AVX-VNNI", "AMX-INT8", "AMX-BF16"),
        ),
        (cpuinfo("Celeron", "sse4_2", 2), "x86_64", 2, ()),
        (PI5, "aarch64", 4, ("NEON", "DOTPROD")),
        (
            PI5.replace("asimddp", "asimddp i8mm bf16 sve sve2"),
            "aarch64",
            4,
            ("NEON", "DOTPROD", "I8MM", "BF16", "SVE", "SVE2"),
        ),
        # What one processor cannot do, none may be asked to.
        (PI5.replace("asimddp", "", 1), "aarch64", 4, ("NEON",)),
        ("processor\t: 0\nisa\t\t: rv64imafdcv\n", None, None, None),
    ],
)
def test_what_a_processor_can(
    said: str, architecture: str | None, cores: int | None, extensions: tuple[str, ...] | None
) -> None:
    cpu = understand_cpu({"proc/cpuinfo": said})
    assert (cpu.architecture, cpu.cores, cpu.extensions) == (architecture, cores, extensions)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"AC/type": "Mains", "AC/online": "1"}, (True, None)),
        (
            {"AC/type": "Mains", "AC/online": "0", "BAT0/type": "Battery", "BAT0/capacity": "71"},
            (False, 0.71),
        ),
        ({"BAT0/type": "Battery", "BAT0/capacity": "40", "BAT0/status": "Discharging"}, (False, 0.4)),
        ({"BAT0/type": "Battery", "BAT0/status": "Full"}, (True, None)),
        ({"mouse/type": "Battery", "mouse/scope": "Device", "mouse/capacity": "5"}, None),
    ],
)
def test_what_a_machine_runs_on(files: dict[str, str], expected: tuple[bool, float | None] | None) -> None:
    found = understand_power({f"sys/class/power_supply/{path}": said for path, said in files.items()})
    assert (found and (found.mains, found.charge)) == expected


def test_a_macs_battery() -> None:
    said = "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t85%; discharging; 5:10 remaining\n"
    assert understand_pmset(said) == Power(mains=False, charge=0.85, source="pmset")
    assert understand_pmset("") is None


def test_the_system_and_what_is_around_it() -> None:
    wsl = understand_system({"proc/version": "Linux version 6.6.87-microsoft-standard-WSL2 (x)"}, "wsl")
    assert (wsl.wsl, wsl.inside, wsl.kernel) == (True, "wsl", "6.6.87-microsoft-standard-WSL2")
    made = understand_system(
        {"sys/class/dmi/id/sys_vendor": "Framework\n", "sys/class/dmi/id/product_name": "Desktop\n"}
    )
    assert made.machine == "Framework Desktop"


def test_rosetta_is_told_and_the_card_is_there_all_the_same() -> None:
    sysctl, profiler = apple("Apple M2", 16, 10)
    translated = sysctl.replace("hw.optional.arm64: 1\n", "").replace(
        "proc_translated: 0", "proc_translated: 1"
    )
    hardware = understand(mac(translated, profiler))
    assert (hardware.system.translated, hardware.cpu.architecture, hardware.runs_on) == (
        True,
        "aarch64",
        "Metal",
    )


def test_an_intel_mac_runs_on_its_processor() -> None:
    sysctl = (
        "hw.memsize: 34359738368\nmachdep.cpu.brand_string: Intel(R) Core(TM) i9\nhw.optional.avx2_0: 1\n"
    )
    profiler = (
        '{"SPDisplaysDataType": [{"_name": "kHW_IntelUHD630Item", "sppci_model": "Intel UHD Graphics 630"}]}'
    )
    hardware = understand(mac(sysctl, profiler))
    assert (hardware.runs_on, hardware.gpus, hardware.cpu.extensions) == ("CPU", (), ("AVX2",))
