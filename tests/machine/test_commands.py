"""Programs that are run within bounds."""

from __future__ import annotations

import sys
import tracemalloc

from hived.machine.commands import MOST, run_bounded


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def test_what_a_program_says_and_how_it_ended() -> None:
    done = run_bounded(
        python("import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)"), seconds=30.0
    )
    assert done is not None
    assert (done.code, done.out, done.err, done.is_late) == (3, "a\n", "b\n", False)


def test_a_program_that_prints_without_end_fills_no_memory() -> None:
    tracemalloc.start()
    try:
        done = run_bounded(["head", "-c", str(200 * MOST), "/dev/zero"], seconds=30.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done is not None
    assert (done.code, len(done.out)) == (0, MOST)
    assert peak < 20 * MOST


def test_one_that_does_not_end_is_ended() -> None:
    for code in ("import time; time.sleep(600)", "while True: print('x' * 1000)"):
        done = run_bounded(python(code), seconds=0.5)
        assert done is not None
        assert (done.is_late, done.left, done.out) == (True, None, "")
