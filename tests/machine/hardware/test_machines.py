"""What hived says of each machine of the table; ``python -m tests.machine.hardware`` prints it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hived.decisions.gpus import Signs, best_gpu, judge
from hived.decisions.machine_line import summary
from hived.machine.hardware.bandwidth_table import read_table
from hived.machine.hardware.understanding import Captured, Reply, understand
from hived_client.vocabulary.hardware import Gpu, GpuProcess, Hardware
from tests.machine.hardware.machines import (
    GIB,
    MACHINES,
    RADEON_7900,
    STRIX,
    Machine,
    bus,
    card,
    linux,
    listing,
    nvml,
    nvml_card,
    plain,
    smi,
    smi_fields,
    told,
)

TABLE = read_table()
BY_NAME = {machine.name: machine for machine in MACHINES}


def known(name: str) -> Hardware:
    """Understand a machine of the table."""
    return understand(BY_NAME[name].captured, TABLE)


def cards(name: str) -> tuple[Gpu, ...]:
    """Return the cards of a machine of the table."""
    return known(name).gpus or ()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_each_machine_is_said_in_one_line(machine: Machine) -> None:
    name, _, _, captured, says = machine
    assert summary(understand(captured, TABLE)) == says, name


def test_there_are_enough_of_them_and_each_says_where_its_text_is_from() -> None:
    assert len(MACHINES) >= 20
    assert len(BY_NAME) == len(MACHINES)
    assert all(machine.source for machine in MACHINES)
    assert sum(machine.origin == "captured" for machine in MACHINES) >= 8


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_nothing_unknown_is_zero_and_no_card_is_there_twice(machine: Machine) -> None:
    hardware = understand(machine.captured, TABLE)
    gpus = hardware.gpus or ()
    assert all(gpu.memory is None or gpu.memory > 0 for gpu in gpus)
    assert all(gpu.source for gpu in gpus)
    addresses = [gpu.pci for gpu in gpus if gpu.pci is not None]
    assert len(addresses) == len(set(addresses))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(hardware), type=Hardware) == hardware


def test_what_the_library_tells_of_four_cards() -> None:
    first, _, third, _ = cards("desktop with four RTX 3090, two linked")
    assert first.bandwidth is not None
    assert first.bandwidth.source == "clock and bus width"
    assert first.bandwidth.low == pytest.approx(936.1e9, rel=0.001)
    assert first.bandwidth.note == ""
    assert (first.compute, first.runtime, first.driver) == ("8.6", "12.8", "570.86.15")
    assert (first.nvlinks, third.nvlinks) == (4, 0)
    assert (first.throttled, third.throttled) == ((), ("temperature",))
    assert first.free == 24000 << 20


def test_a_card_in_slices_is_used_by_its_slices_only() -> None:
    whole, one, other = cards("A100 in slices (MIG)")
    assert (whole.sliced, whole.usable, whole.fault) == (True, False, None)
    assert (one.kind, one.usable, one.whole) == ("slice", True, "0000:01:00.0")
    assert (one.memory, one.free) == (19968 << 20, 19955 << 20)
    assert one.uuid != other.uuid
    assert one.bandwidth is not None
    assert one.bandwidth.low < 2039e9 / 4 * 1.02


def test_the_library_tells_slices_too() -> None:
    part = {
        "index": 0,
        "name": "NVIDIA A100 MIG 3g.40gb",
        "uuid": "MIG-1",
        "memory": {"total": 40 * GIB, "free": GIB},
    }
    card = nvml_card("NVIDIA A100", "00000000:01:00.0", 1, 1, mig=True, slices=[part], compute=[8, 0])
    card.pop("memory")
    card["errors"] = {"memory": "NO_PERMISSION"}  # as inside a container
    hardware = understand(linux(plain(), {}, nvml(card)))
    whole, one = hardware.gpus or ()
    assert (whole.usable, whole.fault, one.usable, one.memory) == (False, None, True, 40 * GIB)
    assert hardware.runs_on == "CUDA"


@pytest.mark.parametrize(
    "name",
    [
        "Jetson Orin Nano",
        "Jetson AGX Orin with JetPack 5, which has no nvidia-smi",
        "DGX Spark (GB10)",
    ],
)
def test_a_card_without_memory_of_its_own_has_the_machines(name: str) -> None:
    hardware = known(name)
    (gpu,) = hardware.gpus or ()
    assert (gpu.kind, gpu.shared, gpu.usable, gpu.fault) == ("integrated", True, True, None)
    assert (gpu.memory, gpu.free) == (hardware.memory.total, hardware.memory.available)


def test_a_jetson_is_told_by_its_device_tree_once_and_not_where_it_was_not_given() -> None:
    captured = BY_NAME["Jetson AGX Orin with JetPack 5, which has no nvidia-smi"].captured
    (gpu,) = understand(captured, TABLE).gpus or ()
    assert (gpu.compute, gpu.shared, gpu.usable, gpu.fault) == ("8.7", True, True, None)
    assert gpu.bandwidth is not None
    assert gpu.bandwidth.low == 204.8e9
    (both,) = cards("Jetson Orin Nano")  # whose nvidia-smi tells it too
    assert both.source == "nvidia-smi, /proc/meminfo, /proc/device-tree"

    def problems(access: dict[str, str], inside: str | None) -> list[tuple[str, str | None]]:
        files = {path: said for path, said in captured.cards.items() if not path.startswith("access/")}
        machine = msgspec.structs.replace(captured, cards=files | access, inside=inside)
        return [(each.code, each.hint) for each in understand(machine, TABLE).problems]

    assert problems({"access/dev/nvhost-gpu": "denied"}, None) == [
        ("gpu.permission", "sudo usermod -aG render,video me")
    ]
    assert problems({}, "docker") == [("gpu.not_passed", "docker run --runtime nvidia IMAGE")]
    assert problems({}, None) == []  # the chip with another driver: nothing is known


def test_a_card_that_may_not_be_asked_is_not_taken_for_one_without_memory() -> None:
    row = (
        "0, GPU-1, NVIDIA A40, [Insufficient Permissions], [N/A], [N/A], 550.1, 8.6, 00000000:01:00.0, "
        "4, 4, 16, 16, 0, 40, [N/A], None"
    )
    hardware = understand(linux(plain(), {}, smi(row)))
    (gpu,) = hardware.gpus or ()
    assert (gpu.shared, gpu.memory, gpu.usable) == (False, None, False)
    assert gpu.fault is not None
    assert gpu.fault.code == "gpu.driver"
    assert "insufficient permissions" in gpu.fault.message


def test_the_same_card_told_by_three_is_one_with_the_names_of_all() -> None:
    (gpu,) = cards("one card, told by nvidia-smi, CUDA and Vulkan")
    assert gpu.backends == ("CUDA0", "Vulkan0")
    assert gpu.memory == 6144 << 20


def listed_with(cards: dict[str, str], *lines: str) -> tuple[Gpu, ...]:
    """Return the cards of a computer with these files whose llama-server lists these."""
    return understand(listing(linux(plain(), cards), *lines), TABLE).gpus or ()


def test_a_card_that_has_no_name_of_its_own_is_not_there_twice() -> None:
    (strix,) = cards("Strix Halo, listed by ROCm and by Vulkan")
    assert (strix.backends, strix.memory) == (("ROCm0", "Vulkan0"), 96 * GIB)
    pair = cards("a card beside a processor with graphics, both listed by Vulkan")
    assert [(gpu.kind, gpu.backends) for gpu in pair] == [
        ("discrete", ("Vulkan0",)),
        ("integrated", ("Vulkan1",)),
    ]
    # The other way round: the one without a name comes first, and is as large as the card.
    lines = ("AMD Radeon Graphics (24000 MiB, 1 MiB free)", "AMD Radeon RX 7900 XTX (24560 MiB, 1 MiB free)")
    captured = BY_NAME["a card beside a processor with graphics, both listed by Vulkan"].captured
    again = understand(listing(captured, *(f"Vulkan{n}: {each}" for n, each in enumerate(lines)))).gpus or ()
    assert [(gpu.kind, gpu.backends) for gpu in again] == [
        ("discrete", ("Vulkan1",)),
        ("integrated", ("Vulkan0",)),
    ]


def test_one_of_a_family_has_the_name_that_a_server_lists() -> None:
    family = "Navi 33 [Radeon RX 7600/7600 XT/7600M XT/7600S/7700S / PRO W7600]"
    files = bus("0000:03:00.0", "0x1002", "0x7480", name=family) | card(
        1,
        "0000:03:00.0",
        "0x1002",
        "amdgpu",
        mem_info_vram_total=str(8 * GIB),
        mem_info_vram_vendor="samsung",
    )
    (unknown,) = listed_with(files)
    assert unknown.name == "Radeon RX 7600/7600 XT/7600M XT/7600S/7700S / PRO W7600"
    (named,) = listed_with(files, "Vulkan0: AMD Radeon RX 7700S (RADV NAVI33) (8176 MiB, 8000 MiB free)")
    assert named.name == "AMD Radeon RX 7700S"
    assert named.bandwidth is not None
    assert named.bandwidth.low == named.bandwidth.high == 288e9


def test_a_processors_own_graphics_is_known_by_what_it_is_compiled_for() -> None:
    (own,) = cards("laptop with 16 GB and a Radeon 780M")
    assert (own.kind, own.compute, own.shared, own.usable) == ("integrated", "gfx1103", True, False)


def test_what_vulkan_lists_and_is_the_processor_is_no_card() -> None:
    assert listed_with({}, "Vulkan0: llvmpipe (LLVM 15.0.7, 256 bits) (24000 MiB, 24000 MiB free)") == ()


def test_no_more_is_free_than_there_is() -> None:
    (gpu,) = listed_with({}, "ROCm0: AMD Radeon Graphics (120000 MiB, 124704 MiB free)")
    assert gpu.free == gpu.memory


def test_the_best_card_is_a_card_although_the_processors_own_has_more_memory() -> None:
    pair = known("a card beside a processor with graphics, both listed by Vulkan")
    assert [gpu.usable for gpu in pair.gpus or ()] == [True, True]
    assert pair.gpus is not None
    assert best_gpu(pair) == pair.gpus[0]
    assert pair.gpus[1].memory is not None
    assert pair.gpus[1].memory > (pair.gpus[0].memory or 0)


def test_twins_are_told_apart_one_to_one() -> None:
    listed = told(
        "Available devices:\n"
        + "".join(
            f"  {kind}{n}: NVIDIA GeForce RTX 3090 (24135 MiB, 23700 MiB free)\n"
            for kind in ("CUDA", "Vulkan")
            for n in (0, 1)
        )
    )
    pair = [
        nvml_card("NVIDIA GeForce RTX 3090", f"00000000:0{n}:00.0", 24576, 24000, compute=[8, 6])
        for n in (1, 2)
    ]
    hardware = understand(linux(plain(), {}, nvml(*pair) | {"llama-server": listed}))
    assert [gpu.backends for gpu in hardware.gpus or ()] == [("CUDA0", "Vulkan0"), ("CUDA1", "Vulkan1")]


def test_the_rest_goes_on_where_one_card_is_lost() -> None:
    hardware = known("two cards, of which one is lost")
    whole, lost = hardware.gpus or ()
    assert (whole.usable, lost.usable, lost.pci) == (True, False, "0000:02:00.0")
    assert [each.code for each in hardware.problems] == ["gpu.driver"]
    assert hardware.runs_on == "CUDA"


@pytest.mark.parametrize(
    ("name", "code", "hint"),
    [
        ("the same, the user not in the group render", "gpu.permission", "sudo usermod -aG render,video me"),
        (
            "container without --gpus on a machine with a card",
            "gpu.not_passed",
            "docker run --gpus all IMAGE",
        ),
        ("driver updated and not loaded (version mismatch)", "gpu.driver", "sudo reboot"),
        ("nvidia-smi that hangs", "gpu.driver", "sudo reboot"),
    ],
)
def test_what_is_wrong_has_its_code_and_its_command(name: str, code: str, hint: str) -> None:
    hardware = known(name)
    assert hardware.runs_on == "CPU"
    assert [(each.code, each.hint) for each in hardware.problems] == [(code, hint)]


def test_a_driver_too_old_for_llama_server_is_told_and_the_card_is_there_for_other_servers() -> None:
    hardware = known("a driver too old for llama-server")
    assert hardware.runs_on == "CUDA"
    assert [(each.code, each.hint) for each in hardware.problems] == [
        ("gpu.driver_old", "sudo ubuntu-drivers install")
    ]


def test_a_container_that_was_not_given_the_card_has_no_driver_that_is_too_old() -> None:
    captured = BY_NAME["container without --gpus on a machine with a card"].captured
    replies = captured.replies | {
        "llama-server": told("CUDA driver version is insufficient for CUDA runtime version\n")
    }
    hardware = understand(msgspec.structs.replace(captured, replies=replies))
    assert [each.code for each in hardware.problems] == ["gpu.not_passed"]


def test_a_laptops_card_is_left_asleep_and_not_called_broken() -> None:
    card, own = cards("hybrid laptop, its card asleep")
    assert (card.asleep, card.usable, card.fault, card.free) == (True, True, None, None)
    assert (card.memory, card.estimated) == (8 * GIB, True)  # of the table: only one is called so
    assert (own.kind, own.usable) == ("integrated", False)


def test_a_container_has_what_its_limits_leave_and_cache_counts_as_free() -> None:
    hardware = known("container with two processors and 8 GB (cgroup v2)")
    assert hardware.memory.limit == 8 * GIB
    assert hardware.memory.available == 5 * GIB
    assert (hardware.cpu.usable, hardware.cpu.quota, hardware.cpu.threads) == (2.0, 2.0, 32)


def test_memory_near_each_half_of_the_processors() -> None:
    nodes = known("server with 2 × 32 cores and two nodes of memory").memory.numa
    assert [(node.number, node.processors) for node in nodes] == [(0, 32), (1, 32)]
    assert nodes[0].memory == 791829555 * 1024


def test_metals_own_word_comes_before_the_rule_of_thumb() -> None:
    (asked,) = cards("MacBook Pro, M3 Pro, 36 GB")
    (guessed,) = cards("MacBook Air, M1, 8 GB")
    assert (asked.memory, asked.estimated, asked.cores) == (27 * GIB, False, 18)
    assert (guessed.memory, guessed.estimated) == (int(8 * GIB * 0.67), True)
    assert asked.free == 301000 * 16384


def test_nobody_who_could_tell_is_not_nobody_there() -> None:
    late = Reply(state="late", why="it took longer than 5.0 s")
    blind = understand(linux(plain(), {}, {"cards": late}))
    assert (blind.gpus, blind.runs_on) == (None, None)
    hung = understand(linux(plain(), {}, {"nvml": late}))
    assert hung.gpus is None
    empty = understand(linux(plain()))
    assert (empty.gpus, empty.runs_on) == ((), "CPU")


def test_who_holds_memory_of_a_card() -> None:
    known = {
        "index": "0",
        "uuid": "GPU-7",
        "name": "NVIDIA L4",
        "memory.total": "23034",
        "compute_cap": "8.9",
    }
    row = smi_fields(known)
    replies = smi(row) | {
        "nvidia-smi processes": told("GPU-7, 114687, 19135\nGPU-7, 5, [N/A]\nGPU-8, 6, 1\n")
    }
    (gpu,) = understand(linux(plain(), {}, replies)).gpus or ()
    assert gpu.processes == (GpuProcess(pid=114687, memory=19135 << 20), GpuProcess(pid=5))
    (unasked,) = understand(linux(plain(), {}, smi(row))).gpus or ()
    assert unasked.processes is None


@pytest.mark.parametrize(
    ("listed", "runs"),
    [
        ("Vulkan0: AMD Radeon RX 6600 (RADV NAVI23) (8176 MiB, 7000 MiB free)", "Vulkan/AMD"),
        ("ROCm0: AMD Radeon RX 6600 (8176 MiB, 7000 MiB free)", "ROCm"),
        ("Vulkan0: NVIDIA GeForce GTX 970 (4096 MiB, 4000 MiB free)", "Vulkan/NVIDIA"),
        ("Vulkan0: Intel(R) Arc(tm) A770 Graphics (DG2) (16032 MiB, 15000 MiB free)", "Vulkan/Intel"),
        ("MTL0: Apple M2 (10922 MiB, 10922 MiB free)", "Metal"),
        ("RPC[10.0.0.2:50052]: RPC[10.0.0.2:50052] (24000 MiB, 23000 MiB free)", "CPU"),
        ("BLAS: OpenBLAS (0 MiB, 0 MiB free)", "CPU"),
    ],
)
def test_what_a_server_lists_is_used_in_the_way_that_it_lists_it(listed: str, runs: str) -> None:
    said = {"llama-server": told(f"Available devices:\n  {listed}\n")}
    assert understand(linux(plain(), {}, said)).runs_on == runs


def test_a_card_of_amds_that_a_container_was_not_given() -> None:
    hardware = understand(linux(plain(), RADEON_7900, inside="docker"))
    assert [(each.code, each.hint) for each in hardware.problems] == [
        ("gpu.not_passed", "docker run --device /dev/kfd --device /dev/dri IMAGE")
    ]


def test_a_card_that_a_server_lists_is_not_called_out_of_reach() -> None:
    line = "Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24000 MiB free)"
    said = {"llama-server": told(f"Available devices:\n  {line}\n")}
    denied = {**RADEON_7900, "access/dev/kfd": "denied"}
    assert [each.code for each in understand(linux(plain(), denied)).problems] == ["gpu.permission"]
    hardware = understand(linux(plain(), denied, said))
    assert (hardware.problems, [gpu.usable for gpu in hardware.gpus or ()]) == ((), [True])


def test_a_card_that_was_given_to_a_virtual_machine_is_not_called_broken() -> None:
    given = bus(
        "0000:01:00.0", "0x10de", "0x2204", name="GA102 [GeForce RTX 3090]", uevent="DRIVER=vfio-pci\n"
    )
    hardware = understand(linux(plain(), given, {"nvml": told('{"error": "LIBRARY_NOT_FOUND"}')}))
    assert (hardware.runs_on, hardware.problems) == ("CPU", ())
    assert [gpu.usable for gpu in hardware.gpus or ()] == [False]


def test_a_card_that_nobody_asked_since_another_sleeps_is_unknown() -> None:
    folder = "sys/bus/pci/devices/0000:02:00.0"
    pair = ON_BUS | bus("0000:02:00.0", "0x10de", "0x2204") | {f"{folder}/power/runtime_status": "suspended"}
    gpus = understand(linux(plain(), pair, {"nvml": Reply(state="asleep")})).gpus or ()
    assert [(gpu.asleep, gpu.usable, gpu.fault) for gpu in gpus[:1]] == [(False, None, None)]


def test_a_mask_hides_cards() -> None:
    pair = [
        nvml_card("NVIDIA GeForce RTX 3090", f"00000000:0{n}:00.0", 24576, 24000, compute=[8, 6])
        for n in (1, 2)
    ]

    def seen(mask: str, **more: str) -> list[bool | None]:
        environment = {"CUDA_VISIBLE_DEVICES": mask} | more
        return [
            gpu.visible
            for gpu in understand(linux(plain(), {}, nvml(*pair), environment=environment)).gpus or ()
        ]

    assert seen("0,1") == [True, True]
    assert seen("") == seen("-1") == [False, False]
    assert seen("1") == [False, True]
    assert seen("GPU-00000000:02") == [False, True]
    pair[1]["name"] = "NVIDIA GeForce RTX 3080"
    assert seen("1") == [None, None]  # numbers follow speed, which nobody tells
    assert seen("1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [False, True]
    hidden = understand(linux(plain(), {}, nvml(*pair), environment={"CUDA_VISIBLE_DEVICES": "-1"}))
    assert hidden.runs_on == "CPU"


DEAD = told('{"error": "DRIVER_NOT_LOADED"}')
LISTED = told("Available devices:\n  CUDA0: NVIDIA GeForce RTX 3090 (24135 MiB, 23700 MiB free)\n")
ON_BUS = bus("0000:01:00.0", "0x10de", "0x2204", name="GA102 [GeForce RTX 3090]")


@pytest.mark.parametrize("reply", [DEAD, Reply(state="late", why="it took longer than 5.0 s")])
def test_a_driver_that_dies_later_is_not_hidden_by_what_llama_server_listed_before(reply: Reply) -> None:
    replies = {"nvml": reply, "llama-server": LISTED}
    (gpu,) = understand(linux(plain(), ON_BUS, replies, listed_now=False)).gpus or ()
    assert (gpu.usable, gpu.fault.code if gpu.fault else None) == (False, "gpu.driver")
    (gpu,) = understand(linux(plain(), ON_BUS, replies)).gpus or ()
    assert (gpu.usable, gpu.fault) == (True, None)  # llama-server found it just now


def test_what_was_free_when_llama_server_was_asked_is_not_said_later() -> None:
    replies = {"llama-server": LISTED}
    (gpu,) = understand(linux(plain(), {}, replies)).gpus or ()
    assert gpu.free == 23700 << 20
    (gpu,) = understand(linux(plain(), {}, replies, listed_now=False)).gpus or ()
    assert (gpu.free, gpu.memory, gpu.usable) == (None, 24135 << 20, True)


def test_a_slice_that_llama_server_lists_too_is_there_once() -> None:
    captured = BY_NAME["A100 in slices (MIG)"].captured
    listed = told(
        "Available devices:\n  CUDA0: NVIDIA A100-SXM4-80GB MIG 1g.20gb (19968 MiB, 19000 MiB free)\n"
    )
    gpus = understand(msgspec.structs.replace(captured, replies=captured.replies | {"llama-server": listed}))
    assert [gpu.backends for gpu in gpus.gpus or ()] == [(), ("CUDA0",), ()]


def test_a_driver_that_was_given_little_time_is_unknown_unless_the_kernel_holds_it() -> None:
    late = {"nvml": Reply(state="late", why="it took longer than 1.4 s")}
    (gpu,) = understand(linux(plain(), ON_BUS, late, hurried=True)).gpus or ()
    assert (gpu.usable, gpu.fault) == (None, None)
    stuck = {"nvml": Reply(state="stuck", why="it hangs in the kernel (process 77)", left=77)}
    (gpu,) = understand(linux(plain(), ON_BUS, stuck, hurried=True)).gpus or ()
    assert (gpu.usable, gpu.fault.code if gpu.fault else None) == (False, "gpu.driver")


def test_an_npu_is_no_graphics() -> None:
    npu = bus("0000:00:0b.0", "0x8086", "0x7d1d", kind="0x120000", name="Meteor Lake NPU")
    assert understand(linux(plain(), npu)).gpus == ()


def test_a_card_beside_a_processor_with_graphics_of_its_own_is_a_card() -> None:
    files = plain(STRIX, "avx2 avx512f avx512_vnni")
    (gpu,) = understand(linux(files, RADEON_7900)).gpus or ()
    assert (gpu.kind, gpu.shared, gpu.memory) == ("discrete", False, 25753026560)
    assert gpu.name == "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M"


def test_a_card_of_intels_that_sleeps_is_not_taken_for_the_processors_own() -> None:
    arc = bus("0000:03:00.0", "0x8086", "0x56a0", name="DG2 [Arc A770]")
    arc |= {"sys/bus/pci/devices/0000:03:00.0/power/runtime_status": "suspended"}
    (gpu,) = understand(linux(plain(), arc | card(1, "0000:03:00.0", "0x8086", "i915"))).gpus or ()
    assert (gpu.asleep, gpu.kind, gpu.shared, gpu.usable) == (True, None, False, None)


def test_an_integrated_card_that_is_lost_is_not_well() -> None:
    lost: dict[str, object] = {
        "name": "NVIDIA GB10",
        "pci": "0000000F:01:00.0",
        "errors": {"memory": "GPU_IS_LOST"},
    }
    row = smi_fields(
        {
            "index": "0",
            "name": "NVIDIA GB10",
            "memory.total": "[GPU is lost]",
            "pci.bus_id": "0000000F:01:00.0",
        }
    )
    for replies in (nvml(lost), smi(row)):
        (gpu,) = understand(linux(plain(), {}, replies)).gpus or ()
        assert (gpu.memory, gpu.usable, gpu.fault.code if gpu.fault else None) == (None, False, "gpu.driver")


def seen_by(mask: dict[str, str], *gpus: Gpu) -> list[bool | None]:
    return [gpu.visible for gpu in judge(gpus, Signs(), mask)]


def test_a_mask_is_taken_for_no_more_than_it_says() -> None:
    amd, other = (Gpu(vendor="amd", pci=f"0000:0{n}:00.0", uuid=f"{n}eadbeef0000000{n}") for n in (1, 2))
    assert seen_by({"ROCR_VISIBLE_DEVICES": "GPU-1EADBEEF00000001"}, amd, other) == [True, False]
    assert seen_by({"HIP_VISIBLE_DEVICES": "0"}, amd, other) == [True, False]
    relative = {"ROCR_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "0"}
    assert seen_by(relative, amd, other) == [None, None]
    intel, more = (Gpu(vendor="intel", pci=f"0000:0{n}:00.0") for n in (3, 4))
    assert seen_by({"GGML_VK_VISIBLE_DEVICES": "0"}, intel, more) == [True, False]
    assert seen_by({"GGML_VK_VISIBLE_DEVICES": "0"}, intel, amd) == [None, True]
    nvidia = Gpu(vendor="nvidia", pci="0000:01:00.0", uuid="GPU-1")
    part = Gpu(vendor="nvidia", kind="slice", uuid="MIG-1")
    assert seen_by({"CUDA_VISIBLE_DEVICES": "0"}, nvidia, part) == [None, None]
    assert seen_by({"CUDA_VISIBLE_DEVICES": "²"}, nvidia) == [False]


LONG = "9" * 5000
"""More digits than Python turns into a number."""


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"proc/meminfo": f"MemTotal: {LONG} kB"}, {}),
        (
            {"sys/class/kfd/kfd/topology/nodes/1/properties": f"gfx_target_version {LONG}"}
            | card(1, "0000:03:00.0", "0x1002", "amdgpu"),
            {},
        ),
        (card(1, "0000:03:00.0", "0x1002", "amdgpu", mem_info_vram_total="9" * 30), {}),
        ({}, {"llama-server": f"  CUDA0: x ({LONG} MiB, 1 MiB free)"}),
        ({}, {"nvidia-smi": smi_fields({"index": "0", "memory.total": "1e308"})}),
        ({}, {"nvml": f'{{"devices": [{{"processes": {{"{LONG}": 1}}}}]}}'}),
    ],
)
def test_a_number_that_nobody_counted_breaks_nothing(files: dict[str, str], said: dict[str, str]) -> None:
    hardware = understand(linux(files, files, {name: told(out) for name, out in said.items()}), TABLE)
    assert msgspec.msgpack.encode(hardware)


def test_a_limit_of_a_container_makes_no_other_card_of_one_that_has_the_machines_memory() -> None:
    captured = BY_NAME["Jetson Orin Nano"].captured
    limit = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(2 * GIB)}
    limited = msgspec.structs.replace(captured, system=captured.system | limit, inside="docker")
    (free,), (bound,) = (understand(each, TABLE).gpus or () for each in (captured, limited))
    assert (free.bandwidth is not None, bound.memory) == (True, 2 * GIB)
    assert bound.bandwidth == free.bandwidth


noise = st.text(max_size=200) | st.sampled_from(
    [
        "0x10de",
        "Model: x",
        "0, 1, 2",
        "[N/A]",
        "{}",
        '{"devices": [{}]}',
        '{"devices": [{"memory": {}}]}',
        "<gpu/>",
        "MemTotal: 0 kB",
        f"MemTotal: {'9' * 5000} kB",
        f"  CUDA0: x ({'9' * 5000} MiB, 1 MiB free)",
        f"gfx_target_version {'9' * 5000}",
        f"Pages free: {'9' * 5000}.",
        "9" * 30,
    ]
)
paths = st.sampled_from(
    [path for machine in MACHINES for path in (*machine.captured.system, *machine.captured.cards)]
)
programs = st.sampled_from(
    [
        "nvml",
        "nvidia-smi",
        "nvidia-smi -L",
        "nvidia-smi -q -x",
        "llama-server",
        "sysctl",
        "system_profiler",
        "vm_stat",
        "pmset",
        "metal",
    ]
)


@settings(deadline=None)  # the first example reads more than the others, and the machine may be busy
@given(st.dictionaries(paths, noise, max_size=8), st.dictionaries(programs, noise, max_size=6), st.booleans())
def test_no_text_whatever_breaks_it(files: dict[str, str], said: dict[str, str], darwin: bool) -> None:
    replies = {name: told(out) for name, out in said.items()}
    hardware = understand(Captured(darwin=darwin, system=files, cards=files, replies=replies), TABLE)
    assert summary(hardware)
    assert all(gpu.memory is None or gpu.memory > 0 for gpu in hardware.gpus or ())
