"""Why models are slow: the kernel's own texts, and models where they should not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived.cli.doctor.slowness import Memory, System, check_speed, read_meminfo, read_system
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.cli.doctor.findings_of import only, seen

GB = 10**9
ENOUGH = Memory(total=32 * GB, available=20 * GB, swap_total=8 * GB, swap_free=8 * GB, pressure=0.0)
MEMINFO = """MemTotal:       32000000 kB
MemFree:         1000000 kB
MemAvailable:   20000000 kB
SwapTotal:       8000000 kB
SwapFree:        7000000 kB
HugePages_Total:       0
"""
PRESSURE = "some avg10=12.34 avg60=1.00 avg300=0.10 total=1\nfull avg10=3.00 avg60=0 avg300=0 total=1\n"
WSL1 = "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"
WSL2 = "Linux version 5.15.90.1-microsoft-standard-WSL2 (oe-user@oe-host)"


def loaded(**fields: object) -> World:
    model = Model(name="m", state="loaded", **fields)  # type: ignore[arg-type]
    return World(
        generation=1,
        endpoints=(Endpoint(name="o", provider="ollama", url="http://h", source="default", models=(model,)),),
    )


NOTHING = World(generation=0)


def judged(
    world: World = NOTHING,
    memory: Memory = ENOUGH,
    wsl: str = "",
    gpu: str = "an NVIDIA GPU",
    folders: tuple[str, ...] = (),
) -> list[str]:
    return seen(check_speed(world, System(memory=memory, wsl=wsl), gpu, folders))


CASES: list[tuple[str, list[str], list[str]]] = [
    ("nothing", judged(), []),
    ("a model on the processor", judged(loaded(offload=0.0)), ["warn model.on_cpu"]),
    ("a model whose device is the processor", judged(loaded(device="cpu")), ["warn model.on_cpu"]),
    ("the same without a GPU", judged(loaded(offload=0.0), gpu=""), ["note slow.cpu"]),
    ("a model that spilt over", judged(loaded(offload=0.4)), ["warn model.partly_on_cpu"]),
    ("a model on the GPU", judged(loaded(offload=1.0)), []),
    ("a model of which nobody knows", judged(loaded()), []),
    ("models on a drive of Windows", judged(wsl="2", folders=("/mnt/c/models",)), ["warn slow.wsl"]),
    ("a file on a drive of Windows", judged(loaded(file="/mnt/d/m.gguf"), wsl="2"), ["warn slow.wsl"]),
    ("models on WSL's own disk", judged(wsl="2", folders=("/home/me/models",)), []),
    ("the same path on a machine of its own", judged(folders=("/mnt/c/models",)), []),
    ("the first WSL", judged(wsl="1"), ["warn slow.wsl1"]),
    ("memory that is short", judged(memory=Memory(total=32 * GB, available=GB)), ["warn slow.memory"]),
    (
        "programs that wait for memory",
        judged(memory=Memory(total=32 * GB, available=9 * GB, pressure=40.0)),
        ["warn slow.memory"],
    ),
    (
        "a machine that swaps",
        judged(memory=Memory(total=32 * GB, available=GB, swap_total=8 * GB, swap_free=GB)),
        ["warn slow.memory", "warn slow.swap"],
    ),
    ("a system that tells nothing", judged(memory=Memory()), []),
]


def test_no_more_is_said_of_a_gpu_than_that_none_is_known_to_be_usable() -> None:
    (said,) = (
        each for each in check_speed(loaded(offload=0.0), System(), "", ()) if each.check == "slow.cpu"
    )
    assert said.what == "o/m runs on the processor: no usable GPU is known here"


def test_memory_is_told_in_the_unit_that_is_on_the_box() -> None:
    memory = Memory(total=32 << 30, available=20 << 30)
    found = check_speed(NOTHING, System(memory=memory), "an NVIDIA GPU", ())
    assert "20 GiB of 32 GiB of memory available" in [each.what for each in found]


@pytest.mark.parametrize(("found", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_machine_is_judged(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_the_kernel_is_read_as_it_writes() -> None:
    memory = read_meminfo(MEMINFO, PRESSURE)
    assert memory == Memory(
        total=32_768_000_000,
        available=20_480_000_000,
        swap_total=8_192_000_000,
        swap_free=7_168_000_000,
        pressure=12.34,
    )
    for odd in ("", "x", "MemTotal: many kB", "some avg10=x", "\0"):
        assert read_meminfo(odd, odd) == Memory()


def test_a_whole_system_is_read_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    (tmp_path / "proc/pressure/memory").write_text(PRESSURE)
    (tmp_path / "proc/version").write_text(WSL2)
    system = read_system(f"{tmp_path}/")
    assert (system.wsl, system.memory.pressure) == ("2", 12.34)
    assert read_system(f"{tmp_path}/none/") == System()


def test_a_cure_for_windows_is_a_command_that_can_be_pasted() -> None:
    findings = check_speed(World(generation=0), System(wsl="2"), "", ("/mnt/c/my models",))
    assert only(findings, "slow.wsl").fix == "mkdir -p ~/models && cp -r '/mnt/c/my models' ~/models/"


def test_memory_is_told_as_it_is_on_the_box() -> None:
    memory = Memory(total=32 << 30, available=16 << 30)
    found = check_speed(World(generation=0), System(memory=memory), "", ())
    assert only(found, "slow.memory").what.endswith("16 GiB of 32 GiB of memory available")
