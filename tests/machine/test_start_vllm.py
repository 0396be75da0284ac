"""How vLLM is started, how far a start is, and what its log says of an end.

``logs/vllm_*.log`` were written by a real one (0.32, on a CPU); their paths are made up, their middles cut.
What needs a graphics card or the network is quoted from its source and from Hugging Face's library.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hived.machine.ports import free_port
from hived.machine.recipes import Launch, Stage, Wanted
from hived.machine.start_vllm import VllmRecipe
from hived_client.errors import HivedError
from tests.machine.layouts import Layout

LOGS = Path(__file__).parent / "logs"
MODEL = "org/tiny"
STAGES = (
    *("reading its configuration", "starting its engine", "loading weights", "preparing the engine"),
    *("making its cache", "warming up", "opening its port"),
)
"""Stages of a start on a CPU, in their order."""


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.program("~/path/vllm")
    return layout


def prepare(computer: Layout, wanted: Wanted, **variables: str) -> Launch:
    return VllmRecipe(str(computer.root)).prepare(wanted, computer.environment | variables)


def refused(computer: Layout, wanted: Wanted) -> tuple[str, str]:
    with pytest.raises(HivedError) as caught:
        prepare(computer, wanted)
    return caught.value.code, f"{caught.value.message} {caught.value.hint}"


def test_its_words_say_where_it_listens_and_no_secret(computer: Layout) -> None:
    port = free_port()
    launch = prepare(
        computer,
        Wanted(model=MODEL, port=port, context=8192, arguments=("--enforce-eager", "--dtype=float16")),
        HF_TOKEN="t",
        VLLM_API_KEY="k",
        VLLM_SERVER_DEV_MODE="1",
        NOTIFY_SOCKET="/n",
    )
    assert launch.argv == (
        *(str(computer.home / "path" / "vllm"), "serve", MODEL, "--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", MODEL, "--max-model-len", "8192", "--enforce-eager", "--dtype=float16"),
    )
    assert (launch.url, launch.stays, launch.ends_with) == (f"http://127.0.0.1:{port}", True, ())
    assert launch.environment["HF_TOKEN"] == "t"
    assert launch.environment["VLLM_NO_USAGE_STATS"] == "1"
    assert launch.environment.keys().isdisjoint({"VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "NOTIFY_SOCKET"})
    assert "VLLM_API_KEY is not passed on" in launch.notes[0]


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_it_listens_at_the_loopback_address_that_it_is_configured_at(computer: Layout, host: str) -> None:
    try:
        port = free_port(host)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    launch = prepare(computer, Wanted(model=MODEL, url=url))
    assert launch.url == url
    assert launch.argv[launch.argv.index("--host") + 1] == host


@pytest.mark.parametrize("url", ["http://gpu:8000", "http://lab.localhost:8000", "https://127.0.0.1:8000"])
def test_what_is_configured_elsewhere_is_not_started_here(computer: Layout, url: str) -> None:
    assert refused(computer, Wanted(model=MODEL, url=url))[0] == "start.elsewhere"


def test_a_folder_is_called_by_its_name_and_has_to_hold_a_model(computer: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-0.6B"
    assert refused(computer, Wanted(model=str(folder)))[0] == "start.no_file"
    folder.mkdir()
    code, said = refused(computer, Wanted(model=str(folder)))
    assert code == "start.no_file"
    assert f"{folder}/config.json" in said
    (folder / "config.json").write_text("{}")
    assert prepare(computer, Wanted(model=str(folder))).alias == "Qwen3-0.6B"
    assert prepare(computer, Wanted(model=str(folder), alias="best")).alias == "best"


@pytest.mark.parametrize(
    "word",
    [
        *(
            "--host",
            "--host=0.0.0.0",
            "--ho",
            "--port",
            "--uds",
            "--api-key",
            "--api_key=x",
            "--api",
            "--model",
        ),
        *("--served_model_name", "--max-model-len", "--max", "--hf-token", "--hf-t", "--ssl-keyfile"),
    ],
)
def test_what_hived_says_itself_and_what_is_secret_is_not_passed_on(computer: Layout, word: str) -> None:
    code, said = refused(computer, Wanted(model=MODEL, arguments=(word,)))
    assert code == "params.invalid"
    assert word.partition("=")[0] in said


@pytest.mark.parametrize(
    "word", ["--model-impl=vllm", "--hf-overrides={}", "--api-server-count=2", "-tp", "-O3"]
)
def test_what_only_begins_alike_is_passed_on(computer: Layout, word: str) -> None:
    assert prepare(computer, Wanted(model=MODEL, arguments=(word,))).argv[-1] == word


def test_what_it_cannot_be_started_with_is_said(computer: Layout) -> None:
    assert refused(computer, Wanted()) == (
        "start.no_model",
        "vLLM is started with a model. hived start vllm --model MODEL",
    )
    assert refused(computer, Wanted(model="--help"))[0] == "params.invalid"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused(computer, Wanted(model=MODEL, port=port))
        assert code == "start.port_taken"
        assert f"hived start vllm --model {MODEL} --port 0" in said
        assert (
            prepare(computer, Wanted(model=MODEL, url=f"http://127.0.0.1:{port}")).url.endswith(str(port))
            is False
        )
    (computer.home / "path" / "vllm").unlink()
    assert refused(computer, Wanted(model=MODEL))[0] in ("start.not_installed", "start.no_file")


def written(name: str) -> str:
    return (LOGS / f"vllm_{name}.log").read_text()


ENGINE = "(EngineCore_DP0 pid=9) {level} 11-27 05:26:09 [core.py:708] {words}\n"
FREE = (
    "Free memory on device cuda:0 (70.1/79.2 GiB) on startup. Desired GPU memory utilization is (0.92, 72.9)."
)
LED_TO = "(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.\n"


def in_engine(cause: str) -> str:
    """Return the log of an engine that failed, as its two processes tell of it."""
    lines = [("INFO", FREE), ("ERROR", "EngineCore failed to start."), ("ERROR", cause)]
    return "".join(ENGINE.format(level=level, words=words) for level, words in lines) + LED_TO


OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8."
)
FULL = (
    "ValueError: Free memory on device cuda:0 (3.1/23.6 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 21.7 GiB). Decrease GPU memory utilization or reduce GPU memory used by others."
)
LONG = (
    "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (3.9 GiB). Based on the available memory, "
    "the estimated maximum model length is 32256. Try increasing `gpu_memory_utilization`"
)
BLOCKS = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when"
LIBRARY = "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory\n"
DRIVER = (
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: CUDA driver version is "
    "insufficient for CUDA runtime version"
)
GATED = """\
huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-x;y)

Cannot access gated repo for url https://huggingface.co/org/tiny/resolve/main/config.json.
Access to model org/tiny is restricted. You must have access to it and be authenticated to access it.
"""
NOWHERE = """\
huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-x;y)

Repository Not Found for url: https://huggingface.co/api/models/org/tiny.
Please make sure you specified the correct `repo_id` and `repo_type`.
If you are trying to access a private or gated repo, make sure you are authenticated.
"""


@pytest.mark.parametrize(
    ("log", "code", "why", "hint"),
    [
        (
            written("option"),
            "start.option",
            "unrecognized arguments: --no-such-flag",
            "vllm serve --help=all",
        ),
        (written("unknown_model"), "start.unknown_model", "cached snapshot folder", "hf download org/tiny"),
        (written("model_type"), "start.architecture", "model type `nope`", "pip install --upgrade vllm"),
        (written("architecture"), "start.architecture", "['NopeForCausalLM'] are not", "--upgrade vllm"),
        (written("port"), "start.port_taken", "is taken", "hived start vllm --model org/tiny --port 0"),
        (written("context"), "start.context", "max_model_len (100000)", "--model org/tiny --ctx-size 2048"),
        (written("heads"), "start.ended", "attention heads (2) must be divisible", "less /log"),
        (in_engine(OOM), "start.no_memory", "CUDA out of memory", "--model org/tiny --ctx-size 4096"),
        (in_engine(FULL), "start.no_memory", "3.1/23.6 GiB", "-- --gpu-memory-utilization 0.7"),
        (in_engine(LONG), "start.context", "131072", "--ctx-size 32256"),
        (in_engine(BLOCKS), "start.no_memory", "cache blocks", "-- --gpu-memory-utilization 0.97"),
        (LIBRARY, "start.library", "libcudart.so.12", "pip install --upgrade vllm --force-reinstall"),
        (in_engine(DRIVER), "start.driver", "insufficient", "nvidia-smi"),
        ("RuntimeError: Failed to infer device type\n", "start.driver", "infer device type", "nvidia-smi"),
        (GATED, "start.gated", "org/tiny is restricted", "hf auth login"),
        (NOWHERE, "start.unknown_model", "Repository Not Found", "hf download org/tiny"),
        ("KeyError: 'x'\nRuntimeError: what it led to\n", "start.ended", "KeyError: 'x'", "less /log"),
        ("", "start.ended", "ended while it started.", "less /log"),
    ],
)
def test_the_log_of_an_end_is_a_row_of_the_catalogue(log: str, code: str, why: str, hint: str) -> None:
    recipe = VllmRecipe()
    launch = Launch(argv=("vllm", "serve"), environment={}, url="http://127.0.0.1:1", model=MODEL)
    found = recipe.fault_of_end(launch, recipe.why_it_ended(log, started=False), "/log")
    assert found.code == code
    assert why in found.message
    assert hint in found.hint


@pytest.mark.parametrize(
    ("log", "asked", "hint"),
    [
        (BLOCKS, ("--gpu-memory-utilization", "0.5"), "-- --gpu-memory-utilization 0.97"),
        (BLOCKS, ("--gpu-memory-utilization", "0.97"), "--ctx-size 4096 -- --gpu-memory-utilization 0.97"),
        (FULL, ("--gpu_memory_utilization=0.7", "--seed", "5"), "-- --seed 5 --gpu-memory-utilization 0.4"),
        (
            FULL,
            ("--gpu-memory-utilization=0.9", "--gpu-memory-utilization"),
            "-- --gpu-memory-utilization 0.7",
        ),
        (FULL, ("--gpu-memory-utilization", "0.1"), "--ctx-size 4096 -- --gpu-memory-utilization 0.1"),
    ],
)
def test_a_share_of_the_memory_that_failed_is_not_told_again(
    log: str, asked: tuple[str, ...], hint: str
) -> None:
    recipe = VllmRecipe()
    launch = Launch(
        argv=("vllm", "serve"),
        environment={},
        url="http://127.0.0.1:1",
        model=MODEL,
        wanted=Wanted(arguments=asked),
    )
    found = recipe.fault_of_end(launch, recipe.why_it_ended(in_engine(log), started=False), "/log")
    assert found.hint == f"hived start vllm --model {MODEL} {hint}"


def test_the_log_of_a_real_one_that_lost_its_engine_tells_so_although_it_ended_well() -> None:
    died = written("engine_died")
    assert VllmRecipe().broke_down(died)
    assert VllmRecipe().why_it_ended(died, started=True) == "its engine ended"
    assert not VllmRecipe().broke_down(written("ready"))


def test_of_one_that_had_served_only_a_reason_is_told() -> None:
    served = "(APIServer pid=7) INFO 11-27 05:26:09 [launcher.py:1] Shutting down\n"
    assert VllmRecipe().why_it_ended(served, started=True) == ""
    assert VllmRecipe().why_it_ended(served + OOM, started=True) == OOM


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("(APIServer pid=1) INFO 11-27 05:26:09 [api_utils.py:286] non-default args: {}", None),
        ("Fetching 14 files:  21%|##        | 3/14 [00:10<00:40,  3.6s/it]", ("downloading", 0.21)),
        (
            "(EngineCore pid=2) INFO 11-27 05:26:09 [x.py:1] Starting to load model org/tiny...",
            ("loading weights", None),
        ),
        (
            "(EngineCore pid=2) \rLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]",
            ("loading weights", 0.5),
        ),
        ("INFO 11-27 05:26:09 [x.py:1] Loading weights took 1.20 seconds", ("preparing the engine", None)),
        ("INFO 11-27 05:26:09 [x.py:1] Starting torch.compile", ("compiling", None)),
        ("INFO 11-27 05:26:09 [x.py:1] Available KV cache memory: 3 GiB", ("making its cache", None)),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%|####  | 2/5",
            ("capturing graphs", 0.4),
        ),
        ("INFO 11-27 05:26:09 [x.py:1] Warming up model for the compilation...", ("warming up", None)),
        (
            "INFO 11-27 05:26:09 [x.py:1] Starting vLLM server on http://127.0.0.1:8000",
            ("opening its port", None),
        ),
    ],
)
def test_the_last_stage_that_a_log_tells_of_counts(line: str, stage: tuple[str, float | None] | None) -> None:
    found = VllmRecipe().stage(f"Fetching 1 files: 100%|#| 1/1\n{line}\n" if stage else line)
    assert found == (Stage(words=stage[0], share=stage[1]) if stage is not None else None)


def test_the_log_of_a_real_start_tells_one_stage_after_the_other() -> None:
    lines = written("ready").splitlines(keepends=True)
    stages = [VllmRecipe().stage("".join(lines[:end])) for end in range(len(lines))]
    told = list(dict.fromkeys(stage.words for stage in stages if stage is not None))
    assert told == list(STAGES)
    assert VllmRecipe().why_it_ended("".join(lines), started=True) == ""
