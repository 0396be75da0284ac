"""A file is written whole, and what a writer that was killed left beside it goes with the next start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hived_client.doors.whole import remove_unfinished, write_whole


@pytest.fixture
def dead() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


def test_what_dead_writers_left_goes_and_nothing_else(tmp_path: Path, dead: int) -> None:
    path = tmp_path / "snapshot"
    write_whole(str(path), b"whole")
    kept = {"snapshot", f"snapshot.{os.getppid()}", "snapshot.corrupt", f"beat.{dead}", f"snapshot.{dead}.x"}
    for name in (*kept, f"snapshot.{dead}", f"snapshot.{os.getpid()}", f"snapshot.{2**70}"):
        (tmp_path / name).write_bytes(b"half")

    remove_unfinished(str(path))

    assert set(os.listdir(tmp_path)) == kept


def test_nothing_in_the_way_is_an_error(tmp_path: Path, dead: int) -> None:
    (tmp_path / f"snapshot.{dead}").mkdir()

    remove_unfinished(str(tmp_path / "snapshot"))
    remove_unfinished(str(tmp_path / "nowhere" / "snapshot"))
