"""``hived doctor`` as a person runs it: with a daemon and without, on a machine where things are broken."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import msgspec
import pytest

from hived.cli.doctor.examining import examine
from hived.cli.doctor.findings import Report
from hived.cli.doctor.printing import report_lines
from hived.cli.rendering import as_json
from hived_client.doors.paths import Places
from tests.cli.words import hived
from tests.daemon.running import Running, configure, llamacpp_at, wait_until, write_configuration
from tests.servers.strangers import LyingLlamaCpp

KEY = "sk-doctor-must-not-tell"


def levels(report: Report) -> dict[str, str]:
    """Return what was looked at and how it is."""
    return {each.check: each.level for section in report.sections for each in section.findings}


def text(report: Report) -> str:
    return "\n".join(report_lines(report, 0, everything=True))


def test_without_a_daemon_it_is_complete_and_writes_nothing(environment: dict[str, str], home: Path) -> None:
    configure(environment)
    before = sorted(home.rglob("*"))
    said = hived(environment, "doctor", "--all")
    assert (said.code, said.err) == (0, "")
    assert sorted(home.rglob("*")) == before
    assert "it is not running  → hived serve" in said.out
    for section in ("hived", "servers", "configuration", "speed", "service", "files"):
        assert f"\n{section}\n" in f"\n{said.out}"
    assert "nothing failed" in said.out.splitlines()[-1]
    assert "\x1b" not in said.out


def test_a_broken_machine_ends_with_1_and_is_told_in_json(environment: dict[str, str], where: Places) -> None:
    write_configuration(environment, '{"hived": {"guess": false},\n "providers": }')
    os.makedirs(where.folder, mode=0o700)
    os.chmod(where.folder, 0o777)
    said = hived(environment, "doctor", "--json")
    assert said.code == 1
    report = msgspec.json.decode(said.out, type=Report)
    found = levels(report)
    assert report.failed
    assert sum(report.counts.values()) == sum(len(section.findings) for section in report.sections)
    assert (found["configuration.broken"], found["files.mode"]) == ("fail", "fail")
    assert f"chmod go-w {where.folder}" in said.out
    assert {"hived.running", "hived.log", "files.runtime", "disk.room", "hardware"} <= found.keys()


def test_servers_are_looked_at_without_a_daemon(environment: dict[str, str], unused_port: int) -> None:
    with LyingLlamaCpp() as server:
        down = {"like": "vllm", "api_base": f"http://127.0.0.1:{unused_port}"}
        configure(environment, llamacpp_at(server.url) | {"lab": down})
        report = examine(environment)
    assert report.failed
    said = text(report)
    assert f"✓ llamacpp at {server.url} is ready (llama.cpp" in said
    assert f"pid {os.getpid()}" in said  # who listens: the fake is this very process
    assert "✗ lab: vLLM is n" in said


def test_a_home_that_cannot_be_is_a_finding_and_no_end(environment: dict[str, str]) -> None:
    del environment["HIVED_RUNTIME_DIR"], environment["XDG_STATE_HOME"]
    found = levels(examine(environment | {"HOME": "/dev/null"}))
    assert (found["files.unreadable"], found["configuration.unreadable"]) == ("fail", "fail")
    report = examine(environment | {"HOME": "nowhere"})
    assert levels(report)["runtime.unsafe"] == "fail"
    assert report.counts["fail"] == 1  # although three checks met it


@pytest.mark.slow
def test_a_daemon_is_greeted_and_a_held_one_is_told(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        report = examine(environment)
        assert not report.failed
        assert f"pid {daemon.pid}, started by hand) and says hello in" in text(report)
        daemon.hold()
        wait_until(lambda: Path(f"/proc/{daemon.pid}/stat").read_text().split()[2] == "T")
        report = examine(environment)
        daemon.go_on()
    assert report.failed
    assert f"→ kill -CONT {daemon.pid}" in text(report)


def test_no_secret_is_told(environment: dict[str, str], where: Places) -> None:
    entry = {"like": "vllm", "api_base": "http://127.0.0.1:9/v1", "api_key_env_var": "MINE", "api_key": KEY}
    configure(environment, {"lab": entry})
    environment |= {"MINE": f"{KEY}-2", "HF_TOKEN": f"{KEY}-3", "HTTP_PROXY": f"http://u:{KEY}@p:1"}
    os.makedirs(where.logs, mode=0o700)
    why = f"Bearer {KEY} refused at http://u:{KEY}@h/ with {KEY}-3"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"timestamp": stamp, "level": "error", "event": "look.failed", "why": why}
    Path(f"{where.logs}/hived.log").write_text(json.dumps(line) + "\n")
    report = examine(environment)
    assert "look.failed  why='Bearer *** refused at http://***@h/ with ***'" in text(report)
    assert KEY not in text(report) + as_json(report)
    for words in ((), ("--json",)):
        said = hived(environment, "logs", *words)
        assert "look.failed" in said.out
        assert KEY not in said.out + said.err


def test_ascii_alone_is_enough(environment: dict[str, str]) -> None:
    configure(environment)
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    said = hived(environment, "doctor")
    assert "warn it is not running  -> hived serve" in said.out
    assert "?" not in said.out


@pytest.mark.slow
def test_whatever_hangs_it_ends(environment: dict[str, str], home: Path) -> None:
    tools = home / "bin"
    tools.mkdir()
    for name in ("systemctl", "journalctl", "nvidia-smi", "rocm-smi", "loginctl"):
        (tools / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (tools / name).chmod(0o755)
    environment |= {"PATH": f"{tools}:{environment['PATH']}"}
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are taken, and nobody answers
        configure(environment, llamacpp_at(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        with Running(environment) as daemon:
            daemon.hold()
            said = hived(environment, "doctor")
            daemon.go_on()
    assert said.code == 1
    assert f"pid {daemon.pid} is held" in said.out
