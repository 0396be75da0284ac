"""Questions that cannot be answered with yes, or not without a warning."""

from __future__ import annotations

import functools
from pathlib import Path

from hived_client.vocabulary.faults import Fault
from tests.faults.asking import Shared, at, problem, raised, settled
from tests.faults.provoking import provokes
from tests.servers.llamacpp_router import LlamaCppRouter
from tests.servers.lm_studio import QWEN, LmStudio
from tests.servers.loading import LlamaCppLoading
from tests.servers.ollama import Ollama
from tests.servers.ollama_folder import ModelsFolder, config_bytes
from tests.servers.strangers import LyingLlamaCpp


@provokes("model.unnamed", "a name without a provider")
def test_a_name_alone(shared: Shared) -> Fault:
    return shared.refusal({}, "llama3.2")


@provokes("provider.unknown", "a prefix that is nobody's name")
def test_nobody(shared: Shared) -> Fault:
    return shared.refusal({}, "nobody/llama3.2")


@provokes("provider.nowhere", "a provider with no endpoint, and no guessing")
def test_nowhere(shared: Shared) -> Fault:
    return shared.refusal({}, "vllm/llama3.2")


@provokes("question.invalid", "a context of no tokens")
def test_no_question(shared: Shared) -> Fault:
    return raised(functools.partial(shared.expecting({}).resolve, "ollama/x", context=0))


@provokes("model.unknown", "a model that Ollama does not have")
def test_unknown_model(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("qwen3:8b")
        return shared.refusal({"ollama": at(server.url)}, "ollama/llama3.2")


@provokes("model.ambiguous", "two servers that have it alike")
def test_ambiguous(shared: Shared) -> Fault:
    with Ollama() as one, Ollama() as other:
        one.add("qwen3:8b")
        other.add("qwen3:8b")
        providers = {"here": at(one.url, like="ollama"), "there": at(other.url, like="ollama")}
        shared.expecting(providers).refresh()
        return shared.refusal(providers, "ollama/qwen3:8b", fresh=True)


@provokes("model.failed", "a router whose server for the model ended at once")
def test_failed_model(shared: Shared) -> Fault:
    with LlamaCppRouter() as server:
        server.fail_load("tiny-a")
        server.load("tiny-a")
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/tiny-a")


@provokes("model.incomplete", "a manifest of Ollama's, and the file of the weights is gone")
def test_incomplete_model(home: Path, unused_port: int) -> Fault:
    models = ModelsFolder(home / "models")
    config = config_bytes()
    models.write(
        "qwen3:8b", config, [("application/vnd.ollama.image.model", f"sha256:{'a' * 64}", 5_000_000)]
    )
    for blob in (home / "models" / "blobs").glob(f"*{'a' * 64}"):
        blob.unlink()
    with settled(home, OLLAMA_MODELS=str(home / "models")) as daemon:
        return problem(
            "model.incomplete", Shared(daemon).expecting({"ollama": at(f"http://127.0.0.1:{unused_port}")})
        )


@provokes("model.loading", "a router that loads it")
def test_loading_model(shared: Shared) -> Fault:
    with LlamaCppRouter(load_seconds=30.0) as server:
        server.load("tiny-a", wait=False)
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/tiny-a")


@provokes("model.downloading", "a router that downloads it")
def test_downloading_model(shared: Shared) -> Fault:
    with LlamaCppRouter() as server:
        server.start_download("org/new-model")
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/org/new-model")


@provokes("model.sleeping", "a llama.cpp server that has gone to sleep")
def test_sleeping_model(shared: Shared) -> Fault:
    with LlamaCppLoading("tiny") as server:
        server.finish()
        server.sleep()
        return shared.warning("model.sleeping", {"llamacpp": at(server.url)}, "llamacpp/tiny")


@provokes("model.unloaded", "a model that Ollama has on disk only")
def test_unloaded_model(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("qwen3:8b")
        return shared.warning("model.unloaded", {"ollama": at(server.url)}, "ollama/qwen3:8b")


@provokes("model.remote", "a private question about a model of Ollama's cloud")
def test_remote_model(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("big:cloud", remote=("https://ollama.com:443", "big"))
        return shared.refusal({"ollama": at(server.url)}, "ollama/big:cloud", private=True)


@provokes("model.lacks", "tools, of a model that only completes")
def test_model_without_tools(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("tinyllama", capabilities=("completion",))
        return shared.refusal({"ollama": at(server.url)}, "ollama/tinyllama", needs={"tools"})


@provokes("model.unsure", "vision, of a model whose server does not say what it can")
def test_unsure_model(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("old", capabilities=None)
        return shared.warning("model.unsure", {"ollama": at(server.url)}, "ollama/old", needs={"vision"})


@provokes("context.exceeds_loaded", "more context than llama.cpp was started with")
def test_more_than_is_loaded(shared: Shared) -> Fault:
    with LyingLlamaCpp() as server:
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/m", context=16_384)


@provokes("context.unsure", "context, of a model that LM Studio has not loaded yet")
def test_unsure_context(shared: Shared) -> Fault:
    with LmStudio() as server:
        asked = f"lm_studio/{QWEN}"
        return shared.warning("context.unsure", {"lm_studio": at(server.url)}, asked, context=4096)


@provokes("context.exceeds_native", "more context than the model was made for")
def test_more_than_it_can_hold(shared: Shared) -> Fault:
    with Ollama() as server:
        server.add("tinyllama", context_length=2048)
        return shared.refusal({"ollama": at(server.url)}, "ollama/tinyllama", context=32_768)
