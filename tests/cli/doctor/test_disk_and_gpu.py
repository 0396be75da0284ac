"""Room on disks, and devices to compute with: as data, and as they are below a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived.cli.doctor.disk import Disk, check_disks, models_folders, read_disks
from hived.cli.doctor.gpu import Device, GpuFacts, check_gpu, named, read_gpu
from hived_client.doors.paths import Places
from tests.cli.doctor.findings_of import only, seen

GB = 10**9


def disk(free: int, *, has_models: bool = False) -> Disk:
    return Disk(path="/d", device=1, free=free, total=100 * GB, has_models=has_models)


DISKS: list[tuple[Disk, list[str]]] = [
    (disk(50 * GB), []),
    (disk(0), ["fail disk.full"]),
    (disk(GB), []),
    (disk(GB, has_models=True), ["warn disk.short"]),
    (disk(500_000, has_models=True), ["fail disk.full"]),
]


@pytest.mark.parametrize(("read", "expected"), DISKS)
def test_each_disk_is_judged(read: Disk, expected: list[str]) -> None:
    findings = check_disks([read])
    assert seen(findings) == expected
    assert all(each.fix for each in findings if each.level in ("warn", "fail"))


def test_a_disk_is_read_once_by_the_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / ".ollama/models").mkdir(parents=True)
    folders = models_folders({"HOME": str(tmp_path)})
    assert folders[0] == f"{tmp_path}/.ollama/models"
    state = str(tmp_path / "not/there")
    places = Places(home=state, runtime=state, state=state, socket=f"{state}/s")
    (read,) = read_disks(places, folders[:1])
    assert read.path == folders[0]
    assert read.has_models
    assert 0 < read.free <= read.total
    assert read_disks(places, ())[0].path == str(tmp_path)


def device(name: str, *, is_ours: bool = True) -> Device:
    return Device(path=f"/dev/{name}", is_ours=is_ours)


GPUS: list[tuple[GpuFacts, str, list[str]]] = [
    (GpuFacts(), "", []),
    (GpuFacts(is_apple=True), "an Apple GPU", []),
    (GpuFacts(devices=(device("nvidiactl"),), tools=("/b/nvidia-smi",)), "an NVIDIA GPU", []),
    (GpuFacts(devices=(device("nvidiactl"),)), "an NVIDIA GPU", ["note gpu.tools"]),
    (GpuFacts(devices=(device("dxg"),)), "a GPU of Windows", []),
    (GpuFacts(devices=(device("kfd", is_ours=False),), user="me"), "an AMD GPU", ["warn gpu.permission"]),
    (GpuFacts(devices=(device("dri/renderD128"),)), "", []),
    (GpuFacts(devices=(device("dri/renderD128", is_ours=False),), user="me"), "", ["note gpu.permission"]),
]


@pytest.mark.parametrize(("read", "name", "expected"), GPUS)
def test_each_gpu_is_judged(read: GpuFacts, name: str, expected: list[str]) -> None:
    assert named(read) == name
    assert seen(check_gpu(read)) == expected


def test_a_closed_device_is_told_with_the_group_that_opens_it() -> None:
    closed = GpuFacts(devices=(device("kfd", is_ours=False),), user="me")
    assert only(check_gpu(closed), "gpu.permission").fix == "sudo usermod -aG render,video me"


def test_devices_are_looked_for_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "dev/dri").mkdir(parents=True)
    for name in ("kfd", "dri/renderD128", "dri/card0"):
        (tmp_path / "dev" / name).touch()
    read = read_gpu({"PATH": ""}, f"{tmp_path}/")
    assert [each.path.removeprefix(f"{tmp_path}/dev/") for each in read.devices] == ["kfd", "dri/renderD128"]
    assert read_gpu({}, f"{tmp_path}/none/").devices == ()
