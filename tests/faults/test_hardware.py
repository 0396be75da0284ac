"""What is wrong with graphics cards: a computer laid out below a folder, with programs that say so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running, configure, wait_until
from tests.faults.asking import at, problem
from tests.faults.provoking import provokes
from tests.machine.hardware.machines import KFD_7900
from tests.machine.layouts import Layout
from tests.servers.ollama import Ollama

_ROOTED = """#!{python} -P
import ctypes, sys

# Root may open everything: its children, which look at the device files, are not to be that much of a root.
for power in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, power, 0, 0, 0)

from hived.daemon import surroundings

surroundings.ROOT = {root!r}
sys.argv = ["hived", *sys.argv[4:]]  # after: -P -m hived

from hived.cli import main

sys.exit(main())
"""

NO_LIBRARY = """
class NVMLError(Exception):
    def __init__(self, value):
        self.value = value
NVML_ERROR_LIBRARY_NOT_FOUND = 12
def nvmlInit():
    raise NVMLError(12)
"""
HANGS = "import time\nNVMLError = OSError\ndef nvmlInit():\n    time.sleep(600)\n"
"""Bindings of NVIDIA's library on a machine that has none, and on one whose card has failed."""

ROW = (
    "0, GPU-1, NVIDIA GeForce RTX 3090, 24576, 24000, 500, 470.1, 8.6, 00000000:01:00.0, 1, 4, 16, 16, 0, "
    "40, [N/A], None"
)


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.file("~/pynvml.py", NO_LIBRARY)
    return layout


def plug_in(computer: Layout) -> None:
    """Put an NVIDIA card into a computer."""
    folder = "/sys/bus/pci/devices/0000:01:00.0"
    for name, said in (("class", "0x030000"), ("vendor", "0x10de"), ("device", "0x2204")):
        computer.file(f"{folder}/{name}", f"{said}\n")
    computer.file("/usr/share/misc/pci.ids", "10de  NVIDIA Corporation\n\t2204  GA102 [GeForce RTX 3090]\n")


def script(computer: Layout, name: str, text: str) -> None:
    """Put a program on PATH."""
    computer.file(f"~/{name}", f"#!/bin/sh\n{text}\n", mode=0o755)


@contextmanager
def running(
    environment: dict[str, str], computer: Layout, providers: dict[str, object] | None = None
) -> Iterator[Running]:
    """Run the daemon on that computer."""
    python = computer.file(
        "~/python", _ROOTED.format(python=sys.executable, root=str(computer.root)), mode=0o755
    )
    configure(environment, providers or {})
    # Before the real bindings: this test's machine may have a card.
    path = os.pathsep.join([str(computer.home), environment["PYTHONPATH"]])
    places = environment | {"PATH": str(computer.home), "PYTHONPATH": path}
    with Running(places, python=str(python)) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log, daemon.log[-4000:]


@provokes("gpu.driver", "nvidia-smi hangs, and there is no library to ask")
def test_nvidia_smi_hangs(environment: dict[str, str], computer: Layout) -> Fault:
    plug_in(computer)
    script(computer, "nvidia-smi", "exec /bin/sleep 60")
    with running(environment, computer) as daemon:
        found = problem("gpu.driver", daemon.client)
        hardware = daemon.client.world().world.hardware
        assert hardware is not None
        assert hardware.runs_on == "CPU"
        assert [each.state for each in hardware.probes if each.name == "nvidia-smi"] == ["late"]
        assert len(daemon.events("hardware.silent")) == 1
    return found


@provokes("gpu.driver", "the driver's library hangs; its program is not asked at all")
def test_the_library_hangs(environment: dict[str, str], computer: Layout) -> Fault:
    plug_in(computer)
    computer.file("~/pynvml.py", HANGS)
    script(computer, "nvidia-smi", f"echo asked >> {computer.home}/asked")
    with running(environment, computer) as daemon:
        found = problem("gpu.driver", daemon.client)
    assert not (computer.home / "asked").exists()
    return found


@provokes("gpu.driver", "the driver was updated under a running system")
def test_the_versions_differ(environment: dict[str, str], computer: Layout) -> Fault:
    plug_in(computer)
    script(
        computer, "nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch"\nexit 18'
    )
    with running(environment, computer) as daemon:
        return problem("gpu.driver", daemon.client)


@provokes("gpu.driver_old", "llama-server says that the driver is too old for its CUDA")
def test_the_driver_is_too_old(environment: dict[str, str], computer: Layout) -> Fault:
    plug_in(computer)
    computer.file("/etc/os-release", 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n')
    script(computer, "nvidia-smi", f'echo "{ROW}"')
    words = "CUDA driver version is insufficient for CUDA runtime version"
    script(computer, "llama-server", f'echo "ggml_cuda_init: failed to initialize CUDA: {words}" >&2')
    with running(environment, computer) as daemon:
        found = problem("gpu.driver_old", daemon.client)
    assert found.hint == "sudo ubuntu-drivers install"
    return found


@provokes("gpu.permission", "the user may not open /dev/kfd")
def test_kfd_may_not_be_opened(environment: dict[str, str], computer: Layout) -> Fault:
    card = "/sys/class/drm/card1/device"
    computer.file(f"{card}/vendor", "0x1002\n")
    computer.file(f"{card}/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n")
    computer.file(f"{card}/product_name", "AMD Radeon RX 7900 XTX\n")
    computer.file(f"{card}/mem_info_vram_total", "25753026560\n")
    computer.file(f"{card}/mem_info_vram_vendor", "hynix\n")
    computer.file("/sys/class/kfd/kfd/topology/nodes/1/properties", KFD_7900)
    device = computer.file("/dev/kfd", mode=0o000)
    with running(environment, computer) as daemon:
        found = problem("gpu.permission", daemon.client)
        # The mend mends it, at the next look.
        device.chmod(0o666)
        again = daemon.client.hardware(again=True)
        assert (again.runs_on, again.problems) == ("ROCm", ())
    return found


@provokes("gpu.not_passed", "a container was started without its machine's card")
def test_a_container_without_the_card(environment: dict[str, str], computer: Layout) -> Fault:
    computer.file("/.dockerenv")
    computer.file(
        "/proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: \t\t NVIDIA GeForce RTX 3090\nBus Location: \t 0000:01:00.0\n",
    )
    with running(environment, computer) as daemon:
        return problem("gpu.not_passed", daemon.client)


@provokes("model.on_cpu", "Ollama has loaded a model on the processor, beside a card that is idle")
def test_a_model_on_the_processor(environment: dict[str, str], computer: Layout) -> Fault:
    plug_in(computer)
    script(computer, "nvidia-smi", f'echo "{ROW}"')
    with Ollama() as server:
        server.add("llama3")
        server.load("llama3", size=5 << 30, size_vram=0)
        with running(environment, computer, {"ollama": at(server.url)}) as daemon:
            found = problem("model.on_cpu", daemon.client)
            server.load("llama3", size=5 << 30, size_vram=5 << 30)
            daemon.client.refresh()
            wait_until(
                lambda: not [each for each in daemon.client.world().world.problems if each.code == found.code]
            )
    return found


@provokes("gpu.unseen", "Ollama has a model on a card that came after hived looked")
def test_a_model_on_a_card_that_hived_did_not_find(environment: dict[str, str], computer: Layout) -> Fault:
    with Ollama() as server:
        server.add("llama3")
        server.load("llama3", size=5 << 30, size_vram=5 << 30)
        with running(environment, computer, {"ollama": at(server.url)}) as daemon:
            found = problem("gpu.unseen", daemon.client)
            asked = daemon.client.hardware()
            assert [each.code for each in asked.problems] == ["gpu.unseen"]
            assert [(each.model, each.graphics, each.machine) for each in asked.loaded or ()] == [
                ("llama3:latest", 5 << 30, 0)
            ]
            # The mend mends it, once the card is there.
            plug_in(computer)
            script(computer, "nvidia-smi", f'echo "{ROW}"')
            again = daemon.client.hardware(again=True)
            assert (again.runs_on, again.problems) == ("CUDA", ())
    return found
