"""What is known of the servers that hived started: by their addresses, and in words."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest

from hived.daemon.clock import Clock
from hived.daemon.launching import END_PATIENCE
from hived.daemon.looking_first import LOOK_PATIENCE
from hived.daemon.servers import Servers, process_of
from hived.machine import transient
from hived.machine.processes import KILL_PATIENCE, identify
from hived.machine.recipes import Stage, Wanted
from hived.machine.records import Records, Started
from hived.machine.start_vllm import VllmRecipe
from hived_client.doors import sync
from tests.client.worlds import endpoint

LOCAL = "http://127.0.0.1:11434"


def started(**more: object) -> Started:
    known: dict[str, object] = {
        "endpoint": "ollama",
        "provider": "ollama",
        "url": LOCAL,
        "identity": None,
        "argv": ("ollama", "serve"),
        "model": "",
        "alias": "a" if more.get("model") else "",
        "log": "/nowhere",
        "started_at": 0.0,
    }
    return Started(**(known | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [(LOCAL, True), ("http://localhost:11434", True), ("http://gpu:11434", False)],
)
def test_a_server_elsewhere_that_has_its_name_is_not_ours(tmp_path: Path, url: str, is_ours: bool) -> None:
    servers = Servers(Records(tmp_path), {}, Clock())
    servers.put(started())
    assert (servers.of(endpoint("ollama", "ollama", url=url)) is not None) is is_ours


class ThreadsRecipe(VllmRecipe):
    """vLLM's, which keeps in which thread a log was read."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def stage(self, text: str) -> Stage | None:
        self.threads.append(threading.current_thread())
        return Stage(words=text)

    def why_it_ended(self, text: str, *, started: bool) -> str:
        self.threads.append(threading.current_thread())
        return text


@pytest.mark.anyio
@pytest.mark.parametrize("alive", [True, False])
async def test_a_log_is_read_beside_the_loop(tmp_path: Path, alive: bool) -> None:
    recipe = ThreadsRecipe()
    servers = Servers(Records(tmp_path), {"vllm": recipe}, Clock())
    identity = identify(os.getpid())
    assert identity is not None
    (tmp_path / "log").write_text("words")
    servers.put(
        started(
            provider="vllm",
            identity=identity if alive else msgspec.structs.replace(identity, started=1.0),
            log=str(tmp_path / "log"),
        )
    )
    found = await servers.circumstances(endpoint("vllm", "vllm", url=LOCAL))
    assert (found.process_alive, found.stage or found.last_words) == (alive, "words")
    assert len(recipe.threads) == 1
    assert threading.current_thread() not in recipe.threads


def test_a_client_waits_for_a_stop_as_long_as_the_daemon_may_need() -> None:
    a_start_that_comes_first = LOOK_PATIENCE + transient.ONESHOT_PATIENCE
    its_end = END_PATIENCE + KILL_PATIENCE + transient.STOP_PATIENCE
    assert a_start_that_comes_first + its_end <= sync.STOP_PATIENCE


LLAMACPP = {"provider": "llamacpp", "url": "http://127.0.0.1:8080", "model": "/m/my tiny.gguf"}


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (started(), "hived start ollama"),
        (started(wanted=Wanted(url=LOCAL)), "hived start ollama"),
        (started(wanted=Wanted(port=1234)), "hived start ollama --port 1234"),
        (started(**LLAMACPP), "hived start llamacpp --model '/m/my tiny.gguf' --port 8080 --alias a"),
        (
            started(
                **LLAMACPP,
                wanted=Wanted(model="/m/my tiny.gguf", context=4096, arguments=("--override-kv", "a=b c")),
            ),
            "hived start llamacpp --model '/m/my tiny.gguf' --port 8080 --ctx-size 4096 -- "
            "--override-kv 'a=b c'",
        ),
    ],
)
def test_the_command_that_starts_it_again_says_all_that_was_asked(record: Started, command: str) -> None:
    assert process_of(record).start() == command


def test_a_server_that_was_started_anew_is_another_one_although_its_process_is_nobodys(
    tmp_path: Path,
) -> None:
    first = started(endpoint="lm_studio", provider="lm_studio", started_at=1.0)
    second = msgspec.structs.replace(first, started_at=2.0)
    servers = Servers(Records(tmp_path), {}, Clock())
    servers.put(first)
    assert servers.is_current(first)
    servers.put(second)
    assert servers.is_current(msgspec.structs.replace(second, ready_at=3.0))
    assert not servers.is_current(first)
