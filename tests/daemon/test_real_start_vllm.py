"""A real vLLM that hived starts, and one that cannot be. See ``tests/providers/test_real_vllm.py``."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hived_client.doors.wire import Begun
from hived_client.errors import HivedError
from tests.daemon.running import Running, configure, mentioning, wait_until
from tests.machine.test_start_vllm import STAGES
from tests.servers import tiny_llama
from tests.servers.real_vllm import READY

PYTHON = os.environ.get("HIVED_TEST_VLLM_PYTHON", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not PYTHON, reason="HIVED_TEST_VLLM_PYTHON names no Python with vLLM"),
]

# The package for CPUs has no working command of its own; its module takes the same words.
COMMAND = (
    '#!/bin/sh\nunset PYTHONPATH\nshift\nexec {python} -m vllm.entrypoints.openai.api_server --model "$@"\n'
)
ARGUMENTS = ("--dtype", "float32", "--max-num-seqs", "2", "--enforce-eager")


@pytest.fixture
def daemon(environment: dict[str, str], home: Path) -> Iterator[Running]:
    program = home / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(COMMAND.format(python=PYTHON))
    program.chmod(0o755)
    configure(environment)
    quick = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": "127.0.0.1",
    }
    with Running(environment | quick | {"PATH": f"{program.parent}:{environment['PATH']}"}) as running:
        yield running


@pytest.fixture
def model(home: Path) -> Path:
    folder = home / "tiny"
    subprocess.run([PYTHON, tiny_llama.__file__, folder, home / "adapter"], check=True, timeout=60)
    return folder


def test_real_it_is_started_called_and_stopped_with_all_its_processes(daemon: Running, model: Path) -> None:
    steps = list(
        daemon.client.start("vllm", model=str(model), context=512, arguments=ARGUMENTS, timeout=READY)
    )
    begun = steps[-1]
    assert isinstance(begun, Begun)
    messages = [step.message for step in steps[:-1] if not isinstance(step, Begun)]
    told = list(dict.fromkeys(message.partition("is starting: ")[2] for message in messages))
    print(f"ready after {begun.elapsed:.1f} s; told: {told}")  # for -s
    assert begun.models == ("tiny",)
    assert [stage for stage in STAGES if stage in told] == [stage for stage in told if stage]
    assert len(told) > 2  # some are over in less than a second
    target = daemon.client.resolve("vllm/tiny", context=512)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    request = urllib.request.Request(
        f"{target.api_base}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["usage"]["completion_tokens"] > 0
    ours = f"HOME={daemon.environment['HOME']}"
    assert len(mentioning(ours)) > 2  # the server, its engine, and the daemon
    assert daemon.client.stop("vllm", grace=30.0).endpoints == {begun.endpoint: "terminated"}
    wait_until(lambda: mentioning(ours) == [daemon.pid], lambda: f"{mentioning(ours)}")


def test_real_one_that_cannot_run_its_model_says_so(daemon: Running, model: Path) -> None:
    configuration = model / "config.json"
    configuration.write_text(configuration.read_text().replace("LlamaForCausalLM", "NopeForCausalLM"))
    with pytest.raises(HivedError) as caught:
        list(daemon.client.start("vllm", model=str(model), context=512, arguments=ARGUMENTS, timeout=READY))
    assert caught.value.code == "start.architecture", caught.value
    assert "NopeForCausalLM" in caught.value.message
    assert daemon.client.world().world.endpoints == ()
