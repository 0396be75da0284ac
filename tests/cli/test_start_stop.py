"""``hived start`` and ``hived stop`` with a real llama.cpp."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from tests.cli.words import hived
from tests.daemon.running import Running, configure, serving
from tests.servers.llamacpp import speaking_model


def test_a_model_is_started_called_and_stopped(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        said = hived(environment, "start", "llamacpp", "--model", str(speaking_model()), "--ctx-size", "512")
        assert said.code == 0, said
        assert "is ready at http://127.0.0.1:" in said.out
        assert said.err == ""
        assert "hived resolve llamacpp/tiny-agent" in said.out
        assert hived(environment, "resolve", "llamacpp/tiny-agent").code == 0
        name = said.out.split()[0]
        again = hived(environment, "start", "llamacpp", "--model", str(speaking_model()), "--json")
        assert again.code == 0
        assert json.loads(again.out)["endpoint"] == name
        said = hived(environment, "stop", name)
        assert (said.code, said.out) == (0, f"{name} has ended\n")
        said = hived(environment, "stop", name, "--json")
        assert said.code == 1
        assert json.loads(said.out)["code"] == "stop.nothing"
        assert daemon.client.statistics()["jobs"] == {"started": [], "children": []}


@pytest.mark.stress
def test_what_follows_two_dashes_reaches_the_server_or_is_refused(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        model = str(speaking_model())
        said = hived(environment, "start", "llamacpp", "--model", model, "--json", "--", "--parallel", "1")
        assert said.code == 0, said
        pid = json.loads(said.out)["pid"]
        assert b"--parallel\x001\x00" in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert hived(environment, "stop", "llamacpp", "--all", "--json").code == 0
        for words in (["--api-key", "sk-1"], ["--host", "0.0.0.0"], ["--tools", "all"]):
            said = hived(environment, "start", "llamacpp", "--model", model, "--", *words)
            assert said.code == 1
            assert words[0] in said.err
            assert words[1] not in said.err
        assert daemon.client.world().world.endpoints == ()


@pytest.mark.stress
def test_a_start_without_a_daemon_starts_one_and_stop_never_does(environment: dict[str, str]) -> None:
    configure(environment)
    for words in (["stop", "llamacpp"], ["stop", "llamacpp", "--json"]):
        said = hived(environment, *words)
        assert said.code == 3
        assert serving(environment) == []
    try:
        said = hived(environment, "start", "llamacpp", "--model", "/nowhere.gguf")
        assert said.code == 1
        assert "There is no model file /nowhere.gguf." in said.err
        assert "hived was not running; it is now" in said.err
        assert len(serving(environment)) == 1
    finally:
        for pid in serving(environment):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "words",
    [
        ["start"],
        ["stop"],
        ["start", "llamacpp", "--port", "x"],
        ["start", "llamacpp", "--timeout", "nan"],
        ["stop", "x", "--grace", "inf"],
        ["start", "llamacpp", "extra"],
    ],
)
@pytest.mark.stress
def test_wrong_words_are_usage(environment: dict[str, str], words: list[str]) -> None:
    assert hived(environment, *words).code == 2
