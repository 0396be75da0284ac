"""Logs that are kept short while their servers go on writing."""

from __future__ import annotations

import stat
from pathlib import Path

from hived.machine import log_tail
from hived.machine.log_tail import keep_short, read_tail
from hived.machine.processes import make_log


def test_a_log_that_is_too_long_is_emptied_and_its_writer_goes_on_at_the_end(tmp_path: Path) -> None:
    log = tmp_path / "toy.log"
    make_log(log)
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 100)
        assert keep_short(log, most=400) is False
        writer.write(b"the last\n")
        assert keep_short(log, most=400) is True
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    kept = tmp_path / "toy.log.1"
    assert read_tail(kept).endswith("old\nthe last\n")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_only_the_end_is_kept_and_no_room_for_it_is_no_hindrance(tmp_path: Path) -> None:
    log = tmp_path / "toy.log"
    log.write_bytes(b"x" * log_tail.LOG_KEPT + b"y" * log_tail.LOG_KEPT)
    assert keep_short(log, most=10) is True
    assert (tmp_path / "toy.log.1").read_bytes() == b"y" * log_tail.LOG_KEPT
    (tmp_path / "toy.log.1").unlink()
    (tmp_path / "toy.log.1").mkdir()
    log.write_bytes(b"x" * 100)
    assert keep_short(log, most=10) is True
    assert log.read_bytes() == b""
    assert keep_short(tmp_path / "none") is False
