"""Metal is asked by its right names, with whole addresses: no test machine is a Mac."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hived.machine.hardware import metal_child

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler on Linux"
    ),
]


def test_metal_is_asked_how_much_one_program_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "metal.so"
    source = Path(__file__).with_name("metal_library.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    fake, asked = ctypes.CDLL(str(library)), []

    def load(path: str) -> ctypes.CDLL:
        asked.append(Path(path).name)
        return fake

    monkeypatch.setattr(ctypes, "CDLL", load)
    metal_child.main()
    assert capsys.readouterr().out == "115448725504\n"
    assert asked == ["CoreGraphics", "Metal", "libobjc.A.dylib"]
