"""The probe against a real llama-server in router mode, where one is on PATH (the wheel's has no router)."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from hived.decisions.outcomes import Heard
from hived.machine.llamacpp import free_port
from hived.providers.http import Http
from hived.providers.llamacpp import LlamaCpp
from hived_client.vocabulary.world import Endpoint
from tests.benchmarks.measuring import wait_until
from tests.servers.llamacpp import speaking_model

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("llama-server") is None, reason="no llama-server on PATH"),
]


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Endpoint]:
    """A router with two models, of which one fits."""
    for name in ("tiny-a", "tiny-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.gguf").symlink_to(speaking_model())
    port = free_port()
    options = f"--models-max 1 --offline --host 127.0.0.1 --port {port} -c 512 -np 1 -t 1 --no-warmup"
    command = [shutil.which("llama-server") or "", "--models-dir", str(tmp_path), *options.split()]
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _status(url) == 200)
        yield Endpoint(name="router", provider="llamacpp", url=url, source="configuration", locality="device")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(15)


def _status(url: str) -> int | None:
    try:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=1)
        connection.request("GET", "/health")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _post(url: str, path: str, body: object) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


async def test_a_router_is_watched_and_nothing_that_is_asked_loads_a_model(router: Endpoint) -> None:
    http_client = Http()
    probe = LlamaCpp(http_client, {})
    told: list[float] = []
    try:
        for thorough in (True, False, True, False):
            first = await probe.look(router, thorough=thorough)
            assert isinstance(first, Heard)
            assert {m.name: m.state for m in first.models or ()} == {
                "tiny-a": "unloaded",
                "tiny-b": "unloaded",
            }
            router = msgspec.structs.replace(router, state="ready", mode=first.mode, models=first.models)
        assert probe.has_push(router)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(probe.push, router, lambda: told.append(anyio.current_time()))
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(_post, router.url, "/models/load", {"model": "tiny-a"})
            with anyio.fail_after(20):
                while True:
                    seen = await probe.look(router, thorough=True)
                    assert isinstance(seen, Heard)
                    models = {m.name: m for m in seen.models or ()}
                    if models["tiny-a"].state == "loaded":
                        break
                    await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
        assert len(told) >= 2
        assert models["tiny-a"].loaded_context == 512
        assert "tools" in (models["tiny-a"].capabilities or ())
        assert models["tiny-b"].state == "unloaded"
    finally:
        await http_client.aclose()
