"""What an answer knows beside yes and no: where else the model is, what starts it, what to mind."""

from __future__ import annotations

import json
from pathlib import Path

from hived_client.doors.sync import Client
from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running, wait_until, write_configuration
from tests.faults.asking import Shared, at, problem, refusal, resolved, settled, warning
from tests.faults.provoking import provokes
from tests.servers.llamacpp import ALIAS, LlamaCpp
from tests.servers.ollama import Ollama
from tests.servers.ollama_folder import ModelsFolder, config_bytes
from tests.servers.vllm import Vllm


def hive(daemon: Running, **sections: object) -> Client:
    """Write sections of Hive's, with no default port looked at; return a client that finds them read."""
    write_configuration(daemon.environment, json.dumps({"hived": {"guess": False}} | sections))
    daemon.client.reload()
    return daemon.client


def installed(home: Path, name: str) -> str:
    """Put a program on a path of its own: that it is installed must not be what is said."""
    program = home / "bin" / name
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return str(program.parent)


@provokes("model.elsewhere", "Ollama does not have the model, and a vLLM server has it")
def test_elsewhere(shared: Shared) -> Fault:
    with Ollama() as one, Vllm(("qwen3-8b",)) as other:
        client = shared.expecting({"ollama": at(one.url), "lab": at(other.url, like="vllm")})
        resolved(client, "lab/qwen3-8b")
        found = refusal(client, "ollama/qwen3-8b")
        assert found.hint == "hived resolve lab/qwen3-8b"
        return found


@provokes("model.server_down", "Ollama had the model, and has ended")
def test_it_was_there(home: Path) -> Fault:
    with settled(home, PATH=installed(home, "ollama")) as daemon:
        with Ollama() as server:
            server.add("llama3")
            client = Shared(daemon).expecting({"ollama": at(server.url)})
            resolved(client, "ollama/llama3")
        return refusal(client, "ollama/llama3", fresh=True)


@provokes("model.server_down", "llama.cpp was killed, and the file of its model is known")
def test_a_file_that_nobody_serves(shared: Shared) -> Fault:
    with LlamaCpp() as server:
        client = shared.expecting({"llamacpp": at(server.url)})
        resolved(client, f"llamacpp/{ALIAS}")
        file = server.model
    found = refusal(client, f"llamacpp/{ALIAS}", fresh=True)
    assert found.hint == f"hived start llamacpp --model {file}"
    return found


@provokes("model.partly_on_cpu", "Ollama found room on its accelerator for a part of the model")
def test_partly_on_the_processor(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("big")
        server.load("big", size=1_000_000, size_vram=620_000)
        found = shared.warning("model.partly_on_cpu", {"ollama": at(server.url)}, "ollama/big")
        assert found.message.startswith("38 % of 'big:latest' ")
        return found


@provokes("model.tools_unsure", "a vLLM server, which does not say whether it was started with a parser")
def test_tools_at_vllm(shared: Shared) -> Fault:
    with Vllm(("mistral",)) as server:
        providers = {"vllm": at(server.url)}
        found = shared.warning("model.tools_unsure", providers, "vllm/mistral", needs=("tools",))
        serve = "vllm serve mistral --enable-auto-tool-choice --tool-call-parser hermes"
        assert found.hint == f"{serve} --port {server.port}"
        return found


@provokes("server.vulnerable", "an Ollama that reads beyond its memory")
def test_an_old_version(shared: Shared) -> Fault:
    with Ollama(version="0.17.0") as server:
        server.add("m")
        found = shared.warning("server.vulnerable", {"ollama": at(server.url)}, "ollama/m")
        assert problem("server.vulnerable", shared.daemon.client) == found
        return found


@provokes("context.configured_exceeds", "Hive fills 32768 tokens, and a real llama.cpp has loaded fewer")
def test_a_window_that_is_not_there(home: Path) -> Fault:
    with LlamaCpp(context=1024) as server, settled(home) as daemon:
        section = {
            "provider": "openai",
            "api_base": f"{server.url}/v1",
            "model": ALIAS,
            "max_context_tokens": 32_768,
        }
        client = hive(daemon, llm=section, providers={"llamacpp": at(server.url)})
        return warning("context.configured_exceeds", resolved(client, f"llamacpp/{ALIAS}"))


@provokes("model.unknown", "the model of Hive's configuration was never pulled")
def test_a_configured_model_that_is_missing(home: Path) -> Fault:
    with Ollama() as server, settled(home) as daemon:
        server.add("llama3")
        section = {"provider": "ollama", "api_base": server.url, "model": "ollama/qwen3:8b"}
        client = hive(daemon, llm=section)
        found = problem("model.unknown", client)
        assert found.hint == f"OLLAMA_HOST={server.url.partition('://')[2]} ollama pull qwen3:8b"
        return found


@provokes("proxy.hijacks", "HTTP_PROXY is set where the model is called from, and NO_PROXY is not")
def test_a_proxy_in_the_way(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("m")
        shared.expecting({"ollama": at(server.url)})
        environment = shared.daemon.environment | {"HTTP_PROXY": "http://me:secret@proxy.lan:3128"}
        with Client(shared.daemon.where, environment=environment) as client:
            target = resolved(client, "ollama/m")
        found = warning("proxy.hijacks", target)
        assert "secret" not in str(target)
        return found


@provokes("model.server_down", "a model that lies on disk, and Ollama has not run since")
def test_it_lies_on_disk(home: Path, unused_port: int) -> Fault:
    folder = home / "models"
    ModelsFolder(folder).write("llama3:latest", config_bytes(), [("application/x", "0" * 64, 1)])
    with settled(home, OLLAMA_MODELS=str(folder), PATH=installed(home, "ollama")) as daemon:
        client = Shared(daemon).expecting({"ollama": at(f"http://127.0.0.1:{unused_port}")})
        wait_until(lambda: client.world().world.endpoints[0].models, "what lies on disk was not read")
        return refusal(client, "ollama/llama3")


@provokes("key.missing", "the configuration names a variable that is not set where the model is called from")
def test_the_callers_key_is_not_set(home: Path) -> Fault:
    with Ollama() as server, settled(home, LAB_KEY="sk-known-to-the-daemon-alone") as daemon:
        server.add("m")
        Shared(daemon).expecting({"ollama": at(server.url, api_key_env_var="LAB_KEY")})
        bare = {name: value for name, value in daemon.environment.items() if name != "LAB_KEY"}
        with Client(daemon.where, environment=bare) as client:
            return warning("key.missing", resolved(client, "ollama/m"))
