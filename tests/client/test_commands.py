"""Commands act on the server that they are about, or are not said."""

from __future__ import annotations

import msgspec
import pytest

from hived_client.resolution import Question, Refusal, WorldCatalogue, answer
from hived_client.vocabulary.kinds import LM_STUDIO, OLLAMA, VLLM, commands_at
from hived_client.vocabulary.world import Locality, Model
from tests.client.worlds import endpoint, world

LAN = "http://192.168.1.9:11434"


@pytest.mark.parametrize("url", ["http://127.0.0.1:11434", "http://localhost:11434", "http://[::1]:11434"])
def test_at_its_default_address_a_kind_has_its_own_commands(url: str) -> None:
    assert commands_at(OLLAMA, url, "device") is OLLAMA


@pytest.mark.parametrize(
    ("url", "locality", "start", "pull"),
    [
        ("http://127.0.0.1:11500", "device", "OLLAMA_HOST=127.0.0.1:11500 ollama serve", "127.0.0.1:11500"),
        ("http://[::1]:11500", "device", "OLLAMA_HOST='[::1]:11500' ollama serve", "'[::1]:11500'"),
        (LAN, "lan", "", "192.168.1.9:11434"),
        ("http://gpu-box", None, "", "gpu-box:80"),
        ("https://gpu.example", None, "", "https://gpu.example:443"),
    ],
)
def test_elsewhere_ollama_is_told_which_server_is_meant(
    url: str, locality: Locality | None, start: str, pull: str
) -> None:
    there = commands_at(OLLAMA, url, locality)
    assert there.start == start
    assert there.pull == f"OLLAMA_HOST={pull} ollama pull {{model}}"


def test_at_another_port_of_this_device_a_server_is_started_there() -> None:
    there = commands_at(VLLM, "http://127.0.0.1:18082/v1", "device")
    assert there.start == "vllm serve MODEL --host 127.0.0.1 --port 18082"
    assert there.tools.endswith(" --tool-call-parser hermes --port 18082")
    assert commands_at(LM_STUDIO, "http://127.0.0.1:18090", "device").start == "lms server start --port 18090"
    assert commands_at(VLLM, "http://127.0.0.1:8000/v1", "device") is VLLM


@pytest.mark.parametrize("name", ["--trust-remote-code", "-x"])
def test_no_command_is_made_of_a_name_that_would_be_an_option_of_it(name: str) -> None:
    lacking = Model(name=name, capabilities=("completion",))
    for provider in ("vllm", "llamacpp", "lm_studio"):
        for state in ("ready", "down"):
            found = world(endpoint("lab", provider, lacking, state=state))
            no = answer(WorldCatalogue(found), Question(model=f"lab/{name}", needs=("tools",)))
            assert isinstance(no, Refusal)
            assert name not in no.fault.hint


def test_no_braces_of_an_address_are_taken_for_a_field() -> None:
    assert commands_at(OLLAMA, "http://{x}:1", None).pull == ""


def test_what_would_start_or_install_something_here_is_not_said_of_another_device() -> None:
    there = commands_at(VLLM, "http://10.0.0.7:8000/v1", "lan")
    assert {there.start, there.start_model, there.load, there.tools, there.upgrade, there.install} == {""}
    assert (there.litellm, there.api_path, there.ports) == (VLLM.litellm, VLLM.api_path, VLLM.ports)


@pytest.mark.parametrize(("name", "url"), [("ollama", LAN), ("vllm", "http://10.0.0.7:8000")])
def test_a_server_of_another_device_that_is_down_is_not_started_here(name: str, url: str) -> None:
    setting = f"providers.{name}.api_base"
    down = endpoint(name, name, "x", url=url, locality="lan", state="down")
    down = msgspec.structs.replace(down, origin=setting)
    found = answer(WorldCatalogue(world(down)), Question(model=f"{name}/x"))
    assert isinstance(found, Refusal)
    assert found.fault.code == "model.server_down"
    assert found.fault.hint == f"set {setting} in ~/.hive/configuration.json"


def test_a_model_is_pulled_where_it_is_missing() -> None:
    up = endpoint("ollama", "ollama", Model(name="x"), url=LAN, locality="lan")
    found = answer(WorldCatalogue(world(up)), Question(model="ollama/llama3"))
    assert isinstance(found, Refusal)
    assert found.fault.hint == "OLLAMA_HOST=192.168.1.9:11434 ollama pull llama3"
