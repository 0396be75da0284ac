"""``hived events``: a line a change, until there is nothing more to tell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.cli.words import hived
from tests.daemon.running import DEADLINE, Running, configure, llamacpp_at, wait_until


def test_without_a_daemon_it_is_3(environment: dict[str, str]) -> None:
    said = hived(environment, "events")
    assert said.code == 3
    assert "hived serve" in said.err
    (line,) = hived(environment, "events", "--json").out.splitlines()
    assert json.loads(line)["code"] == "daemon.not_running"
    (line,) = hived(environment, "logs", "--json").out.splitlines()
    assert json.loads(line)["code"] == "logs.none"
    assert hived(environment, "events", "--count", "0").code == 0
    assert hived(environment, "events", "--count", "x").code == 2


@pytest.mark.parametrize("how", ["text", "json", "interrupt", "killed"])
@pytest.mark.stress
def test_changes_are_told_as_they_come(environment: dict[str, str], how: str) -> None:
    configure(environment)
    with Running(environment) as daemon:
        words = ["events", *(["--json"] if how == "json" else [])]
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "hived", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as told:
            try:
                wait_until(lambda: daemon.client.statistics()["store"]["subscribers"] == 1)
                configure(environment, llamacpp_at("http://127.0.0.1:9"))
                daemon.client.reload()
                assert told.stdout is not None
                lines = [told.stdout.readline() for _ in range(2)]
                if how == "json":
                    changes = [json.loads(line) for line in lines]
                    assert changes[0]["event"] == "endpoint.added"
                    assert changes[1]["after"] == "down"
                else:
                    assert "endpoint.added" in lines[0]
                    assert "unknown → down" in lines[1]
                if how == "interrupt":
                    told.send_signal(signal.SIGINT)
                elif how == "killed":
                    daemon.kill()
                else:
                    daemon.terminate()
                _, errors = told.communicate(timeout=DEADLINE)
            finally:
                told.kill()
    assert "Traceback" not in errors
    assert told.returncode == (130 if how == "interrupt" else 4)
    assert ("shutting down" in errors) is (how in ("text", "json"))


def test_count_ends_it_and_a_closed_pipe_does(environment: dict[str, str]) -> None:
    configure(environment)
    with (
        Running(environment) as daemon,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "hived", "events", "--count", "1"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as told,
    ):
        wait_until(lambda: daemon.client.statistics()["store"]["subscribers"] == 1)
        configure(environment, llamacpp_at("http://127.0.0.1:9"))
        daemon.client.reload()
        assert told.wait(DEADLINE) == 0


def test_a_reader_that_leaves_ends_it_although_nothing_happens(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        for words in (("events",), ("status", "--watch", "--json")):
            with subprocess.Popen(
                [sys.executable, "-P", "-m", "hived", *words], env=environment, stdout=subprocess.PIPE
            ) as told:
                wait_until(lambda: daemon.client.statistics()["store"]["subscribers"] == 1)
                assert told.stdout is not None
                told.stdout.close()
                assert told.wait(DEADLINE) == 141
            wait_until(lambda: daemon.client.statistics()["store"]["subscribers"] == 0)
