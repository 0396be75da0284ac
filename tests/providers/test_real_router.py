"""A real llama-server in router mode, where one is on PATH (the wheel's has no router): probe and daemon.

``PATH=…/llama.cpp/bin:$PATH python -m pytest -m real tests/providers/test_real_router.py``
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from hived.decisions.outcomes import Heard
from hived.machine.ports import free_port
from hived.providers.http import Http
from hived.providers.llamacpp import LlamaCpp
from hived_client.errors import NotReady
from hived_client.vocabulary.world import Change, Endpoint, Model
from tests.daemon.running import Running, configure, llamacpp_at, wait_until
from tests.servers.heavy_model import write_heavy_model
from tests.servers.llamacpp import speaking_model

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("llama-server") is None, reason="no llama-server on PATH"),
]


TOLD = 0.3
"""Seconds within which clients know what the router says by itself. A push is in question here, not a
look, of which the next may be fifteen seconds away."""


@contextlib.contextmanager
def running(folder: Path, *extra: str) -> Iterator[str]:
    """Run a router over the models in a folder, of which one fits; give its address."""
    port = free_port()
    options = f"--models-max 1 --offline --host 127.0.0.1 --port {port} -c 512 -np 1 -t 1 --no-warmup"
    command = [shutil.which("llama-server") or "", "--models-dir", str(folder), *options.split(), *extra]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _status(url) == 200)
        yield url
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(15)


def add_model(folder: Path, name: str) -> Path:
    """Put a model that works there, and return its file."""
    (folder / name).mkdir()
    path = folder / name / f"{name}.gguf"
    path.symlink_to(speaking_model())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tiny-a", "tiny-b"):
        add_model(tmp_path, name)
    return tmp_path


@pytest.fixture
def router(folder: Path) -> Iterator[Endpoint]:
    """A router with two models, of which one fits."""
    with running(folder) as url:
        yield Endpoint(name="router", provider="llamacpp", url=url, source="configuration", locality="device")


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


class Listening:
    """Keeps the events of a daemon as they come, each with the moment of its coming."""

    def __init__(self, daemon: Running) -> None:
        self.changes: list[tuple[float, Change]] = []
        self._client = daemon.another()
        # It ends with the daemon, which the test ends.
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):
            for change in self._client.events():
                self.changes.append((time.monotonic(), change))

    def moment(self, model: str, after: str, since: float) -> float | None:
        """When a model was told to be in a state, at the earliest since then."""
        return next(
            (at for at, c in self.changes if at >= since and (c.model, c.after) == (model, after)), None
        )

    def wait(self, model: str, after: str, since: float) -> float:
        """Wait until that is told, and return when it was."""
        wait_until(
            lambda: self.moment(model, after, since) is not None,
            lambda: f"{model} not {after}: {[c for _, c in self.changes]}",
        )
        found = self.moment(model, after, since)
        assert found is not None
        return found


@contextlib.contextmanager
def watched(environment: dict[str, str], url: str) -> Iterator[tuple[Running, Listening]]:
    """Run a daemon that has seen the router and listens to it, and somebody who listens to the daemon."""
    configure(environment, llamacpp_at(url))
    with Running(environment) as daemon:
        wait_until(lambda: bool(models(daemon)))
        wait_until(lambda: bool(daemon.client.statistics()["monitors"]["llamacpp"]["pushed"]))
        listening = Listening(daemon)
        time.sleep(0.3)  # the push and the subscription are under way, and neither says when it is
        yield daemon, listening


def models(daemon: Running) -> dict[str, Model]:
    (endpoint,) = daemon.client.world().world.endpoints
    return {model.name: model for model in endpoint.models or ()}


def states(daemon: Running) -> dict[str, str | None]:
    return {name: model.state for name, model in models(daemon).items()}


def told_within(url: str, listening: Listening, model: str, after: str) -> float:
    """Return how long after the router itself the clients were told: seconds, at most a poll too much."""
    begun = time.monotonic()
    wait_until(lambda: _listed(url)[model] == after)
    listed = time.monotonic()
    return listening.wait(model, after, begun - TOLD) - listed


def _listed(url: str) -> dict[str, str]:
    """What the router's own list says. Asking it loads nothing."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/models")
        found = json.loads(connection.getresponse().read())["data"]
    return {each["id"]: each["status"]["value"] for each in found}


def test_clients_are_told_of_a_load_an_unload_and_an_eviction(
    folder: Path, environment: dict[str, str]
) -> None:
    with running(folder) as url, watched(environment, url) as (daemon, listening):
        asked = daemon.client.statistics()["monitors"]["llamacpp"]["looks"]
        for path, model, after, expected in (
            ("/models/load", "tiny-a", "loaded", {"tiny-a": "loaded", "tiny-b": "unloaded"}),
            ("/models/load", "tiny-b", "loaded", {"tiny-a": "unloaded", "tiny-b": "loaded"}),
            ("/models/unload", "tiny-b", "unloaded", {"tiny-a": "unloaded", "tiny-b": "unloaded"}),
        ):
            _post(url, path, {"model": model})
            assert told_within(url, listening, model, after) <= TOLD
            wait_until(lambda expected=expected: states(daemon) == expected)  # type: ignore[misc]
        assert listening.moment("tiny-a", "loading", 0.0) is not None
        assert daemon.client.statistics()["monitors"]["llamacpp"]["looks"] > asked


def test_a_call_loads_what_resolve_named_and_the_other_one_is_evicted(
    folder: Path, environment: dict[str, str]
) -> None:
    with running(folder) as url, watched(environment, url) as (daemon, _):
        for model in ("tiny-a", "tiny-b"):
            target = daemon.client.resolve(f"llamacpp/{model}", timeout=5.0)
            assert [warning.code for warning in target.warnings] == ["model.unloaded"]
            body = {"model": target.name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
            _post(url, "/v1/chat/completions", body)
            wait_until(lambda model=model: states(daemon)[model] == "loaded")  # type: ignore[misc]
            assert daemon.client.resolve(f"llamacpp/{model}", timeout=5.0).warnings == ()
        wait_until(lambda: states(daemon) == {"tiny-a": "unloaded", "tiny-b": "loaded"})


def test_a_model_that_sleeps_is_left_asleep(folder: Path, environment: dict[str, str]) -> None:
    with (
        running(folder, "--sleep-idle-seconds", "1") as url,
        watched(environment, url) as (daemon, listening),
    ):
        begun = time.monotonic()
        _post(url, "/models/load", {"model": "tiny-a"})
        listening.wait("tiny-a", "sleeping", begun)
        wait_until(lambda: states(daemon)["tiny-a"] == "sleeping")
        for _ in range(3):
            daemon.client.refresh(timeout=5.0)
            assert states(daemon)["tiny-a"] == "sleeping"
            assert daemon.client.resolve("llamacpp/tiny-a", timeout=5.0).model == "openai/tiny-a"
        assert _listed(url)["tiny-a"] == "sleeping"


def test_a_load_that_fails_is_told_with_its_exit_code(folder: Path, environment: dict[str, str]) -> None:
    broken = add_model(folder, "broken")
    broken.unlink()
    broken.write_bytes(speaking_model().read_bytes()[:20_000])
    with running(folder) as url, watched(environment, url) as (daemon, listening):
        begun = time.monotonic()
        _post(url, "/models/load", {"model": "broken"})
        listening.wait("broken", "failed", begun)
        wait_until(lambda: states(daemon)["broken"] == "failed")
        found = models(daemon)["broken"].fault
        assert found is not None
        assert found.code == "model.failed"
        with pytest.raises(NotReady) as no:
            daemon.client.resolve("llamacpp/broken", timeout=5.0)
        assert no.value.fault.code == "model.failed"
        assert daemon.client.resolve("llamacpp/tiny-a", timeout=5.0).name == "tiny-a"
        # Whole again, it loads: a failure is not for ever.
        broken.write_bytes(speaking_model().read_bytes())
        begun = time.monotonic()
        _post(url, "/models/load", {"model": "broken"})
        listening.wait("broken", "loaded", begun)
        wait_until(lambda: states(daemon)["broken"] == "loaded")
        assert models(daemon)["broken"].fault is None


def test_the_progress_of_a_load_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "heavy").mkdir()
    write_heavy_model(tmp_path / "heavy" / "heavy.gguf")
    with running(tmp_path, "--load-mode", "none") as url, watched(environment, url) as (daemon, listening):
        seen: list[float | None] = []
        begun = time.monotonic()
        _post(url, "/models/load", {"model": "heavy"})
        while listening.moment("heavy", "loaded", begun) is None:
            assert time.monotonic() < begun + 60.0
            seen.append(models(daemon)["heavy"].progress)
            time.sleep(0.002)  # between two looks at the snapshot
        told = sorted({share for share in seen if share is not None})
        assert len(told) >= 2, seen
        assert 0.0 <= told[0] < told[-1] <= 1.0
        # An event may be a few milliseconds ahead of the snapshot.
        wait_until(lambda: states(daemon) == {"heavy": "loaded"})
        assert models(daemon)["heavy"].progress is None


@pytest.mark.anyio
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
