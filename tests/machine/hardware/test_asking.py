"""Asking a machine: what is asked and what is not, and that nothing waits for what hangs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hived.machine.commands import Done, run_bounded
from hived.machine.hardware.asking import EACH, Asking
from hived.machine.hardware.collect import collect, collect_cards
from hived.machine.hardware.measuring import measure_memory
from hived.machine.hardware.nvml_child import ask
from hived.machine.hardware.understanding import understand
from hived.machine.processes import identify
from tests.daemon.running import wait_until
from tests.machine.hardware.fakes import LATE, FakeNvml, FakeRun, NvmlFailure, memory, says
from tests.machine.hardware.machines import apple
from tests.machine.layouts import Layout

CARD = {
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000",
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de",
    "sys/bus/pci/devices/0000:01:00.0/device": "0x2204",
}
ASLEEP = CARD | {"sys/bus/pci/devices/0000:01:00.0/power/runtime_status": "suspended\n"}
ROW = (
    "0, GPU-1, NVIDIA GeForce RTX 3090, 24576, 24000, 500, 570.1, 8.6, 00000000:01:00.0, "
    "1, 4, 16, 16, 0, 40, [N/A], None"
)
LIBRARY = json.dumps(
    {
        "driver": "1",
        "devices": [
            {"name": "NVIDIA X", "pci": "0000:01:00.0", "memory": {"total": 9 << 30, "free": 1 << 30}}
        ],
    }
)


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.file("/proc/meminfo", "MemTotal: 1024 kB\nMemAvailable: 512 kB\n")
    return layout


def asking(computer: Layout, run: FakeRun, longest: float = 10.0, each: float = EACH) -> Asking:
    smi = computer.home / "path" / "nvidia-smi"
    if not smi.exists():
        smi.parent.mkdir(parents=True, exist_ok=True)
        smi.write_text("")
        smi.chmod(0o755)
    return Asking(
        computer.environment, root=str(computer.root), run=run, darwin=False, longest=longest, each=each
    )


def test_a_machine_without_anything_of_nvidias_is_not_asked_for_it(computer: Layout) -> None:
    run = FakeRun({"collect": says("{}")})
    captured = Asking(computer.environment, root=str(computer.root), run=run, darwin=False).everything()
    assert run.asked == ["collect"]
    assert captured.system["proc/meminfo"].startswith("MemTotal")
    assert captured.replies["llama-server"].state == "absent"


def test_the_library_comes_first_and_its_program_only_where_it_does_not_answer(computer: Layout) -> None:
    run = FakeRun({"collect": says(json.dumps(CARD)), "nvml_child": says(LIBRARY), "nvidia-smi": says(ROW)})
    captured = asking(computer, run).everything()
    assert run.count("nvidia-smi") == 0
    assert [gpu.name for gpu in understand(captured).gpus or ()] == ["NVIDIA X"]
    run.answers["nvml_child"] = says('{"error": "LIBRARY_NOT_FOUND"}')
    captured = asking(computer, run).everything()
    assert [gpu.name for gpu in understand(captured).gpus or ()] == ["NVIDIA GeForce RTX 3090"]


def test_an_older_nvidia_smi_is_asked_again_for_less(computer: Layout) -> None:
    few = "0, GPU-1, Tesla K80, 11441, 11000, 470.1, 00000000:01:00.0"
    refused = says('Field "compute_cap" is not a valid field to query.\n', 2)
    answers = iter([refused, says(few), says("GPU-1, 77, 100"), says(few), says("")])
    run = FakeRun(
        {
            "collect": says(json.dumps(CARD)),
            "nvml_child": says('{"error": "LIBRARY_NOT_FOUND"}'),
            "nvidia-smi": lambda: next(answers),
        }
    )
    asked = asking(computer, run)
    captured = asked.everything()
    (gpu,) = understand(captured).gpus or ()
    assert (gpu.name, gpu.memory, gpu.compute) == ("Tesla K80", 11441 << 20, None)
    moved = asked.what_moves(captured)
    assert (captured.listed_now, moved.listed_now) == (True, False)
    (again,) = understand(moved).gpus or ()
    assert again.memory == gpu.memory
    assert run.count("nvidia-smi") == 5  # and each time it answered, who holds memory


def test_a_library_that_hangs_is_not_asked_again_through_its_program(computer: Layout) -> None:
    run = FakeRun({"collect": says(json.dumps(CARD)), "nvml_child": LATE, "nvidia-smi": says(ROW)})
    captured = asking(computer, run).everything()
    assert captured.replies["nvml"].state == "late"
    assert run.count("nvidia-smi") == 0
    (gpu,) = understand(captured).gpus or ()
    assert gpu.fault is not None
    assert gpu.fault.code == "gpu.driver"


def test_what_the_kernel_holds_is_left_behind_and_not_asked_again_while_it_is_there(computer: Layout) -> None:
    mine = Done(code=-9, out="", err="", is_late=True, left=os.getpid())
    run = FakeRun({"collect": says(json.dumps(CARD)), "nvml_child": mine})
    asked = asking(computer, run)
    first = asked.everything()
    again = asked.what_moves(first)
    assert first.replies["nvml"].state == again.replies["nvml"].state == "stuck"
    assert run.count("nvml_child") == 1
    asked._left["nvml"] = 2**22 + 1  # it is gone
    run.answers["nvml_child"] = says(LIBRARY)
    assert asked.what_moves(again).replies["nvml"].state == "ok"


def test_a_card_of_a_virtual_machine_that_sleeps_keeps_nobody_from_asking_the_others(
    computer: Layout,
) -> None:
    given = {path.replace("01:00.0", "02:00.0"): said for path, said in ASLEEP.items()}
    given["sys/bus/pci/devices/0000:02:00.0/uevent"] = "DRIVER=vfio-pci\n"
    run = FakeRun({"collect": says(json.dumps(CARD | given)), "nvml_child": says(LIBRARY)})
    assert asking(computer, run).everything().replies["nvml"].state == "ok"


def test_graphics_of_the_processor_that_sleep_keep_nobody_from_asking(computer: Layout) -> None:
    computer.program("~/path/llama-server")
    own = {
        path.replace("01:00.0", "00:02.0"): said.replace("0x10de", "0x8086") for path, said in ASLEEP.items()
    }
    run = FakeRun({"collect": says(json.dumps(own)), "llama-server": says("")})
    assert asking(computer, run).everything().replies["llama-server"].state == "ok"


def test_a_card_that_sleeps_is_not_woken_and_keeps_what_was_known(computer: Layout) -> None:
    computer.program("~/path/llama-server")
    run = FakeRun(
        {"collect": says(json.dumps(ASLEEP)), "nvml_child": says(LIBRARY), "llama-server": says("")}
    )
    asked = asking(computer, run)
    assert asked.everything().replies["nvml"].state == "asleep"
    assert run.asked == ["collect"]
    run.answers["collect"] = says(json.dumps(CARD))
    awake = asked.everything()
    assert run.count("nvml_child") == 1
    run.answers["collect"] = says(json.dumps(ASLEEP))
    (gpu,) = understand(asked.what_moves(awake)).gpus or ()
    assert run.count("nvml_child") == 1
    assert (gpu.asleep, gpu.memory, gpu.free) == (True, 9 << 30, None)


def test_everything_is_back_in_its_time_whatever_hangs(computer: Layout) -> None:
    """Each probe waits for what never comes; together they take no longer than all may."""
    never = threading.Event()

    def hang() -> Done | None:
        never.wait(600.0)
        return None

    run = FakeRun({"collect": says(json.dumps(CARD)), "nvml_child": hang, "llama-server": hang})
    computer.program("~/path/llama-server")
    begun = time.monotonic()
    captured = asking(computer, run, longest=0.3).everything()
    assert time.monotonic() - begun < 60.0
    assert captured.replies["nvml"].state == captured.replies["llama-server"].state == "late"
    never.set()


@pytest.mark.parametrize(
    ("place", "probe"), [("user_name", "user"), ("look_inside", "inside"), ("shutil.which", "programs")]
)
def test_what_looks_around_may_hang_for_good_and_is_left_behind(
    computer: Layout, monkeypatch: pytest.MonkeyPatch, place: str, probe: str
) -> None:
    """A server of users' names that is gone, a mark of a container or a folder of PATH on a dead disk."""
    never, calls = threading.Event(), []

    def hang(*arguments: object, **more: object) -> str:
        calls.append(threading.current_thread().name)
        never.wait(60.0)
        return ""

    monkeypatch.setattr(f"hived.machine.hardware.asking.{place}", hang)
    asked = asking(computer, FakeRun({"collect": says(json.dumps(CARD))}), longest=0.3, each=0.3)
    captured = asked.everything()
    assert captured.replies[probe].state == "late"
    assert captured.replies["system"].state == captured.replies["cards"].state == "ok"
    again = asked.everything()
    assert again.replies[probe].state == "stuck"
    assert calls.count(f"hardware {probe}") == 1  # no second thread joins the first
    assert asked.everything(frozenset({probe})).replies.get(probe) is None
    never.set()
    wait_until(lambda: asked.everything().replies[probe].state == "ok")


def test_whoever_gives_up_waits_no_longer(computer: Layout) -> None:
    never, asked_for = threading.Event(), threading.Event()

    def hang() -> Done | None:
        asked_for.set()
        never.wait(600.0)
        return None

    asked = asking(computer, FakeRun({"collect": hang}), longest=600.0)
    done = threading.Thread(target=asked.everything)
    done.start()
    assert asked_for.wait(60.0)
    asked.give_up()
    done.join(60.0)
    assert not done.is_alive()
    never.set()


def test_two_threads_take_turns(computer: Layout) -> None:
    """One that nobody waits for any more may still be at it when the next one comes."""
    both = threading.Barrier(2)
    together: list[bool] = []

    def meet() -> Done | None:
        try:
            both.wait(0.3)
        except threading.BrokenBarrierError:
            together.append(False)
        else:
            together.append(True)
        return says("{}")

    asked = asking(computer, FakeRun({"collect": meet}))
    threads = [threading.Thread(target=asked.everything) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert together == [False, False]


def test_what_runs_is_ended_when_it_is_given_up(computer: Layout) -> None:
    """A daemon that ends leaves no program behind that could be ended."""
    slow = computer.file("~/slow", "#!/bin/sh\nexec /bin/sleep 600\n", mode=0o755)
    started = threading.Event()
    numbers: list[int] = []

    def run(
        words: Sequence[str],
        *,
        seconds: float,
        environment: Mapping[str, str] | None = None,
        begun: Callable[[int], None] | None = None,
    ) -> Done | None:
        def note(pid: int) -> None:
            assert begun is not None
            begun(pid)
            numbers.append(pid)
            started.set()

        return run_bounded([str(slow)], seconds=600.0, begun=note)

    asked = Asking(
        computer.environment, root=str(computer.root), run=run, darwin=False, longest=600.0, each=600.0
    )
    done = threading.Thread(target=asked.everything)
    done.start()
    assert started.wait(60.0)
    asked.give_up()
    done.join(60.0)
    assert not done.is_alive()
    wait_until(lambda: identify(numbers[0]) is None)


def test_what_moves_does_not_ask_for_what_does_not(computer: Layout) -> None:
    computer.program("~/path/llama-server")
    computer.file("/proc/cpuinfo", "processor : 0\nmodel name : X\nflags : lm\n")
    run = FakeRun(
        {"collect": says("{}"), "llama-server": says(""), "nvml_child": says('{"error": "NO_BINDINGS"}')}
    )
    asked = asking(computer, run)
    first = asked.everything()
    (computer.root / "proc/cpuinfo").unlink()
    computer.file("/proc/meminfo", "MemTotal: 1024 kB\nMemAvailable: 100 kB\n")
    now = asked.what_moves(first)
    assert run.count("llama-server") == 1
    hardware = understand(now)
    assert (hardware.cpu.model, hardware.memory.available) == ("X", 100 << 10)


def test_a_mac_is_asked_by_its_own_programs_and_then_for_what_moves(computer: Layout) -> None:
    sysctl, profiler = apple("Apple M2", 16, 10)
    run = FakeRun(
        {
            "sysctl": says(sysctl),
            "system_profiler": says(profiler),
            "vm_stat": says("(page size of 16384 bytes)\nPages free: 100.\n"),
            "pmset": says("Now drawing from 'AC Power'\n"),
            "metal_child": says("11453251584\n"),
        }
    )
    asked = Asking(computer.environment, root=str(computer.root), run=run, darwin=True)
    first = asked.everything()
    assert sorted(run.asked) == ["metal_child", "pmset", "sysctl", "system_profiler", "vm_stat"]
    run.answers["vm_stat"] = says("(page size of 16384 bytes)\nPages free: 200.\n")
    hardware = understand(asked.what_moves(first))
    assert (run.count("vm_stat"), run.count("system_profiler")) == (2, 1)
    (gpu,) = hardware.gpus or ()
    assert (hardware.runs_on, gpu.memory, gpu.cores) == ("Metal", 11453251584, 10)
    assert (run.count("sysctl"), run.count("metal_child")) == (2, 2)  # its owner may change what cards have
    assert hardware.memory.available == 200 * 16384
    assert hardware.power is not None
    assert hardware.power.mains


def test_what_differs_after_a_boot_or_another_driver_is_another_mark(computer: Layout) -> None:
    run = FakeRun({})
    before = asking(computer, run).mark()
    assert asking(computer, run).mark() == before
    computer.file("/proc/driver/nvidia/version", "NVRM version: x")
    assert asking(computer, run).mark() != before


def test_another_llama_server_is_another_mark(computer: Layout) -> None:
    run = FakeRun({})
    before = asking(computer, run).mark()
    server = computer.program("~/path/llama-server")
    installed = asking(computer, run).mark()
    assert installed != before
    os.utime(server, ns=(1, 1))
    assert asking(computer, run).mark() not in (before, installed)


def test_another_container_of_the_same_name_has_another_mark(computer: Layout, tmp_path: Path) -> None:
    def mark(root: Path) -> str:
        root.mkdir()
        return Asking(computer.environment, root=str(root), run=FakeRun({}), darwin=False).mark()

    assert mark(tmp_path / "a") != mark(tmp_path / "b")


def test_the_kernels_files_are_read_by_a_process_of_their_own(computer: Layout) -> None:
    computer.file("/sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n")
    computer.file("/sys/bus/pci/devices/0000:03:00.0/vendor", "0x1002\n")
    computer.file("/sys/bus/pci/devices/0000:03:00.0/device", "0x744c\n")
    computer.file("/sys/bus/pci/devices/0000:00:1f.3/class", "0x040300\n")
    computer.file("/sys/class/drm/card1/device/vendor", "0x1002\n")
    computer.file("/sys/class/drm/card1/device/uevent", "PCI_SLOT_NAME=0000:03:00.0\n")
    computer.file("/sys/class/drm/card1/device/mem_info_vram_total", "25753026560\n")
    computer.file("/sys/class/drm/card1-DP-1/device/vendor", "0x1002\n")
    computer.file(
        "/usr/share/misc/pci.ids",
        "1002  AMD\n\t744c  Navi 31 [Radeon RX 7900 XTX]\n\t\t1002 0000  board\n10de  NVIDIA\n\t744c  no\n",
    )
    captured = Asking(
        computer.environment, root=str(computer.root), run=run_with_path, darwin=False
    ).everything()
    (gpu,) = understand(captured).gpus or ()
    assert (gpu.name, gpu.pci, gpu.memory) == ("Radeon RX 7900 XTX", "0000:03:00.0", 25753026560)
    assert not [path for path in captured.cards if "1f.3" in path or "DP-1" in path]


def run_with_path(
    words: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    begun: Callable[[int], None] | None = None,
) -> Done | None:
    """Run for real, with this Python's path: the layout's environment has none."""
    return run_bounded(
        words,
        seconds=seconds,
        environment=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_of_a_card_that_sleeps_only_what_does_not_wake_it_is_read(computer: Layout) -> None:
    for path, said in {
        "class": "0x038000",
        "vendor": "0x1002",
        "device": "0x7480",
        "power/runtime_status": "suspended\n",
    }.items():
        computer.file(f"/sys/bus/pci/devices/0000:03:00.0/{path}", said)
    for path, said in {
        "vendor": "0x1002",
        "uevent": "PCI_SLOT_NAME=0000:03:00.0\n",
        "mem_info_vram_total": "8573157376",
        "gpu_busy_percent": "0",
        "mem_info_vram_used": "1",
    }.items():
        computer.file(f"/sys/class/drm/card0/device/{path}", said)
    found = collect_cards(str(computer.root))
    assert found["sys/class/drm/card0/device/mem_info_vram_total"] == "8573157376"
    assert "sys/class/drm/card0/device/gpu_busy_percent" not in found
    assert "sys/class/drm/card0/device/mem_info_vram_used" not in found


def test_a_pipe_where_a_file_should_be_holds_nobody(computer: Layout) -> None:
    (computer.root / "etc").mkdir(parents=True)
    os.mkfifo(computer.root / "etc/os-release")
    assert collect(str(computer.root), ["etc/os-release", "etc/none"]) in ({}, {"etc/os-release": ""})


def test_the_library_is_asked_for_each_card_and_one_that_fails_hides_no_other() -> None:
    good = {
        "nvmlDeviceGetName": b"NVIDIA H100",
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetMemoryInfo": memory(80 << 30, 79 << 30),
        "nvmlDeviceGetMemoryBusWidth": 5120,
        "nvmlDeviceGetMaxClockInfo": 2619,
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
        "nvmlDeviceGetComputeRunningProcesses": [],
        "nvmlDeviceGetMigMode": (0, 0),
    }
    said: dict[str, Any] = ask(FakeNvml([good, {"handle": NvmlFailure(15)}]))
    assert said["driver"] == "570.86.15"
    first, second = said["devices"]
    assert second == {"index": 1, "error": "GPU_IS_LOST"}
    assert first["name"] == "NVIDIA H100"
    assert first["errors"]["cores"] == "NOT_SUPPORTED"
    assert first["processes"] == {}
    assert "slices" not in first
    json.dumps(said)


def test_a_library_that_cannot_be_opened_says_why() -> None:
    assert ask(FakeNvml([], init=9)) == {"error": "DRIVER_NOT_LOADED"}


@pytest.mark.parametrize("said", ["", "[]", '{"bytes_per_second": null}', "nonsense"])
def test_a_measurement_that_fails_is_none(said: str) -> None:
    assert measure_memory(FakeRun({"memory_speed": says(said)}), None) is None
    assert measure_memory(FakeRun({}), None) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (2e10, None, (2e10, 2e10, "")),
        (2e10, 2.1e10, (2e10, 2e10, "")),
        (5e9, 2.1e10, (5e9, 2.1e10, "other programs were busy")),
    ],
)
def test_what_was_measured_on_a_busy_machine_is_between_two_figures(
    low: float, high: float | None, expected: tuple[float, float, str]
) -> None:
    said = json.dumps({"bytes_per_second": low, "at_most": high, "threads": 2})
    found = measure_memory(FakeRun({"memory_speed": says(said)}), None)
    assert found is not None
    assert (found.low, found.high, found.note) == expected
