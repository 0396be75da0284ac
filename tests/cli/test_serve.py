"""``hived serve`` in a terminal in which there is no place for it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.daemon.running import Running, configure


def test_at_a_terminal_it_says_a_sentence_as_every_verb_does(environment: dict[str, str]) -> None:
    configure(environment)
    ours, theirs = os.openpty()
    with Running(environment) as daemon:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hived", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=theirs,
            check=False,
        )
        os.close(theirs)
        said = os.read(ours, 4096).decode().splitlines()
        os.close(ours)
        assert done.returncode == 75
        assert said == [f"hived is already running (pid {daemon.pid}).", "  → hived status"]
