"""Where log lines go, and what they must never do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from hived.daemon.logs import _Forgiving

CRASHES = """
import structlog
from hived.daemon.logs import configure_logs
configure_logs("info")
try:
    raise ValueError("it broke")
except ValueError:
    structlog.get_logger().exception("method.crashed")
"""
LEAVES = """
import sys
import structlog
from hived.daemon.logs import configure_logs, is_terminal_gone, leave_terminal
configure_logs("warning")
assert not is_terminal_gone()
print("ready", flush=True)
sys.stdin.readline()
assert is_terminal_gone()
leave_terminal(sys.argv[1])
assert not is_terminal_gone()
structlog.get_logger().info("not.wanted")
structlog.get_logger().warning("after.it")
"""
SHOWS_LOCALS = """
def format_exception(*raised):
    return ["headers = {'Authorization': 'Bearer sk-never-to-be-shown'}"]
"""


def pipe() -> tuple[int, io.TextIOWrapper]:
    out, into = os.pipe()
    return out, open(into, "w", encoding="utf-8")


def drained(out: int) -> bytes:
    os.set_blocking(out, False)
    seen = b""
    while True:
        try:
            seen += os.read(out, 1 << 16)
        except BlockingIOError:
            return seen


def test_a_pipe_that_nobody_empties_costs_lines_and_not_the_daemon() -> None:
    out, stream = pipe()
    with stream:
        log = _Forgiving(stream)
        for number in range(10_000):
            log.write(f"line {number} {'x' * 100}\n")
            log.flush()  # would wait for ever
        first, *_ = drained(out).decode().splitlines()
        log.write("after it\n")
        log.flush()
        assert first.startswith("line 0 ")
        assert drained(out).decode().splitlines()[-1] == "after it"
    os.close(out)


def test_after_a_line_that_was_cut_the_next_one_begins_anew() -> None:
    out, stream = pipe()
    with stream:
        log = _Forgiving(stream)
        log.write("x" * 1_000_000 + "\n")
        log.flush()
        assert set(drained(out)) == {ord("x")}
        for _ in range(2):
            log.write("whole\n")
            log.flush()
        assert drained(out) == b"\nwhole\nwhole\n"
    os.close(out)


def test_a_closed_reader_is_borne() -> None:
    out, stream = pipe()
    os.close(out)
    log = _Forgiving(stream)
    log.write("nobody reads it\n")
    log.flush()
    stream.close()


def test_a_trace_on_a_terminal_shows_no_values(tmp_path: Path) -> None:
    (tmp_path / "better_exceptions.py").write_text(SHOWS_LOCALS)  # structlog takes it, or rich, by itself
    path = os.pathsep.join([os.fspath(tmp_path), *sys.path])
    leader, terminal = os.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", CRASHES],
            stderr=terminal,
            env={**os.environ, "PYTHONPATH": path},
            timeout=60,
            check=False,
        )
        shown = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(terminal)
    assert ended.returncode == 0
    assert "ValueError: it broke" in shown
    assert "sk-never" not in shown


def test_the_log_goes_on_in_a_file_where_its_terminal_is_closed(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    path = tmp_path / "hived.log"
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as child:
        os.close(theirs)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        os.close(ours)
        child.communicate(b"\n")
    assert child.returncode == 0
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["event"] == "after.it"
