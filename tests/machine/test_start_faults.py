"""What the logs of llama.cpp and Ollama mean that end while they start."""

from __future__ import annotations

import pytest

from hived.machine.recipes import Launch, Recipe, Wanted
from hived.machine.start_llamacpp import LlamaCppRecipe
from hived.machine.start_lm_studio import LmStudioRecipe
from hived.machine.start_ollama import OllamaRecipe
from hived.machine.start_vllm import VllmRecipe

LLAMACPP, OLLAMA, VLLM = LlamaCppRecipe(), OllamaRecipe(), VllmRecipe()
OLD_DRIVER = (
    "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"
)


@pytest.mark.parametrize(
    ("recipe", "log", "code", "hint"),
    [
        (
            LLAMACPP,
            "0.00.003 E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 1\n",
            "start.port_taken",
            "hived start llamacpp --model /m.gguf --port 0",
        ),
        (LLAMACPP, "hived-llamacpp: port 1 is taken\n", "start.port_taken", "--model /m.gguf --port 0"),
        (
            LLAMACPP,
            "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8128.00 MiB on device 0: cudaMalloc "
            "failed: out of memory\nE llama_model_load: error loading model: unable to allocate buffer\n",
            "start.no_memory",
            "hived start llamacpp --model /m.gguf --ctx-size 4096",
        ),
        (
            LLAMACPP,
            "/opt/llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared "
            "object file: No such file or directory\n",
            "start.library",
            "ldd /opt/llama-server",
        ),
        (
            LLAMACPP,
            "dyld[1]: Library not loaded: @rpath/libggml.dylib\n",
            "start.library",
            "ldd /opt/llama-server",
        ),
        (
            LLAMACPP,
            "E llama_model_load: error loading model: error loading model architecture: unknown model "
            "architecture: 'nope'\nE cmn common_init_: failed to load model '/m.gguf'\n",
            "start.architecture",
            "less /log",
        ),
        (LLAMACPP, "error: invalid argument: --nope\n", "start.option", "/opt/llama-server --help"),
        (LLAMACPP, f"{OLD_DRIVER}\n", "start.driver", "nvidia-smi"),
        (LLAMACPP, "GGML_ASSERT(x) failed\n", "start.ended", "less /log"),
        (
            OLLAMA,
            "Error: listen tcp 127.0.0.1:1: bind: address already in use\n",
            "start.port_taken",
            "ss -ltnp sport = :1",
        ),
        (
            OLLAMA,
            "ollama: error while loading shared libraries: libstdc++.so.6: cannot open shared object file\n",
            "start.library",
            "curl -fsSL https://ollama.com/install.sh | sh",
        ),
        (
            OLLAMA,
            "Error: could not create directory mkdir /x: permission denied\n",
            "start.ended",
            "less /log",
        ),
        (
            OLLAMA,
            "time=x level=INFO msg=a\npanic: runtime error: cannot allocate memory\n",
            "start.no_memory",
            "",
        ),
    ],
)
def test_the_log_of_an_end_is_a_row_of_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe, log: str, code: str, hint: str
) -> None:
    monkeypatch.setattr("hived_client.vocabulary.faults.system", lambda: "linux")
    launch = Launch(argv=("/opt/llama-server",), environment={}, url="http://127.0.0.1:1", model="/m.gguf")
    found = recipe.fault_of_end(launch, recipe.why_it_ended(log, started=False), "/log")
    assert found.code == code
    assert hint in found.hint
    assert found.hint
    assert "?" not in found.message


@pytest.mark.parametrize("recipe", [LLAMACPP, OLLAMA, VLLM, LmStudioRecipe(lambda _: "")])
def test_a_log_of_hiveds_own_folder_is_shown_by_hived(recipe: Recipe) -> None:
    launch = Launch(argv=("/opt/server",), environment={}, url="http://127.0.0.1:1")
    assert recipe.fault_of_end(launch, "it fell", "/s/logs/lab-2.log").hint == "hived logs lab-2"
    assert recipe.fault_of_end(launch, "it fell", "/s/logs").hint == "less /s/logs"


@pytest.mark.parametrize(
    ("recipe", "log", "instead"),
    [
        (LLAMACPP, "hived-llamacpp: port 9001 is taken\n", "--port 0 --ctx-size 8192 --alias a -- --seed 5"),
        (LLAMACPP, "E x: out of memory\n", "--port 9001 --ctx-size 4096 --alias a -- --seed 5"),
        (VLLM, "OSError: address already in use\n", "--port 0 --ctx-size 8192 --alias a -- --seed 5"),
        (
            VLLM,
            "ValueError: Free memory on device is less than desired GPU memory utilization\n",
            "--port 9001 --ctx-size 8192 --alias a -- --seed 5 --gpu-memory-utilization 0.7",
        ),
    ],
)
def test_what_else_was_asked_for_stands_in_the_hint_too(recipe: Recipe, log: str, instead: str) -> None:
    launch = Launch(
        argv=("/opt/server",),
        environment={},
        url="http://127.0.0.1:9001",
        wanted=Wanted(model="m", port=9001, context=8192, alias="a", arguments=("--seed", "5")),
        model="/m.gguf",
    )
    found = recipe.fault_of_end(launch, recipe.why_it_ended(log, started=False), "/log")
    assert found.hint == f"hived start {recipe.kind.name} --model /m.gguf {instead}"
