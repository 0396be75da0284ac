"""NVIDIA's real bindings on a library that is built here: no test machine has a card."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hived.machine.commands import run_bounded
from hived.machine.hardware.nvml import understand_nvml
from hived_client.vocabulary.hardware import Gpu, GpuProcess, Link, Memory

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler on Linux"
    ),
]
CHILD = [sys.executable, "-P", "-m", "hived.machine.hardware.nvml_child"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with that library."""
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml_library.c")
    words = ["cc", "-shared", "-fPIC", "-w", "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(words, check=True, timeout=60)
    return folder


def environment(library: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, sys.path))
    return os.environ | {"LD_LIBRARY_PATH": str(library), "PYTHONPATH": path} | more


def test_the_bindings_are_called_by_their_right_names(library: Path) -> None:
    done = run_bounded(CHILD, seconds=30.0, environment=environment(library))
    assert done is not None
    assert (done.code, done.err) == (0, "")
    said = understand_nvml(done.out, Memory())
    first, second = said.gpus
    assert first == Gpu(
        name="NVIDIA GeForce RTX 4090",
        vendor="nvidia",
        kind="discrete",
        pci="0000:01:00.0",
        uuid="GPU-1",
        memory=25757220864,
        free=25_000_000_000,
        processes=(GpuProcess(pid=4711, memory=500_000_000),),
        compute="8.9",
        cores=16384,
        driver="570.86.15",
        runtime="12.8",
        bandwidth=first.bandwidth,
        link=Link(generation=1, width=16, most_generation=4, most_width=16),
        busy=0.25,
        temperature=41.0,
        throttled=("power limit",),
        source="nvml",
    )
    assert first.bandwidth is not None
    assert first.bandwidth.low == pytest.approx(1008.1e9, rel=1e-3)
    assert (second.pci, second.memory) == ("0000:02:00.0", None)
    assert said.failing == (("0000:02:00.0", "GPU_IS_LOST"),)


def test_why_it_cannot_be_opened_is_told_by_name(library: Path) -> None:
    done = run_bounded(CHILD, seconds=30.0, environment=environment(library, FAKE_NVML_INIT="18"))
    assert done is not None
    assert understand_nvml(done.out, Memory()).error == "LIB_RM_VERSION_MISMATCH"


def test_without_the_library_that_is_what_is_told(tmp_path: Path) -> None:
    if any(
        Path(folder, "libnvidia-ml.so.1").exists() for folder in ("/usr/lib", "/usr/lib/x86_64-linux-gnu")
    ):
        pytest.skip("this machine has NVIDIA's library")
    done = run_bounded(CHILD, seconds=30.0, environment=environment(tmp_path))
    assert done is not None
    assert understand_nvml(done.out, Memory()).error == "LIBRARY_NOT_FOUND"


def test_a_library_that_hangs_is_ended_with_its_process(library: Path) -> None:
    done = run_bounded(CHILD, seconds=2.0, environment=environment(library, FAKE_NVML_HANGS="1"))
    assert done is not None
    assert (done.is_late, done.left) == (True, None)
