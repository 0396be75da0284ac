"""Worlds, models and questions of every shape, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from hived_client.resolution import Question
from hived_client.vocabulary.faults import CATALOGUE, Fault, fault
from hived_client.vocabulary.hardware import Bandwidth, Cpu, Gpu, Hardware, Memory, System
from hived_client.vocabulary.kinds import KINDS, ProviderKind
from hived_client.vocabulary.world import (
    Configuration,
    ConfiguredModel,
    Daemon,
    Endpoint,
    Locality,
    Model,
    ModelState,
    Process,
    Source,
    State,
    World,
)

STARTED = Process(
    pid=1,
    command=("x",),
    log="l",
    name="llamacpp-9001",
    provider="llamacpp",
    model="/m/my x.gguf",
    port=9001,
    arguments=("--n-gpu-layers", "5"),
)
"""A server that hived started with a port and words of its own."""

STATES: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]
MODEL_STATES: tuple[ModelState, ...] = ModelState.__args__  # type: ignore[attr-defined]
SOURCES: tuple[Source, ...] = Source.__args__  # type: ignore[attr-defined]
LOCALITIES: tuple[Locality, ...] = Locality.__args__  # type: ignore[attr-defined]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
model_names = st.sampled_from(["a", "A", "qwen/qwen3", "llama3:8b", "x.gguf", "ollama/a", "é"]) | texts
endpoint_names = st.sampled_from(["ollama", "Ollama", "vllm", "lab", "gpu", "llamacpp", "new", ""]) | texts
providers = st.sampled_from([*(kind.name for kind in KINDS), "sglang", "unheard_of"])
counts = st.none() | st.integers(0, 2**40)
faults: st.SearchStrategy[Fault] = st.sampled_from([fault(code) for code in CATALOGUE])

models = st.builds(
    Model,
    name=model_names,
    aliases=st.lists(model_names, max_size=2).map(tuple),
    file=st.none() | st.sampled_from(["/m/x.gguf", "x.gguf", "/m/", ""]),
    state=st.none() | st.sampled_from(MODEL_STATES),
    progress=st.none() | st.floats(0, 1),
    fault=st.none() | faults,
    size=counts,
    context=counts,
    loaded_context=counts,
    offload=st.none() | st.floats(0, 1),
    memory=counts,
    capabilities=st.none()
    | st.lists(st.sampled_from(["tools", "vision", "embedding"]), max_size=2).map(tuple),
    locality=st.none() | st.sampled_from(LOCALITIES),
)
configured_models = st.builds(
    ConfiguredModel,
    model=st.none() | model_names,
    num_ctx=counts,
    max_context_tokens=counts,
    max_tokens=counts,
    origin=st.sampled_from(["llm", "worker_llm", "provider_library.x", "providers.lab"]),
)
processes = st.builds(
    Process,
    pid=st.integers(1, 9),
    command=st.just(("x",)),
    log=texts,
    name=texts,
    provider=providers,
    model=model_names,
    port=counts,
    context=counts,
    alias=texts,
    arguments=st.lists(texts, max_size=2).map(tuple),
)
endpoints = st.builds(
    Endpoint,
    name=endpoint_names,
    provider=providers,
    url=st.sampled_from(["http://127.0.0.1:1", "http://h/v1", "http://[::1]:8/", "", "/v1", " ", "no url"]),
    source=st.sampled_from(SOURCES),
    locality=st.none() | st.sampled_from(LOCALITIES),
    state=st.sampled_from(STATES),
    reason=st.none() | faults,
    since=st.none() | st.floats(0, 2e9),
    models=st.none() | st.lists(models, max_size=4).map(tuple),
    key_ref=st.none() | st.just("SOME_KEY"),
    warnings=st.lists(faults, max_size=1).map(tuple),
    version=st.none() | st.sampled_from(["0.10.0", "0.17.0", "9.9.9", "b1-x"]) | texts,
    configured=st.lists(configured_models, max_size=2).map(tuple),
    process=st.none() | processes,
    slot=st.integers(-1, 70),
)
kinds = st.builds(
    ProviderKind,
    name=st.just("sglang"),
    title=st.just("SGLang"),
    prefixes=st.sampled_from([("sglang",), ("SGLang", "sgl"), ()]),
    litellm=st.just("openai"),
    api_path=st.sampled_from(["", "/v1"]),
    context_option=st.none() | st.just("num_ctx"),
)
daemons = st.builds(
    Daemon,
    version=st.just("0.1.0"),
    pid=st.integers(1, 2**22),
    started_at=st.floats(0, 2e9),
    managed_by=st.sampled_from(["systemd", "launchd", "client", "foreground"]),
    socket=texts,
    id=st.just("00" * 16),
    boot=texts,
)
configurations = st.builds(
    Configuration, path=texts, state=st.sampled_from(["ok", "missing", "broken"]), error=st.none() | faults
)
bandwidths = st.builds(Bandwidth, low=st.floats(1, 1e13), high=st.floats(1, 1e13), source=texts)
gpus = st.builds(
    Gpu,
    name=st.none() | texts,
    vendor=st.sampled_from(["nvidia", "amd", "intel", "apple", "other"]),
    memory=counts,
    free=counts,
    bandwidth=st.none() | bandwidths,
    usable=st.none() | st.booleans(),
    fault=st.none() | faults,
)
machines = st.builds(
    Hardware,
    runs_on=st.none() | st.sampled_from(["CUDA", "ROCm", "Metal", "Vulkan/Intel", "CPU"]),
    cpu=st.builds(Cpu, model=st.none() | texts, usable=st.none() | st.floats(0, 512)),
    memory=st.builds(Memory, total=counts, available=counts, bandwidth=st.none() | bandwidths),
    system=st.builds(System, name=st.none() | texts),
    gpus=st.none() | st.lists(gpus, max_size=3).map(tuple),
    problems=st.lists(faults, max_size=1).map(tuple),
)
worlds = st.builds(
    World,
    generation=st.integers(0, 2**63),
    daemon=st.none() | daemons,
    configuration=st.none() | configurations,
    hardware=st.none() | machines,
    endpoints=st.lists(endpoints, max_size=4, unique_by=lambda endpoint: endpoint.name).map(tuple),
    problems=st.lists(faults, max_size=2).map(tuple),
    kinds=st.lists(kinds, max_size=1).map(tuple),
)
questions = st.builds(
    Question,
    model=st.builds("{}/{}".format, endpoint_names | st.sampled_from(["OLLAMA_CHAT", "sgl"]), model_names)
    | texts,
    context=st.none() | st.integers(-1, 2**40),
    needs=st.lists(st.sampled_from(["tools", "vision"]), max_size=2).map(tuple),
    private=st.sampled_from([True, False, "lan", "LAN", ""]),
)


def world(*endpoints: Endpoint, generation: int = 1, kinds: tuple[ProviderKind, ...] = ()) -> World:
    """A World of these endpoints."""
    return World(generation=generation, endpoints=endpoints, kinds=kinds)


def endpoint(
    name: str = "lab",
    provider: str = "llamacpp",
    *models: Model | str,
    url: str = "http://127.0.0.1:8080",
    source: Source = "configuration",
    state: State = "ready",
    locality: Locality | None = "device",
    slot: int = 0,
    key_ref: str | None = None,
    reason: Fault | None = None,
    process: Process | None = None,
    unlearnt: bool = False,
) -> Endpoint:
    """An endpoint that is ready on this device, unless said otherwise."""
    served = tuple(Model(name=each, state="loaded") if isinstance(each, str) else each for each in models)
    return Endpoint(
        name=name,
        provider=provider,
        url=url,
        source=source,
        state=state,
        locality=locality,
        models=None if unlearnt else served,
        slot=slot,
        key_ref=key_ref,
        reason=reason,
        process=process,
    )
