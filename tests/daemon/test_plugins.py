"""A provider that comes from elsewhere, in the real daemon: its row reaches clients that do not have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hived_client.errors import NotReady
from tests.cli.words import hived
from tests.daemon.running import Running, configure, llamacpp_at, wait_until, write_configuration
from tests.providers.plugin_folder import add_plugin, toy
from tests.servers.emulators import Emulator, Table
from tests.servers.strangers import LyingLlamaCpp

TABLE: Table = {"/toy": {"models": ["model"]}}
OTHER: Table = {"/toy": {"models": ["other"]}}

PLAIN = """
import importlib.util, json, sys
import hived_client
assert importlib.util.find_spec("hived_toy") is None
print(json.dumps(hived_client.resolve(sys.argv[1], timeout=60.0, private=True).completion_kwargs()))
"""


def with_plugins(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """Return an environment in which the distributions of a folder are installed."""
    return environment | {"PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(folder)])}


def plainly(environment: dict[str, str], model: str) -> dict[str, str]:
    """Resolve in a process that has no plug-in."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, model], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def folder(home: Path) -> Path:
    (home / "plugins").mkdir()
    return home / "plugins"


def test_it_is_called_by_clients_that_do_not_have_it(environment: dict[str, str], folder: Path) -> None:
    with Emulator(table=TABLE) as server, Emulator(table=OTHER) as second:
        # Its default port is looked at without being configured.
        add_plugin(folder, toy(ports=(server.port,)))
        write_configuration(
            environment,
            json.dumps({"providers": {"lab": {"like": "toy", "api_base": second.url + "/v1"}}}),
        )
        with Running(with_plugins(environment, folder)) as daemon:
            daemon.client.refresh()
            guessed = {"model": "openai/model", "api_base": f"{server.url}/v1", "api_key": "none"}
            assert plainly(environment, "toy/model") == guessed
            named = {"model": "openai/other", "api_base": f"{second.url}/v1", "api_key": "none"}
            assert plainly(environment, "lab/other") == named
            endpoints = {endpoint.name: endpoint for endpoint in daemon.client.world().world.endpoints}
            assert (endpoints["toy"].state, endpoints["toy"].source) == ("ready", "default")


def test_while_it_is_down_its_row_says_its_title_and_its_command(
    environment: dict[str, str], folder: Path, unused_port: int
) -> None:
    add_plugin(folder, toy(title="Toy Server").replace("shelf=on_disk,", ""))
    configure(environment, {"toy": {"api_base": f"http://127.0.0.1:{unused_port}"}})
    with Running(with_plugins(environment, folder)) as daemon:
        daemon.client.refresh()
        with pytest.raises(NotReady) as no:
            daemon.client.resolve("toy/model")
        assert (no.value.code, no.value.hint) == ("server.down", "toy serve")
        assert no.value.fault.message.startswith("Toy Server is not running at ")
        assert daemon.terminate() == 0
    # And the World that is left on disk says it too, with no daemon.
    said = hived(environment, "resolve", "toy/model")
    assert said.code == 1
    assert "Toy Server" in said.err


def test_its_models_on_disk_are_known_while_it_is_down(
    environment: dict[str, str], folder: Path, unused_port: int
) -> None:
    add_plugin(folder, toy())
    configure(environment, {"toy": {"api_base": f"http://127.0.0.1:{unused_port}"}})
    with Running(with_plugins(environment, folder)) as daemon:

        def names() -> list[str]:
            (endpoint,) = daemon.client.world().world.endpoints
            return [model.name for model in endpoint.models or ()]

        wait_until(lambda: names() == ["from-disk"])


@pytest.mark.slow
def test_a_reading_of_the_disk_that_never_ends_does_not_keep_the_daemon_from_ending(
    environment: dict[str, str], folder: Path, unused_port: int
) -> None:
    code = toy().replace(
        "return (Model(", "print('reading', flush=True); import time; time.sleep(3600); (Model("
    )
    add_plugin(folder, code)
    configure(environment, {"toy": {"api_base": f"http://127.0.0.1:{unused_port}"}})
    with Running(with_plugins(environment, folder)) as daemon:
        wait_until(lambda: "reading" in daemon.log)
        daemon.client.refresh()
        assert daemon.terminate() == 0


def test_one_that_fails_touches_nobody_else(environment: dict[str, str], folder: Path) -> None:
    add_plugin(folder, toy(look='raise ZeroDivisionError("sk-secret")'))
    add_plugin(folder, "raise RuntimeError('sk-secret')", name="bad", distribution="hived-bad")
    with Emulator(table=TABLE) as server, LyingLlamaCpp() as neighbour:
        configure(environment, {"toy": {"api_base": server.url}} | llamacpp_at(neighbour.url))
        with Running(with_plugins(environment, folder)) as daemon:
            wait_until(lambda: all(e.state != "unknown" for e in daemon.client.world().world.endpoints))
            world = daemon.client.world().world
            states = {endpoint.name: endpoint.state for endpoint in world.endpoints}
            assert states == {"toy": "failed", "llamacpp": "ready"}
            assert [problem.code for problem in world.problems] == ["provider.plugin_broken", "server.failed"]
            assert "its plug-in hived-toy raised ZeroDivisionError" in world.problems[1].message
            assert daemon.client.resolve("llamacpp/m").endpoint == "llamacpp"
            assert "secret" not in daemon.log + hived(environment, "status", "--json").out
            assert not daemon.events("service.crashed")
            assert len(daemon.events("plugin.failed")) == 1
