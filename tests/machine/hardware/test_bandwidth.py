"""The table of bandwidths, what it says of a card, and measuring the machine's own memory."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from hived.machine.hardware.bandwidth_table import Row, flaws, look_up, read_table, with_bandwidth
from hived.machine.hardware.memory_speed import measure
from hived_client.vocabulary.hardware import Bandwidth, Gpu, Vendor

TABLE = read_table()
GIB = 1 << 30
NAVI_33 = "Radeon RX 7600/7600 XT/7600M XT/7600S/7700S / PRO W7600"
"""As the list of PCI ids has one chip."""


def test_the_table_has_no_flaw() -> None:
    assert flaws(TABLE) == []
    assert len(TABLE) > 240


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"vendor": "nobody"}, "nobody is called"),
        ({"pattern": "rtx ("}, "no pattern"),
        ({"bandwidth": 0.0}, "cannot be"),
        ({"bandwidth": 99_999.0}, "cannot be"),
        ({"memory": -1.0}, "cannot be"),
        ({"source": ""}, "no source"),
    ],
)
def test_a_flaw_is_found(change: dict[str, object], flaw: str) -> None:
    row = Row(vendor="nvidia", pattern="rtx 1", memory=8, bandwidth=100, compute="", source="x")
    assert any(flaw in each for each in flaws([msgspec.structs.replace(row, **change)]))
    assert flaws([row, row]) == ["rtx 1 stands there twice"]


@pytest.mark.parametrize(
    ("vendor", "name", "gib", "cores", "low", "high"),
    [
        ("nvidia", "NVIDIA GeForce RTX 4090", 24, None, 1008.4, 1008.4),
        ("nvidia", "NVIDIA GeForce RTX 4090 Laptop GPU", 16, None, 576.0, 576.0),
        ("nvidia", "NVIDIA GeForce RTX 3080", 10, None, 760.3, 760.3),
        ("nvidia", "NVIDIA GeForce RTX 3080", 12, None, 912.4, 912.4),
        ("nvidia", "NVIDIA GeForce RTX 3080 Ti", 12, None, 912.4, 912.4),
        # Sold under one name with one or the other memory: an interval.
        ("nvidia", "NVIDIA GeForce GTX 1650", 4, None, 128.1, 192.0),
        ("nvidia", "NVIDIA GeForce RTX 3060 Ti", 8, None, 448.0, 608.3),
        ("nvidia", "Orin (nvgpu)", 7.4, None, 68.2, 102.4),
        ("nvidia", "Orin (nvgpu)", 61.4, None, 204.8, 204.8),
        # A row of the same name with another memory is of another card.
        ("nvidia", "NVIDIA RTX 4000 Ada Generation Laptop GPU", 12, None, None, None),
        ("nvidia", "NVIDIA GeForce RTX 2070 with Max-Q Design", 8, None, None, None),
        ("nvidia", "Tesla T4", 15, None, 320.0, 320.0),
        ("nvidia", "NVIDIA A10G", 22.5, None, 600.2, 600.2),
        ("nvidia", "NVIDIA A100 80GB PCIe", 80, None, 1935.4, 1935.4),
        ("nvidia", "NVIDIA A100-SXM4-40GB", 39.6, None, 1555.2, 1555.2),
        ("nvidia", "NVIDIA H100 NVL", 93.6, None, 3938.0, 3938.0),
        ("nvidia", "NVIDIA RTX PRO 5000 Blackwell", 47.8, None, 1344.0, 1344.0),
        ("nvidia", "NVIDIA GeForce RTX 9999", 24, None, None, None),
        ("amd", "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", 24, None, 960.0, 960.0),
        ("amd", "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", 20, None, 800.0, 800.0),
        ("amd", "Radeon RX 6700/6700 XT/6750 XT / 6800M/6850M XT", 12, None, 384.0, 432.0),
        ("amd", "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", 16, None, 576.0, 576.0),
        ("amd", NAVI_33, 8, None, 256.0, 288.0),
        ("amd", NAVI_33, 16, None, 288.0, 288.0),
        ("amd", "AMD Radeon RX 7700S", 8, None, 288.0, 288.0),
        ("amd", "AMD Radeon RX 7600S", 8, None, 256.0, 256.0),
        ("amd", "AMD Radeon RX 7600M XT", 8, None, 288.0, 288.0),
        ("amd", "AMD Radeon RX 7700", 16, None, 622.1, 622.1),
        ("amd", "AMD Radeon RX 7700 XT", 12, None, 432.0, 432.0),
        # The editions for a workstation and for a server are different cards.
        ("nvidia", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 95.6, None, 1792.0, 1792.0),
        ("nvidia", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 95.6, None, 1597.0, 1597.0),
        ("nvidia", "NVIDIA RTX 2000 Ada Generation", 16, None, 224.0, 224.0),
        ("nvidia", "NVIDIA RTX 2000 Ada Generation Laptop GPU", 8, None, 256.0, 256.0),
        ("amd", "AMD Radeon 8060S Graphics", 96, None, 256.0, 256.0),
        ("amd", "AMD Instinct MI250X", 64, None, 1638.4, 1638.4),
        ("intel", "Intel Arc A770", 15.8, None, 512.0, 512.0),
        ("intel", "Intel Arc Graphics 130V / 140V", 30, None, 136.5, 136.5),
        ("intel", "Intel Arc Graphics", 30, None, 89.6, 89.6),
        ("nvidia", "NVIDIA GeForce GTX 1650 Ti", 4, None, None, None),
        ("apple", "Apple M3 Max", 48, 40, 400.0, 400.0),
        ("apple", "Apple M3 Max", 27, 30, 300.0, 300.0),
        ("apple", "Apple M3 Max", 48, None, 300.0, 400.0),
        ("apple", "Apple M4", 12, 10, 120.0, 120.0),
        ("apple", "Apple M4 Pro", 16, 20, 273.0, 273.0),
    ],
)
def test_a_card_is_told_apart_by_memory_and_cores_or_answered_with_an_interval(
    vendor: Vendor, name: str, gib: float, cores: int | None, low: float | None, high: float | None
) -> None:
    found = look_up(TABLE, Gpu(vendor=vendor, name=name, memory=int(gib * GIB), cores=cores))
    if low is None or high is None:
        assert found is None
        return
    assert found is not None
    assert [found.low, found.high] == pytest.approx([low * 1e9, high * 1e9])
    assert bool(found.note) == (low != high)


@pytest.mark.parametrize(
    ("name", "gib", "expected"),
    [
        ("Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", 24, "Radeon RX 7900 XTX"),
        ("Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", 20, "Radeon RX 7900 XT"),
        ("Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", 16, "Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M"),
        (NAVI_33, 16, "Radeon RX 7600 XT"),
        (NAVI_33, 8, NAVI_33),  # a laptop's 7700S, say
        ("Radeon RX 7900 XTX/7999 Z", 24, "Radeon RX 7900 XTX/7999 Z"),  # of the second nothing is known
        ("Radeon RX 7900 XTX/Radeon 8060S", 24, "Radeon RX 7900 XTX/Radeon 8060S"),  # with any memory
    ],
)
def test_one_of_a_familys_names_is_the_cards_where_no_other_can_be(
    name: str, gib: int, expected: str
) -> None:
    assert with_bandwidth(TABLE, Gpu(vendor="amd", name=name, memory=gib * GIB)).name == expected


def test_an_interval_says_whether_it_is_one_card_or_several() -> None:
    one = look_up(TABLE, Gpu(vendor="nvidia", name="NVIDIA GeForce GTX 1650", memory=4 * GIB))
    several = look_up(TABLE, Gpu(vendor="amd", name=NAVI_33, memory=8 * GIB))
    assert [each.note for each in (one, several) if each is not None] == [
        "sold under this name with either memory",
        "which of these cards it is, is unknown",
    ]


def test_what_the_driver_tells_comes_first_and_a_disagreement_is_said() -> None:
    def told(speed: float) -> Bandwidth:
        gpu = Gpu(
            vendor="nvidia",
            name="NVIDIA GeForce RTX 4090",
            memory=24 * GIB,
            bandwidth=Bandwidth(low=speed, high=speed, source="clock and bus width"),
        )
        found = with_bandwidth(TABLE, gpu).bandwidth
        assert found is not None
        return found

    assert (told(1000e9).low, told(1000e9).note) == (1000e9, "")
    assert (told(800e9).low, told(800e9).note) == (800e9, "the table says 1008 GB/s")
    unknown = Gpu(
        vendor="nvidia", name="X", bandwidth=Bandwidth(low=1e9, high=1e9, source="clock and bus width")
    )
    assert with_bandwidth(TABLE, unknown) == unknown


def test_memory_is_measured_within_its_room() -> None:
    speed = measure(1, 8 << 20, least=8 << 20)
    assert speed is not None
    assert 1e8 < speed[0] <= speed[1]  # the slowest board there is
    assert measure(8, 1 << 20) is None
    assert measure(2, 64 << 20) is None  # most of that would lie in a cache


def test_the_measurement_is_a_program_that_prints_one_figure() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hived.machine.hardware.memory_speed", "1", str(256 << 20)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    assert said["threads"] == 1
    assert said["at_most"] >= said["bytes_per_second"] > 1e8
