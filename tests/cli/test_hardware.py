"""``hived hardware``: what is known of each machine of the table, in lines and in JSON."""

from __future__ import annotations

import json

import msgspec
import pytest

from hived.cli.doctor.hardware import check_hardware
from hived.cli.document import hardware_document
from hived.cli.hardware_lines import folded, hardware_lines
from hived.cli.rendering import as_json
from hived.cli.screen import hardware_line
from hived.decisions.transitions import equip
from hived.machine.hardware.bandwidth_table import read_table
from hived.machine.hardware.understanding import understand
from hived_client.vocabulary.hardware import Gpu, Hardware, Loaded
from hived_client.vocabulary.world import World
from tests.cli.words import hived
from tests.daemon.running import Running, configure
from tests.machine.hardware.machines import MACHINES, Machine, linux, nvml, nvml_card, plain

TABLE = read_table()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_machine_can_be_shown_and_nothing_in_it_obeyed(machine: Machine) -> None:
    hardware = understand(machine.captured, TABLE)
    lines = hardware_lines(hardware)
    assert lines[0] == machine.says
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if "None" in line]
    for gpu in hardware.gpus or ():
        assert any((gpu.name or gpu.vendor) in line for line in lines)
    for problem in hardware.problems:
        assert problem.message in lines
        assert f"  → {problem.hint}" in lines
    assert hardware_line(equip(World(generation=1), hardware)) == machine.says


def test_json_has_every_field_and_unknown_is_null() -> None:
    hardware = understand(MACHINES[1].captured, TABLE)
    document = json.loads(as_json(hardware_document(hardware)))
    assert document.keys() == set(Hardware.__struct_fields__)
    (gpu,) = document["gpus"]
    assert gpu.keys() == set(Gpu.__struct_fields__)
    assert gpu["nvlinks"] is None
    assert gpu["bandwidth"]["source"] == "table"
    assert hardware_document(None) is None


def test_what_servers_hold_stands_beside_the_card_and_not_in_its_sum() -> None:
    processes = {"77": 5 << 30, "5": None, **{str(pid): pid << 20 for pid in range(100, 104)}}
    card = nvml_card("NVIDIA X", "00000000:01:00.0", 24576, 19000, compute=[8, 6], processes=processes)
    hardware = understand(linux(plain(), {}, nvml(card)))
    loaded = (
        Loaded(endpoint="ollama", model="llama3", graphics=5 << 30, machine=0),
        Loaded(endpoint="ollama", model="big", graphics=1 << 30, machine=3 << 30),
        Loaded(endpoint="ollama", model="slow", graphics=0, machine=2 << 30),
    )
    lines = hardware_lines(msgspec.structs.replace(hardware, loaded=loaded))
    wanted = ("GiB free", "by process", "its server")
    assert [line.strip() for line in lines if any(each in line for each in wanted)] == [
        "24 GiB, 18.6 GiB free",
        "held: 5 GiB by process 77, 0.101 GiB by process 103, 0.0996 GiB by process 102, "
        "0.0986 GiB by process 101, 2 more",
        "loaded      ollama/llama3: 5 GiB on graphics, as its server says",
        "ollama/big: 1 GiB on graphics and 3 GiB of the machine’s memory, as its server says",
        "ollama/slow: 2 GiB of the machine’s memory, on the processor alone, as its server says",
    ]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_on_a_narrow_terminal_no_word_is_broken_and_no_command(machine: Machine) -> None:
    lines = hardware_lines(understand(machine.captured, TABLE))
    narrow = folded(lines, 60)
    assert " ".join(narrow).split() == " ".join(lines).split()
    assert all(len(line) <= 60 or line.startswith("  →") or " " not in line.strip() for line in narrow)
    assert [line for line in lines if line.startswith("  →")] == [each for each in narrow if "→" in each]
    assert folded(lines, 0) == lines


@pytest.mark.slow
def test_the_daemon_is_asked_and_where_there_is_none_the_machine_itself(environment: dict[str, str]) -> None:
    alone = hived(environment, "hardware", "--json")
    assert alone.code == 0
    here = json.loads(alone.out)
    configure(environment)
    with Running(environment) as daemon:
        asked = json.loads(hived(environment, "hardware", "--json").out)
        shown = hived(environment, "status")
        world = daemon.client.world().world
        assert len(daemon.events("hardware.known")) == 1
    for name in ("runs_on", "system"):
        assert {**(asked[name] if isinstance(asked[name], dict) else {}), "observed_at": 0} == {
            **(here[name] if isinstance(here[name], dict) else {}),
            "observed_at": 0,
        }
    assert asked["memory"]["total"] == here["memory"]["total"]
    assert asked["memory"]["bandwidth"]["source"] == "measured"
    assert world.hardware is not None
    assert f"hardware   {asked['runs_on']}: " in shown.out


def test_the_doctor_is_told_the_line_and_what_is_wrong() -> None:
    said = {machine.name: check_hardware(understand(machine.captured, TABLE)) for machine in MACHINES}
    for machine in MACHINES:
        first, *_ = said[machine.name]
        assert (first.level, first.what) == ("ok", machine.says)
    hung = said["nvidia-smi that hangs"]
    assert [(each.level, each.check, each.fix) for each in hung[1:]] == [
        ("warn", "gpu.driver", "sudo reboot")
    ]
    masked = understand(
        msgspec.structs.replace(MACHINES[1].captured, environment={"CUDA_VISIBLE_DEVICES": ""})
    )
    assert [each.check for each in check_hardware(masked)[1:]] == ["hardware.masked"]
    assert "DEVICE_SELECTOR" in check_hardware(masked)[1].fix  # Intel's has another name
    warm = [each.what for each in said["desktop with four RTX 3090, two linked"][1:]]
    assert warm == ["NVIDIA GeForce RTX 3090 is slower just now because of temperature"]
    assert check_hardware(None)[0].level == "note"
