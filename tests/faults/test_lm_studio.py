"""LM Studio: models that may be another device's, and an app that is open without its server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running, configure
from tests.faults.asking import refusal
from tests.faults.provoking import provokes
from tests.servers.lm_studio import QWEN, Listener, LmStudio, Stored, usual_models
from tests.servers.lm_studio_home import Link, install

THERE = Stored("openai/gpt-oss-20b", device="studio-mac")


def asked(
    environment: dict[str, str], home: Path, model: str, *, link: Link = "never", installed: bool = True
) -> Fault:
    """Ask, privately, an LM Studio that lists a linked device's model among its own."""
    models: Iterable[Stored] = (*usual_models(), THERE)
    if installed:
        install(home, models, link=link)
    with LmStudio(tuple(models)) as server:
        configure(environment, {"lm_studio": {"api_base": server.url}})
        with Running(environment) as daemon:
            assert daemon.client.resolve(f"lm_studio/{model}").api_base == f"{server.url}/v1"
            if installed and link != "on":
                private = daemon.client.resolve(f"lm_studio/{QWEN}", private=True)
                assert private.locality == "device"
            found = refusal(daemon.client, f"lm_studio/{model}", private=True)
        assert server.loads == []
    return found


@provokes("model.maybe_linked", "LM Studio lists a model that is not on this device's disk")
def test_a_model_of_a_linked_device(environment: dict[str, str], home: Path) -> Fault:
    found = asked(environment, home, THERE.key)
    assert found.hint == f"lms get {THERE.key}"
    return found


@provokes("model.maybe_linked", "LM Link is in use, and the model is on this device's disk too")
def test_a_model_that_a_linked_device_may_have_as_well(environment: dict[str, str], home: Path) -> Fault:
    found = asked(environment, home, QWEN, link="on")
    assert found.hint == "lms link disable"
    return found


@provokes("model.maybe_linked", "LM Studio's models folder is not to be found")
def test_a_models_folder_that_nobody_can_read(environment: dict[str, str], home: Path) -> Fault:
    found = asked(environment, home, QWEN, installed=False)
    assert found.hint.startswith("ls -ld ")
    return found


@provokes("server.closed", "LM Studio is open and listens for its own clients, and its server is not started")
def test_an_open_app_without_its_server(environment: dict[str, str], home: Path, unused_port: int) -> Fault:
    with Listener() as listener:
        install(home, usual_models(), listener=listener.port)
        configure(environment, {"lm_studio": {"api_base": f"http://127.0.0.1:{unused_port}"}})
        with Running(environment) as daemon:
            found = refusal(daemon.client, f"lm_studio/{QWEN}")
            world = daemon.client.world().world
            assert [endpoint.state for endpoint in world.endpoints] == ["down"]
            assert [problem.code for problem in world.problems] == ["server.closed"]
    assert found.hint == f"lms server start --port {unused_port}"
    return found
