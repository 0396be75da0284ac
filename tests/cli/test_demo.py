"""The demo, for real: what it says, and that nothing of it is left, whenever it is interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

import hived as hived_package
from tests.cli.words import hived
from tests.daemon.running import DEADLINE, mentioning, wait_until


def leftovers() -> set[str]:
    return {str(path) for path in Path("/tmp").glob("hived-demo-*")}


@contextmanager
def nothing_left() -> Iterator[None]:
    before = leftovers()
    yield
    mine = leftovers() - before
    assert [
        pid for pid in mentioning("/tmp/hived-demo-") if not any(text in said(pid) for text in before)
    ] == []
    assert mine == set()


def said(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.stress
def test_it_shows_everything_and_leaves_nothing(environment: dict[str, str], home: Path) -> None:
    with nothing_left():
        done = hived(environment, "demo", timeout=300.0)
    assert done.code == 0, done
    for words in (
        "start hived in a temporary home",
        "hived start llamacpp",
        "llamacpp/tiny-agent can be called",
        "I am a tiny model, and a real llama.cpp on this computer speaks for me.",
        "kill -9 the server",
        "is not running any more: killed by SIGKILL",
        "with hived",
        "everything that the demo started has been ended, and its home is gone",
    ):
        assert words in done.out, done.out
    assert "\x1b" not in done.out
    assert list(home.iterdir()) == []


@pytest.mark.stress
def test_as_json_it_is_the_steps(environment: dict[str, str]) -> None:
    with nothing_left():
        done = hived(environment, "demo", "--json", timeout=300.0)
    assert done.code == 0
    steps = json.loads(done.out)
    assert {"start hived", "start llama.cpp", "resolve"} <= {step["what"] for step in steps}
    assert all(step["seconds"] > 0 for step in steps)


@contextmanager
def demo(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-u", "-P", "-m", "hived", "demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def interrupted(
    environment: dict[str, str], word: bytes, number: int, *, after: float = 0.0, times: int = 1
) -> None:
    code, errors = 0, b""
    for _ in range(10):
        with nothing_left(), demo(environment) as running:
            assert running.stdout is not None
            while word not in running.stdout.readline():
                assert running.poll() is None
            time.sleep(after)  # further into the step, by chance
            for _ in range(times):
                running.send_signal(number)
                time.sleep(0.05)  # an impatient hand
            _, errors = running.communicate(timeout=DEADLINE)
            code = running.returncode
        if code != 0:  # else it was at its end before the signal came
            break
    assert code == 130, errors
    assert b"interrupted; all that the demo started has been ended" in errors
    assert b"Traceback" not in errors


MOMENTS = [
    (b"start hived in a temporary home", 0.0),
    (b"start hived in a temporary home", 0.1),
    (b"make a model", 0.0),
    (b"hived start llamacpp", 0.0),
    (b"hived start llamacpp", 0.1),
    (b"hived status", 0.0),
    (b"call the model", 0.0),
    (b"kill -9 the server", 0.0),
]


@pytest.mark.stress
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("word", "after"), MOMENTS)
def test_interrupted_at_any_moment_it_cleans_up(
    environment: dict[str, str], word: bytes, after: float, number: int
) -> None:
    interrupted(environment, word, number, after=after)


def test_interrupted_it_cleans_up(environment: dict[str, str]) -> None:
    interrupted(environment, b"hived start llamacpp", signal.SIGINT)


@pytest.mark.stress
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_impatient_hand_does_not_leave_half(environment: dict[str, str], number: int) -> None:
    interrupted(environment, b"hived status", number, times=4)


def is_interrupted_start(errors: str) -> bool:
    """Tell whether Python says that it was interrupted before it ran a module of ours."""
    files = re.findall(r'^ *File "([^"]+)"', errors, re.MULTILINE)
    ours = str(Path(hived_package.__file__).parent)
    return "KeyboardInterrupt" in errors and not any(file.startswith(ours) for file in files)


@pytest.mark.stress
def test_interrupted_before_it_begins_it_ends(environment: dict[str, str]) -> None:
    for after in (0.02, 0.05, 0.1, 0.2, 0.3):
        with nothing_left(), demo(environment) as running:
            time.sleep(after)  # somewhere in its imports
            deadline = time.monotonic() + DEADLINE
            while running.poll() is None and time.monotonic() < deadline:
                # Again and again, as a person would: what Python raises inside a callback of its import
                # system is printed and forgotten, and no program can catch it there.
                running.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(0.25)
            _, errors = running.communicate(timeout=DEADLINE)
            if running.returncode == 1:
                # Python itself was interrupted while it started, before a line of ours had run.
                assert is_interrupted_start(errors.decode()), errors
            else:
                assert running.returncode in (130, -signal.SIGINT), errors


@pytest.mark.stress
def test_a_killed_daemon_is_no_hindrance_to_the_end(environment: dict[str, str]) -> None:
    with nothing_left(), demo(environment) as running:
        assert running.stdout is not None
        while b"hived status" not in running.stdout.readline():
            assert running.poll() is None
        for pid in mentioning("HIVED_MANAGED_BY=client"):
            if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes() and "hived-demo-" in said(pid):
                os.kill(pid, signal.SIGKILL)
        running.communicate(timeout=60.0)
    wait_until(lambda: not leftovers())
