"""``hived status``: what it prints and returns, with and without a daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hived_client.doors.paths import Places
from tests.cli.words import hived
from tests.daemon.running import Running, configure, llamacpp_at, wait_prompt, wait_until, write_configuration
from tests.servers.strangers import LyingLlamaCpp


def test_without_a_daemon_it_says_so_and_starts_nothing(environment: dict[str, str], home: Path) -> None:
    said = hived(environment, "status")
    assert said.code == 3
    assert "not running" in said.out
    assert "nothing is known yet" in said.out
    assert "hived serve" in said.err
    assert list(home.iterdir()) == []
    said = hived(environment, "status", "--json")
    assert said.code == 3
    document = json.loads(said.out)
    assert (document["verdict"], document["generation"], document["endpoints"]) == ("absent", 0, [])


def test_with_a_daemon_it_shows_the_world(environment: dict[str, str], where: Places) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: "ready" in hived(environment, "status").out)
            said = hived(environment, "status")
            assert said.code == 0
            assert said.err == ""
            assert f"pid {daemon.pid}" in said.out
            assert server.url.removeprefix("http://") in said.out
            assert "\x1b" not in said.out
            document = json.loads(hived(environment, "status", "--json").out)
            assert document["verdict"] == "fresh"
            assert document["daemon"]["pid"] == daemon.pid
            assert document["daemon"]["socket"] == where.socket
            (endpoint,) = document["endpoints"]
            assert endpoint["state"] == "ready"
            assert endpoint["locality"] == "device"
            assert endpoint["observed_at"] > 1e9
            (model,) = document["models"]
            assert (model["name"], model["endpoint"], model["provider"]) == ("m", "llamacpp", "llamacpp")
            assert {
                "generation",
                "verdict",
                "daemon",
                "configuration",
                "hardware",
                "problems",
            } <= document.keys()
            assert daemon.terminate() == 0
        said = hived(environment, "status")
        assert said.code == 3
        assert "last known generation" in said.out
        assert json.loads(hived(environment, "status", "--json").out)["verdict"] == "stopped"


@pytest.mark.stress
def test_a_daemon_that_hangs_is_busy_at_first_and_unresponsive_later(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        daemon.hold()
        said = [hived(environment, "status")]
        while said[-1].code != 4 and len(said) < 200:
            said.append(hived(environment, "status"))
        assert any("busy" in each.out for each in said[:-1])
        assert {each.code for each in said[:-1]} == {0}
        assert (said[-1].code, "unresponsive" in said[-1].out) == (4, True)


def test_a_broken_configuration_is_shown_with_its_place(environment: dict[str, str]) -> None:
    write_configuration(environment, '{"hived": {"guess": false},\n "providers": }')
    with Running(environment):
        said = hived(environment, "status")
    assert "line 2, column 15" in said.out
    assert "python3 -m json.tool" in said.out


@pytest.mark.stress
def test_what_a_server_is_called_never_reaches_the_terminal_as_it_is(environment: dict[str, str]) -> None:
    with LyingLlamaCpp("ansi") as ansi, LyingLlamaCpp("bidi") as bidi, LyingLlamaCpp("newline") as newline:
        configure(
            environment,
            {
                name: {"like": "llamacpp", "api_base": server.url}
                for name, server in (("a", ansi), ("b", bidi), ("c", newline))
            },
        )
        with Running(environment) as daemon:
            daemon.client.refresh()
            for words in (["status"], ["resolve", "a/x"], ["resolve", "c/m\nok"], ["resolve", "\x1b[2J/x"]):
                said = hived(environment, *words)
                text = (said.out + said.err).replace("\n", "")
                assert "\x1b" not in text
                assert "\u202e" not in text
                assert not [c for c in text if not c.isprintable()]
            assert "ok: everything is fine" not in hived(environment, "status").out.splitlines()


@pytest.mark.stress
def test_no_color_is_respected_and_a_terminal_gets_colour(environment: dict[str, str]) -> None:
    import pty

    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    with Running(environment):
        for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            leader, follower = pty.openpty()
            done = subprocess.run(
                [sys.executable, "-P", "-m", "hived", "status"],
                env=environment | {"TERM": "xterm"} | extra,
                stdin=subprocess.DEVNULL,
                stdout=follower,
                stderr=subprocess.PIPE,
                check=False,
            )
            os.close(follower)
            said = os.read(leader, 65_536)
            os.close(leader)
            assert done.returncode == 0
            assert (b"\x1b[" in said) is coloured


def test_ascii_alone_is_enough(environment: dict[str, str]) -> None:
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    assert hived(environment, "status").code == 3
    assert hived(environment, "resolve", "x").code == 1


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["--help"], ["completion", "bash"]])
def test_a_reader_that_leaves_is_no_error(environment: dict[str, str], words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hived", *words],
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Broken" not in done.stderr
    assert "Exception" not in done.stderr
    assert done.returncode == 128 + signal.SIGPIPE


def test_it_imports_nothing_that_it_does_not_need(environment: dict[str, str]) -> None:
    code = (
        "import sys; from hived.cli import main; main(['status']);"
        "heavy = {'asyncio','anyio','httpx','structlog','rich','psutil','ssl','litellm'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    configure(environment)
    with Running(environment):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
        )
    assert done.stderr.strip() == "[]"


def test_it_is_quick_when_everything_hangs(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        daemon.hold()
        wait_prompt(lambda: hived(environment, "status"), 3.0)
