"""Machines as they show themselves: the texts that they give, and where each text comes from.

``captured``: every text that matters was printed by a real machine (by this one, or in the report that is
named; identifiers were masked there). ``partly``: the telling text was, and what surrounds it was written.
``written``: from the documentation of what prints it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from hived.machine.hardware.nvidia_smi import FIELDS
from hived.machine.hardware.understanding import Captured, Reply

HERE = Path(__file__).parent
GIB = 1 << 30

OK = Reply(state="ok")


class Machine(NamedTuple):
    """One of them."""

    name: str
    origin: Literal["captured", "partly", "written"]
    source: str
    captured: Captured
    says: str
    """What hived says of it in one line."""


def told(out: str) -> Reply:
    """A program that answered."""
    return Reply(state="ok", out=out)


def failed(out: str, why: str = "") -> Reply:
    """A program that ended with an error."""
    return Reply(state="failed", out=out, why=why)


def cpuinfo(model: str, flags: str, count: int, cores: int = 0) -> str:
    """Processors of x86, as the kernel lists them."""
    blocks = [
        f"processor\t: {number}\nvendor_id\t: x\nmodel name\t: {model}\nphysical id\t: 0\n"
        f"core id\t\t: {number % (cores or count)}\nflags\t\t: fpu lm {flags}\n"
        for number in range(count)
    ]
    return "\n".join(blocks)


def meminfo(total: float, available: float) -> str:
    """Memory in GiB."""
    return (
        f"MemTotal:       {int(total * 2**20)} kB\nMemFree:        1024 kB\n"
        f"MemAvailable:   {int(available * 2**20)} kB\nSwapTotal:      0 kB\n"
    )


def plain(
    model: str = "AMD Ryzen 9 5950X 16-Core Processor", flags: str = "avx2 fma f16c", **more: str
) -> dict[str, str]:
    """The files of an ordinary computer of 32 threads and 64 GB."""
    return {
        "proc/cpuinfo": cpuinfo(model, flags, 32, 16),
        "proc/meminfo": meminfo(62.7, 55.0),
        "proc/version": "Linux version 6.8.0-48-generic (buildd@x) #48-Ubuntu SMP",
        "proc/self/cgroup": "0::/user.slice",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\n',
    } | {path.replace("__", "/"): said for path, said in more.items()}


def bus(
    address: str, vendor: str, device: str, *, kind: str = "0x030000", name: str = "", **more: str
) -> dict[str, str]:
    """A device on the PCI bus."""
    folder = f"sys/bus/pci/devices/{address}"
    found = {f"{folder}/class": kind, f"{folder}/vendor": vendor, f"{folder}/device": device}
    found |= {f"{folder}/{path.replace('__', '/')}": said for path, said in more.items()}
    if name:
        found[f"pci.ids/{vendor[2:]}/{device[2:]}"] = name
    return found


def card(number: int, address: str, vendor: str, driver: str, **files: str) -> dict[str, str]:
    """A device of the kernel's graphics."""
    folder = f"sys/class/drm/card{number}/device"
    uevent = f"DRIVER={driver}\nPCI_SLOT_NAME={address}\n"
    return {f"{folder}/vendor": vendor, f"{folder}/uevent": uevent} | {
        f"{folder}/{path.replace('__', '/')}": said for path, said in files.items()
    }


def linux(
    system: dict[str, str],
    cards: dict[str, str] | None = None,
    replies: dict[str, Reply] | None = None,
    **more: object,
) -> Captured:
    """A Linux computer."""
    asked = {"system": OK, "cards": OK} | (replies or {})
    return Captured(system=system, cards=cards or {}, replies=asked, user="me", **more)  # type: ignore[arg-type]


def listing(captured: Captured, *lines: str) -> Captured:
    """A computer with a llama-server, which lists these."""
    said = "Available devices:\n" + "".join(f"  {line}\n" for line in lines)
    return msgspec.structs.replace(captured, replies=captured.replies | {"llama-server": told(said)})


def mac(sysctl: str, profiler: str = "", **replies: str) -> Captured:
    """A Mac."""
    said = {"sysctl": told(sysctl)} | ({"system_profiler": told(profiler)} if profiler else {})
    return Captured(darwin=True, replies=said | {name: told(out) for name, out in replies.items()})


def smi(*rows: str) -> dict[str, Reply]:
    """What nvidia-smi prints where the library's bindings find no library."""
    return {"nvml": told('{"error": "LIBRARY_NOT_FOUND"}'), "nvidia-smi": told("\n".join(rows) + "\n")}


def smi_fields(said: dict[str, str]) -> str:
    """A row of nvidia-smi of which only these cells are known."""
    return ", ".join(said.get(field, "[N/A]") for field in FIELDS)


def nvml(*devices: dict[str, object], driver: str = "570.86.15", cuda: int = 12080) -> dict[str, Reply]:
    """What the library says."""
    said = {"driver": driver, "cuda": cuda, "count": len(devices), "devices": devices}
    return {"nvml": told(msgspec.json.encode(said).decode())}


def nvml_card(name: str, pci: str, total: int, free: int, **more: object) -> dict[str, object]:
    """One card of it. Memory in MiB."""
    return {
        "name": name,
        "uuid": f"GPU-{pci}",
        "pci": pci,
        "memory": {"total": total << 20, "free": free << 20, "used": (total - free) << 20},
        "errors": {},
    } | more


CAPTURES = "github.com/utkuozdemir/nvidia_gpu_exporter internal/captures"
NVIDIA = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.173.02  Tue Jun 23 08:38:17 UTC 2026\n"
}
KFD_7900 = (
    "cpu_cores_count 0\nsimd_count 192\nmem_banks_count 1\ngfx_target_version 110000\nvendor_id 4098\n"
    "device_id 29772\nlocation_id 768\ndomain 0\ndrm_render_minor 128\nnum_xcc 1\n"
)
KFD_CPU = "cpu_cores_count 16\nsimd_count 0\ngfx_target_version 0\nvendor_id 0\nlocation_id 0\ndomain 0\n"
ACCESS = {"access/dev/kfd": "ok", "access/dev/dri/renderD128": "ok"}
RADEON_7900 = {
    **bus("0000:03:00.0", "0x1002", "0x744c", name="Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]"),
    **card(
        1,
        "0000:03:00.0",
        "0x1002",
        "amdgpu",
        mem_info_vram_total="25753026560",
        mem_info_vram_used="1073741824",
        mem_info_gtt_total="33500000000",
        mem_info_vram_vendor="hynix",
        gpu_busy_percent="3",
        max_link_speed="16.0 GT/s PCIe",
        max_link_width="16",
    ),
    "sys/class/kfd/kfd/topology/nodes/0/properties": KFD_CPU,
    "sys/class/kfd/kfd/topology/nodes/1/properties": KFD_7900,
}
STRIX = "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"
KFD_STRIX = "simd_count 80\ngfx_target_version 110501\nvendor_id 4098\nlocation_id 49920\ndomain 0\n"


def strix(vram: str, gtt: str, total: float) -> Captured:
    """Strix Halo, by how its memory is divided."""
    files = plain(STRIX, "avx2 avx512f avx512_vnni") | {"proc/meminfo": meminfo(total, total - 4)}
    cards = {
        **bus(
            "0000:c3:00.0",
            "0x1002",
            "0x1586",
            name="Strix Halo [Radeon Graphics / Radeon 8050S Graphics / Radeon 8060S Graphics]",
        ),
        **card(
            1,
            "0000:c3:00.0",
            "0x1002",
            "amdgpu",
            mem_info_vram_total=vram,
            mem_info_gtt_total=gtt,
            mem_info_vram_used="100000000",
        ),
        "sys/class/kfd/kfd/topology/nodes/1/properties": KFD_STRIX,
        **ACCESS,
    }
    return linux(files, cards)


PI = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
PI5 = "\n".join(PI.replace(": 0\n", f": {number}\n", 1) for number in range(4)) + (
    "\nHardware\t: BCM2835\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
)
SAPPHIRE = "avx2 smep erms invpcid avx512f avx512dq avx512_bf16 avx_vnni avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8"
M4_PRO = """hw.memsize: 25769803776
hw.physicalcpu: 12
hw.logicalcpu: 12
hw.perflevel0.physicalcpu: 8
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm64: 1
machdep.cpu.brand_string: Apple M4 Pro
kern.osproductversion: 15.4.1
"""
M3_PRO = """{
  "SPDisplaysDataType" : [
    {
      "_name" : "Apple M3 Pro",
      "spdisplays_mtlgpufamilysupport" : "spdisplays_metal3",
      "spdisplays_ndrvs" : [
        {
          "_name" : "DELL U2722DE",
          "_spdisplays_display-product-id" : "4231",
          "_spdisplays_pixels" : "2560 x 1440"
        }
      ],
      "spdisplays_vendor" : "sppci_vendor_Apple",
      "sppci_bus" : "spdisplays_builtin",
      "sppci_cores" : "18",
      "sppci_device_type" : "spdisplays_gpu",
      "sppci_model" : "Apple M3 Pro"
    }
  ]
}
"""


def apple(chip: str, gib: int, cores: int, model: str = "Mac15,9") -> tuple[str, str]:
    """A Mac's sysctl and system_profiler."""
    sysctl = (
        f"hw.memsize: {gib * GIB}\nhw.model: {model}\nhw.physicalcpu: 12\nhw.logicalcpu: 12\nhw.optional.arm64: 1\n"
        f"hw.optional.arm.FEAT_DotProd: 1\nmachdep.cpu.brand_string: {chip}\nkern.osproductversion: 15.1\n"
        "sysctl.proc_translated: 0\niogpu.wired_limit_mb: 0\n"
    )
    display = {
        "_name": chip,
        "sppci_model": chip,
        "sppci_cores": str(cores),
        "spdisplays_vendor": "sppci_vendor_Apple",
    }
    return sysctl, msgspec.json.encode({"SPDisplaysDataType": [display]}).decode()


MIG_ROW = (
    "0, GPU-513536b6-7d19-9063-b049-1e69664bb298, NVIDIA A100-SXM4-80GB, 81920, 80999, 50, 535.54.03, 8.0, "
    "00000000:01:00.0, 4, 4, 16, 16, [N/A], 27, Enabled, None"
)
MIG_LIST = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-513536b6-7d19-9063-b049-1e69664bb298)
  MIG 1g.20gb     Device  0: (UUID: MIG-ce861fb0-a248-58ce-a9a8-f9adbc22a66a)
  MIG 1g.20gb     Device  1: (UUID: MIG-a45882f0-9215-5733-a0c1-49286ab31cb5)
"""
_MIG_DEVICE = (
    "<mig_device><index>{}</index><gpu_instance_id>3</gpu_instance_id><fb_memory_usage><total>19968 MiB</total>"
    "<reserved>0 MiB</reserved><used>12 MiB</used><free>19955 MiB</free></fb_memory_usage></mig_device>"
)
MIG_XML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'
    '<nvidia_smi_log><gpu id="00000000:01:00.0"><mig_devices>'
    + _MIG_DEVICE.format(0)
    + _MIG_DEVICE.format(1)
    + "</mig_devices></gpu></nvidia_smi_log>"
)

MACHINES: tuple[Machine, ...] = (
    Machine(
        "a virtual machine without a card",
        "captured",
        "the machine that this was written on",
        msgspec.json.decode((HERE / "captured" / "firecracker_epyc.json").read_bytes(), type=Captured),
        "CPU: AMD EPYC (2 threads, AVX512-VNNI), 23.5 GiB memory, in docker",
    ),
    Machine(
        "desktop with a GeForce RTX 4080 SUPER",
        "captured",
        f"{CAPTURES}: the row of nvidia-smi; processor and memory written",
        linux(
            plain(),
            {},
            smi(
                "0, GPU-00000000-0000-0000-0000-000000000000, NVIDIA GeForce RTX 4080 SUPER, 16376, 15348, 596, 595.71.05, 8.9, "
                "00000000:01:00.0, 1, 4, 16, 16, 0, 43, [N/A], HMM"
            ),
        ),
        "CUDA: NVIDIA GeForce RTX 4080 SUPER (16 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "desktop with four RTX 3090, two linked",
        "written",
        "NVML's documentation",
        linux(
            plain(),
            NVIDIA,
            nvml(
                *(
                    nvml_card(
                        "NVIDIA GeForce RTX 3090",
                        f"00000000:{bus_:02X}:00.0",
                        24576,
                        24000,
                        compute=[8, 6],
                        bus_width=384,
                        memory_clock=9751,
                        most_link_generation=4,
                        most_link_width=16,
                        nvlinks=4 if bus_ < 0x20 else 0,
                        throttled=0x20 if bus_ == 0x41 else 1,
                    )
                    for bus_ in (0x01, 0x02, 0x41, 0x42)
                )
            ),
        ),
        "CUDA: 4 × NVIDIA GeForce RTX 3090 (24 GiB each), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "server with an H100",
        "captured",
        f"{CAPTURES}: the row of nvidia-smi; processor and memory written",
        linux(
            plain("Intel(R) Xeon(R) Platinum 8488C", SAPPHIRE),
            {},
            smi(
                "0, GPU-00000000-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 81559, 81081, 0, 590.48.01, 9.0, "
                "00000000:00:09.0, 5, 5, 16, 16, 0, 41, Disabled, None"
            ),
        ),
        "CUDA: NVIDIA H100 80GB HBM3 (79.6 GiB), Intel(R) Xeon(R) Platinum 8488C (32 threads, AMX-INT8), 62.7 GiB memory",
    ),
    Machine(
        "server with an H200",
        "captured",
        f"{CAPTURES}: the row of nvidia-smi; processor and memory written",
        linux(
            plain(),
            {},
            smi(
                "0, GPU-00000000-0000-0000-0000-000000000000, NVIDIA H200, 143771, 143158, 0, 590.48.01, 9.0, "
                "00000000:83:00.0, 5, 5, 16, 16, 0, 28, Disabled, None"
            ),
        ),
        "CUDA: NVIDIA H200 (140 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "server with an L40S that is busy",
        "captured",
        f"{CAPTURES}: the row of nvidia-smi; processor and memory written",
        linux(
            plain(),
            {},
            smi(
                "0, GPU-00000000-0000-0000-0000-000000000000, NVIDIA L40S, 46068, 45460, 0, 595.80, 8.9, "
                "00000000:01:00.0, 4, 4, 16, 16, 100, 63, [N/A], HMM"
            ),
        ),
        "CUDA: NVIDIA L40S (45 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "A100 in slices (MIG)",
        "captured",
        "github.com/influxdata/telegraf issue 5812 and its test data; two of four slices",
        linux(
            plain(),
            {},
            {
                **smi(MIG_ROW),
                "nvidia-smi -L": told(MIG_LIST),
                "nvidia-smi -q -x": told(MIG_XML),
            },
        ),
        "CUDA: 2 × NVIDIA A100-SXM4-80GB MIG 1g.20gb (19.5 GiB each), "
        "AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "hybrid laptop, its card asleep",
        "partly",
        "name and runtime_status: github.com/NVIDIA/open-gpu-kernel-modules issue 755",
        linux(
            plain(
                "13th Gen Intel(R) Core(TM) i9-13900H",
                "avx2 avx_vnni",
                sys__class__power_supply__AC__type="Mains",
                sys__class__power_supply__AC__online="0",
                sys__class__power_supply__BAT0__type="Battery",
                sys__class__power_supply__BAT0__capacity="71",
                sys__class__power_supply__BAT0__status="Discharging",
            ),
            {
                **bus("0000:00:02.0", "0x8086", "0xa7a0", name="Raptor Lake-P [Iris Xe Graphics]"),
                **bus(
                    "0000:01:00.0",
                    "0x10de",
                    "0x28e0",
                    kind="0x030200",
                    name="AD107M [GeForce RTX 4060 Max-Q / Mobile]",
                    power__runtime_status="suspended\n",
                ),
                **card(0, "0000:00:02.0", "0x8086", "i915"),
                "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  565.77  Wed Nov 27 22:53:48 UTC 2024\n",
                "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 4060 Laptop GPU\nIRQ:   \t\t 189\n"
                "GPU UUID: \t GPU-89583c91-b9ba-d10e-d31d-93019a0fb626\nBus Location: \t 0000:01:00.0\nDevice Minor: \t 0\n",
            },
            {"nvml": Reply(state="asleep", why="a card sleeps, and is not woken")},
        ),
        "CUDA: NVIDIA GeForce RTX 4060 Laptop GPU (8 GiB, asleep), "
        "13th Gen Intel(R) Core(TM) i9-13900H (32 threads, AVX-VNNI), 62.7 GiB memory, on battery",
    ),
    Machine(
        "WSL 2 with a GeForce RTX 5080",
        "partly",
        "sizes and versions: github.com/AlexsJones/llmfit issue 52",
        linux(
            plain(proc__version="Linux version 6.6.87.2-microsoft-standard-WSL2 (root@x) #1 SMP"),
            {"access/dev/dxg": "ok"},
            smi(
                smi_fields(
                    {
                        "index": "0",
                        "name": "NVIDIA GeForce RTX 5080",
                        "uuid": "GPU-1",
                        "memory.total": "16303",
                        "memory.free": "15165",
                        "memory.used": "1138",
                        "driver_version": "591.86",
                        "compute_cap": "12.0",
                        "pci.bus_id": "00000000:01:00.0",
                    }
                )
            ),
            inside="wsl",
        ),
        "CUDA: NVIDIA GeForce RTX 5080 (15.9 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, in wsl",
    ),
    Machine(
        "Jetson Orin Nano",
        "partly",
        "memory, kernel, name: github.com/henrygd/beszel issue 286; the cells written",
        linux(
            {
                "proc/cpuinfo": PI5.replace("0xd0b", "0xd42"),
                "proc/meminfo": meminfo(7.44, 4.4),
                "proc/version": "Linux version 5.15.148-tegra (buildbrain@x)",
                "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            },
            {
                "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3",
                "proc/device-tree/compatible": "nvidia,tegra234\0",
                "access/dev/nvhost-ctrl-gpu": "ok",
            },
            smi(
                smi_fields(
                    {
                        "index": "0",
                        "name": "Orin (nvgpu)",
                        "uuid": "[N/A]",
                        "memory.total": "[N/A]",
                        "driver_version": "540.4.0",
                        "compute_cap": "8.7",
                        "pci.bus_id": "[N/A]",
                    }
                )
            ),
        ),
        "CUDA: Orin (nvgpu) (7.44 GiB shared), Cortex-A78AE (4 threads, DOTPROD), 7.44 GiB memory",
    ),
    Machine(
        "Jetson AGX Orin with JetPack 5, which has no nvidia-smi",
        "written",
        "that there is none: github.com/ultralytics/ultralytics pull 20680; device files: NVIDIA's documentation",
        linux(
            {
                "proc/cpuinfo": PI5.replace("0xd0b", "0xd42"),
                "proc/meminfo": meminfo(61.4, 50.0),
                "proc/version": "Linux version 5.10.104-tegra (buildbrain@x)",
                "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
            },
            {
                "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1",
                "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
                "access/dev/nvhost-ctrl-gpu": "ok",
            },
            {"nvml": told('{"error": "LIBRARY_NOT_FOUND"}')},
        ),
        "CUDA: Orin (nvgpu) (61.4 GiB shared), Cortex-A78AE (4 threads, DOTPROD), 61.4 GiB memory",
    ),
    Machine(
        "DGX Spark (GB10)",
        "captured",
        "github.com/XuehaiPan/nvitop pull 208: cells and meminfo; processor written",
        linux(
            {
                "proc/cpuinfo": PI5.replace("0xd0b", "0xd85").replace("asimddp", "asimddp sve i8mm bf16"),
                "proc/meminfo": "MemTotal:       127600748 kB\nMemAvailable:   118566368 kB\n",
                "proc/version": "Linux version 6.17.0-1008-nvidia",
            },
            {"access/dev/nvidiactl": "ok"},
            smi(
                smi_fields(
                    {
                        "index": "0",
                        "uuid": "GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5",
                        "name": "NVIDIA GB10",
                        "driver_version": "580.173.02",
                        "compute_cap": "12.1",
                        "pci.bus_id": "0000000F:01:00.0",
                        "utilization.gpu": "0",
                        "temperature.gpu": "35",
                        "addressing_mode": "ATS",
                    }
                )
            ),
        ),
        "CUDA: NVIDIA GB10 (122 GiB shared), Cortex-X925 (4 threads, SVE), 122 GiB memory",
    ),
    Machine(
        "Strix Halo, 128 GB, memory by GTT",
        "partly",
        "sizes: github.com/noamsto/nix-amd-ai issue 42",
        strix("4294967296", "103079215104", 124.0),
        f"ROCm: AMD Radeon 8060S (96 GiB shared), {STRIX} (32 threads, AVX512-VNNI), 124 GiB memory",
    ),
    Machine(
        "Strix Halo, 96 GB set aside in the firmware",
        "written",
        "the kernel's documentation of amdgpu",
        strix(str(96 * GIB), str(15 * GIB), 30.5),
        f"ROCm: AMD Radeon 8060S (96 GiB), {STRIX} (32 threads, AVX512-VNNI), 30.5 GiB memory",
    ),
    Machine(
        "Strix Halo, listed by ROCm and by Vulkan",
        "partly",
        "its lines of llama-server: as published in guides to gfx1151, one machine of 128 GB; the rest as above",
        listing(
            strix("4294967296", "103079215104", 124.0),
            "ROCm0: AMD Radeon Graphics (65536 MiB, 59826 MiB free)",
            "Vulkan0: AMD Radeon Graphics (RADV GFX1151) (97568 MiB, 97227 MiB free)",
        ),
        f"ROCm: AMD Radeon 8060S (96 GiB shared), {STRIX} (32 threads, AVX512-VNNI), 124 GiB memory",
    ),
    Machine(
        "laptop with 16 GB and a Radeon 780M",
        "written",
        "the kernel's documentation of amdgpu, LLVM's of gfx1103",
        linux(
            plain("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "avx2 avx512f avx512_vnni")
            | {"proc/meminfo": meminfo(15.0, 11.0)},
            {
                **bus("0000:c1:00.0", "0x1002", "0x15bf", name="Phoenix1"),
                **card(
                    1,
                    "0000:c1:00.0",
                    "0x1002",
                    "amdgpu",
                    mem_info_vram_total=str(GIB // 2),
                    mem_info_gtt_total=str(15 * GIB // 2),
                    mem_info_vram_used="1",
                ),
                "sys/class/kfd/kfd/topology/nodes/1/properties": (
                    "simd_count 24\ngfx_target_version 110003\nvendor_id 4098\nlocation_id 49408\ndomain 0\n"
                ),
                **ACCESS,
            },
        ),
        "CPU: AMD Ryzen 7 7840U w/ Radeon 780M Graphics (32 threads, AVX512-VNNI), 15 GiB memory",
    ),
    Machine(
        "a card beside a processor with graphics, both listed by Vulkan",
        "partly",
        "its lines of llama-server: as another program's tests have them, word for word; the rest written",
        listing(
            linux(
                plain(),
                {
                    **RADEON_7900,
                    **ACCESS,
                    **bus("0000:12:00.0", "0x1002", "0x164e", name="Raphael"),
                    **card(
                        2,
                        "0000:12:00.0",
                        "0x1002",
                        "amdgpu",
                        mem_info_vram_total=str(GIB // 2),
                        mem_info_gtt_total=str(31 * GIB),
                        mem_info_vram_used="1",
                    ),
                },
            ),
            "Vulkan0: AMD Radeon RX 7900 XTX (24560 MiB, 22532 MiB free)",
            "Vulkan1: AMD Radeon(TM) Graphics (48532 MiB, 46105 MiB free)",
        ),
        "ROCm: AMD Radeon RX 7900 XTX (24 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "desktop with a Radeon RX 7900 XTX",
        "partly",
        "kfd's properties: as tinygrad and others have them of this card; sizes written",
        linux(plain(), RADEON_7900 | ACCESS),
        "ROCm: Radeon RX 7900 XTX (24 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "the same, the user not in the group render",
        "written",
        "ROCm's documentation",
        linux(plain(), RADEON_7900 | {"access/dev/kfd": "denied", "access/dev/dri/renderD128": "denied"}),
        "CPU: AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, not used: Radeon RX 7900 XTX",
    ),
    Machine(
        "desktop with an Arc A770 (i915)",
        "written",
        "the kernel's documentation of i915",
        linux(
            plain("Intel(R) Core(TM) i5-13600K", "avx2 avx_vnni"),
            {
                **bus("0000:03:00.0", "0x8086", "0x56a0", name="DG2 [Arc A770]"),
                **card(0, "0000:03:00.0", "0x8086", "i915"),
                "sys/class/drm/card0/lmem_total_bytes": str(16225 << 20),
                "access/dev/dri/renderD128": "ok",
            },
        ),
        "Vulkan/Intel: Intel Arc A770 (15.8 GiB), Intel(R) Core(TM) i5-13600K (32 threads, AVX-VNNI), 62.7 GiB memory",
    ),
    Machine(
        "desktop with an Arc B580 (xe)",
        "written",
        "the kernel's documentation of xe; names of its files: github.com/AlexsJones/llmfit pull 733",
        linux(
            plain("Intel(R) Core(TM) i5-13600K", "avx2 avx_vnni"),
            {
                **bus("0000:03:00.0", "0x8086", "0xe20b", name="Battlemage G21 [Arc B580]"),
                **card(0, "0000:03:00.0", "0x8086", "xe", tile0__physical_vram_size_bytes=str(12 * GIB)),
                "access/dev/dri/renderD128": "ok",
            },
        ),
        "Vulkan/Intel: Intel Arc B580 (12 GiB), Intel(R) Core(TM) i5-13600K (32 threads, AVX-VNNI), 62.7 GiB memory",
    ),
    Machine(
        "MacBook Air, M1, 8 GB",
        "written",
        "Apple's manual of sysctl and system_profiler; cores: github.com/philipturner/applegpuinfo issue 11",
        mac(*apple("Apple M1", 8, 8, "MacBookAir10,1")),
        "Metal: Apple M1 (5.36 GiB shared), Apple M1 (12 threads, DOTPROD), 8 GiB memory",
    ),
    Machine(
        "MacBook Pro, M3 Pro, 36 GB",
        "partly",
        "the beginning of system_profiler's JSON: github.com/timmo001/system-bridge pull 3408",
        mac(
            apple("Apple M3 Pro", 36, 18)[0],
            M3_PRO,
            metal=str(int(27.0 * GIB)),
            vm_stat="Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free: 100000.\nPages active: 5.\nPages inactive: 200000.\nPages speculative: 1000.\nPages purgeable: 0.\n",
        ),
        "Metal: Apple M3 Pro (27 GiB shared), Apple M3 Pro (12 threads, DOTPROD), 36 GiB memory",
    ),
    Machine(
        "Mac mini, M4 Pro, 24 GB; system_profiler was too late",
        "captured",
        "sysctl: github.com/archspec/archspec issue 201",
        msgspec.structs.replace(
            mac(M4_PRO),
            replies={
                "sysctl": told(M4_PRO),
                "system_profiler": Reply(state="late", why="it took longer than 5.0 s"),
            },
        ),
        "Metal: Apple M4 Pro (16.1 GiB shared), Apple M4 Pro (12 threads, I8MM), 24 GiB memory",
    ),
    Machine(
        "Mac Studio, M3 Max of unknown cores",
        "written",
        "Apple's manual",
        mac(apple("Apple M3 Max", 64, 0)[0]),
        "Metal: Apple M3 Max (48 GiB shared), Apple M3 Max (12 threads, DOTPROD), 64 GiB memory",
    ),
    Machine(
        "container without --gpus on a machine with a card",
        "written",
        "NVIDIA's documentation of its container toolkit",
        linux(
            plain(),
            {
                **NVIDIA,
                **bus("0000:01:00.0", "0x10de", "0x2684", name="AD102 [GeForce RTX 4090]"),
                "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 4090\nBus Location: \t 0000:01:00.0\n",
            },
            {"nvml": told('{"error": "LIBRARY_NOT_FOUND"}')},
            inside="docker",
        ),
        "CPU: AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, not used: NVIDIA GeForce RTX 4090, in docker",
    ),
    Machine(
        "container with two processors and 8 GB (cgroup v2)",
        "written",
        "the kernel's documentation of cgroup v2",
        linux(
            plain()
            | {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/memory.max": str(8 * GIB),
                "sys/fs/cgroup/memory.current": str(6 * GIB),
                "sys/fs/cgroup/memory.stat": f"anon {2 * GIB}\nfile {4 * GIB}\ninactive_file {3 * GIB}\n",
                "sys/fs/cgroup/cpu.max": "200000 100000",
            },
            inside="docker",
        ),
        "CPU: AMD Ryzen 9 5950X 16-Core Processor (2 of 32 threads, AVX2), 8 GiB memory, in docker",
    ),
    Machine(
        "Raspberry Pi 5",
        "captured",
        "cpuinfo: github.com/hrw/arm-socs-table issue 96; memory written",
        linux(
            {
                "proc/cpuinfo": PI5,
                "proc/meminfo": meminfo(7.87, 7.0),
                "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
                "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            }
        ),
        "CPU: Cortex-A76 (4 threads, DOTPROD), 7.87 GiB memory",
    ),
    Machine(
        "server with 2 × 32 cores and two nodes of memory",
        "partly",
        "memory by node: github.com/egandro/proxmox-cpu-affinity issue 58",
        linux(
            {
                "proc/cpuinfo": cpuinfo("AMD EPYC 9375F 32-Core Processor", "avx2 avx512f avx512_vnni", 64),
                "proc/meminfo": meminfo(1511.0, 1331.9),
                "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:       791829555 kB\nNode 0 MemFree:  1 kB\n",
                "sys/devices/system/node/node0/cpulist": "0-31",
                "sys/devices/system/node/node1/meminfo": "Node 1 MemTotal:       792604999 kB\nNode 1 MemFree:  1 kB\n",
                "sys/devices/system/node/node1/cpulist": "32-63",
            }
        ),
        "CPU: AMD EPYC 9375F 32-Core Processor (64 threads, AVX512-VNNI), 1.48 TiB memory",
    ),
    Machine(
        "driver updated and not loaded (version mismatch)",
        "captured",
        "github.com/zzzhouuu/truenas-nvidia-drivers issue 19; the card written",
        linux(
            plain(),
            NVIDIA | bus("0000:01:00.0", "0x10de", "0x2204", name="GA102 [GeForce RTX 3090]"),
            {
                "nvml": told('{"error": "LIB_RM_VERSION_MISMATCH"}'),
                "nvidia-smi": failed(
                    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.178\n"
                ),
            },
        ),
        "CPU: AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, not used: GeForce RTX 3090",
    ),
    Machine(
        "nvidia-smi that hangs",
        "written",
        "as github.com/leptonai/gpud issue 117 has it",
        linux(
            plain(),
            NVIDIA | bus("0000:01:00.0", "0x10de", "0x2204", name="GA102 [GeForce RTX 3090]"),
            {
                "nvml": told('{"error": "NO_BINDINGS"}'),
                "nvidia-smi": Reply(state="stuck", why="it hangs in the kernel (process 77)", left=77),
            },
        ),
        "CPU: AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, not used: GeForce RTX 3090",
    ),
    Machine(
        "a driver too old for llama-server",
        "partly",
        "its sentence and the version: github.com/ollama/ollama issue 7666",
        linux(
            plain(),
            NVIDIA,
            {
                **nvml(
                    nvml_card("NVIDIA GeForce RTX 3090", "00000000:01:00.0", 24576, 24000, compute=[8, 6]),
                    driver="515.65.01",
                    cuda=11070,
                ),
                "llama-server": told(
                    "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version\nAvailable devices:\n"
                ),
            },
        ),
        "CUDA: NVIDIA GeForce RTX 3090 (24 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "two unlike cards, known from llama-server alone",
        "captured",
        "github.com/ollama/ollama issue 16508; processor and memory written",
        linux(
            plain(),
            {},
            {
                "llama-server": told(
                    "Available devices:\n  CUDA0: NVIDIA GeForce RTX 3080 Ti (11909 MiB, 11650 MiB free)\n"
                    "  CUDA1: NVIDIA RTX PRO 4000 Blackwell SFF Edition (24026 MiB, 23795 MiB free)\n"
                )
            },
        ),
        "CUDA: NVIDIA GeForce RTX 3080 Ti (11.6 GiB), NVIDIA RTX PRO 4000 Blackwell SFF Edition (23.5 GiB), "
        "AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "one card, told by nvidia-smi, CUDA and Vulkan",
        "partly",
        "Vulkan's line: github.com/ggml-org/llama.cpp issue 16659",
        linux(
            plain(),
            bus("0000:01:00.0", "0x10de", "0x1e89", name="TU104 [GeForce RTX 2060]"),
            {
                **smi(
                    "0, GPU-2, NVIDIA GeForce RTX 2060, 6144, 5136, 900, 580.95.05, 7.5, 00000000:01:00.0, 3, 3, 16, 16, 0, 40, [N/A], None"
                ),
                "llama-server": told(
                    "Available devices:\n  CUDA0: NVIDIA GeForce RTX 2060 (5937 MiB, 5000 MiB free)\n"
                    "  Vulkan0: NVIDIA GeForce RTX 2060 (6144 MiB, 5136 MiB free)\n"
                ),
            },
        ),
        "CUDA: NVIDIA GeForce RTX 2060 (6 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
    Machine(
        "two cards, of which one is lost",
        "written",
        "NVML's documentation",
        linux(
            plain(),
            {
                **NVIDIA,
                **bus("0000:01:00.0", "0x10de", "0x2204", name="GA102 [GeForce RTX 3090]"),
                **bus("0000:02:00.0", "0x10de", "0x2204", name="GA102 [GeForce RTX 3090]"),
            },
            nvml(
                nvml_card("NVIDIA GeForce RTX 3090", "00000000:01:00.0", 24576, 24000, compute=[8, 6]),
                {
                    "name": "NVIDIA GeForce RTX 3090",
                    "pci": "00000000:02:00.0",
                    "errors": {"memory": "GPU_IS_LOST"},
                },
            ),
        ),
        "CUDA: NVIDIA GeForce RTX 3090 (24 GiB), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, not used: NVIDIA GeForce RTX 3090",
    ),
    Machine(
        "a card that this user may not ask",
        "written",
        "cells as nvidia-smi's manual names them",
        linux(
            plain(),
            NVIDIA,
            smi(
                smi_fields(
                    {
                        "index": "0",
                        "name": "NVIDIA A40",
                        "uuid": "GPU-1",
                        "memory.total": "[Insufficient Permissions]",
                        "memory.free": "[Insufficient Permissions]",
                        "driver_version": "550.54.15",
                        "compute_cap": "8.6",
                        "pci.bus_id": "00000000:01:00.0",
                    }
                )
            ),
        ),
        "CPU: AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory, not used: NVIDIA A40",
    ),
    Machine(
        "a card that says that it has zero bytes",
        "written",
        "as github.com/henrygd/beszel issue 286 shows it of another",
        linux(
            plain(),
            NVIDIA,
            smi(
                smi_fields(
                    {
                        "index": "0",
                        "name": "NVIDIA GeForce RTX 3090",
                        "uuid": "GPU-1",
                        "memory.total": "0",
                        "memory.free": "0",
                        "driver_version": "580.1",
                        "compute_cap": "8.6",
                        "pci.bus_id": "00000000:01:00.0",
                    }
                )
            ),
        ),
        "CUDA: NVIDIA GeForce RTX 3090 (memory unknown), AMD Ryzen 9 5950X 16-Core Processor (32 threads, AVX2), 62.7 GiB memory",
    ),
)
