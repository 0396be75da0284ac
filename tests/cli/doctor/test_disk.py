"""Room on disks: as data, and as it is below a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived.cli.doctor.disk import Disk, check_disks, models_folders, read_disks
from hived_client.doors.paths import Places
from tests.cli.doctor.findings_of import seen

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
