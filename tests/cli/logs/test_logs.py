"""``hived logs`` as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived_client.doors.paths import Places
from tests.cli.words import hived
from tests.daemon.running import Running, configure

FOLLOW = [sys.executable, "-P", "-m", "hived", "logs", "ollama", "--follow", "--lines", "1"]


def written(where: Places, name: str, text: str) -> Path:
    os.makedirs(where.logs, mode=0o700, exist_ok=True)
    path = Path(f"{where.logs}/{name}.log")
    path.write_text(text)
    return path


def test_without_a_log_it_says_so(environment: dict[str, str], home: Path) -> None:
    said = hived(environment, "logs")
    assert (said.code, said.out) == (1, "")
    assert "There is no log of 'hived' here" in said.err
    assert "hived serve" in said.err
    assert list(home.iterdir()) == []


def test_the_log_of_a_running_daemon_is_found_wherever_it_goes(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment | {"LAB_TOKEN": "only-the-daemon-has-it"}) as daemon:
        with open(f"{environment['HOME']}/daemon.log", "a") as log:
            log.write('{"event": "x", "why": "only-the-daemon-has-it"}\n')
        said = hived(environment, "logs", "--json")
    assert said.code == 0
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert {"at", "level", "event"} <= lines[0].keys()
    assert lines[0]["at"] > 1e9
    assert "why=***" in said.out
    assert "only-the-daemon-has-it" not in said.out
    assert str(daemon.pid) in said.out


def test_the_log_of_a_server_is_shown_and_obeyed_by_no_terminal(
    environment: dict[str, str], where: Places
) -> None:
    environment |= {"LAB_KEY": "the-very-key"}
    written(where, "ollama", "one\ntwo\n\x1b]0;evil\x07three the-very-key\n")
    said = hived(environment, "logs", "ollama", "-n", "2")
    assert (said.code, said.out, said.err) == (0, "two\nthree ***\n", "")
    assert hived(environment, "logs", "--list").out == "hived\nollama\n"


@pytest.mark.parametrize("words", [["--lines", "-1"], ["--lines", "x"], ["a", "b"], ["--since", "1"]])
def test_a_wrong_word_is_usage(environment: dict[str, str], words: list[str]) -> None:
    from hived.cli.running import run

    assert run("logs", words) == 2


@contextmanager
def following(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run what goes on until somebody ends it; end it at last, whatever it does."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_follows_until_ctrl_c(environment: dict[str, str], where: Places) -> None:
    log = written(where, "ollama", "old\nlast\n")
    with following(FOLLOW, environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "last\n"
        with open(log, "a") as file:
            file.write("next\n")
        assert process.stdout.readline() == "next\n"
        os.replace(log, f"{log}.1")
        log.write_text("of the new one\n")
        assert process.stdout.readline() == "of the new one\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 130
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_is_no_error(environment: dict[str, str], where: Places) -> None:
    written(where, "ollama", "line\n" * 10)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        FOLLOW, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_reader_that_leaves_ends_it_although_nothing_is_written(
    environment: dict[str, str], where: Places
) -> None:
    written(where, "ollama", "last\n")
    with following(FOLLOW, environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "last\n"
        process.stdout.close()
        assert process.wait(60.0) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


def test_the_journal_is_followed_until_ctrl_c_and_its_program_ends_too(
    environment: dict[str, str], home: Path
) -> None:
    unit = home / ".config/systemd/user/hived.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Service]\nEnvironment=HIVED_RUNTIME_DIR={home}/run XDG_STATE_HOME={home}/state\n")
    program = home / "bin/journalctl"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
echo $$ > {home}/pid
echo '{{"MESSAGE": "a.b x=1", "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1"}}'
exec sleep 600
""")
    program.chmod(0o755)
    environment |= {"PATH": f"{program.parent}:{environment['PATH']}"}
    words = [sys.executable, "-P", "-m", "hived", "logs", "--follow"]
    with following(words, environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("  error    a.b  x=1\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 130
    assert not Path(f"/proc/{(home / 'pid').read_text().strip()}").exists()
