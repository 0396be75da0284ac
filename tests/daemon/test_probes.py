"""What this daemon can watch, put together: built-in kinds, plug-ins, and models on disk."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hived.daemon import probes
from hived.daemon.probes import BUILT_IN, gather_probes, shelf_of
from hived.providers.http import Http
from hived.providers.plugins import Found
from hived_client.vocabulary.world import Endpoint, Model, World
from tests.cli.words import hived
from tests.daemon.running import Running, configure, wait_until
from tests.providers.test_disk_huggingface import CONFIG, Hub

HERE = Endpoint(name="llamacpp", provider="llamacpp", url="http://127.0.0.1:8080", source="default")
TWO = (
    HERE,
    Endpoint(name="llamacpp-9931", provider="llamacpp", url="http://127.0.0.1:9931", source="default"),
)


@pytest.mark.anyio
async def test_every_built_in_kind_has_its_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "find_plugins", lambda http, environment: Found())
    gathered = await gather_probes(Http(), {})
    assert {name: probe.provider for name, probe in gathered.by_provider.items()} == {
        provider.kind.name: provider.kind.name for provider in BUILT_IN
    }
    assert set(gathered.shelves) == {"ollama", "vllm", "lm_studio", "llamacpp"}
    assert (gathered.kinds, gathered.broken) == ((), ())


@pytest.mark.anyio
async def test_the_loop_goes_on_while_plug_ins_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    ticked = threading.Event()

    def slow(http: object, environment: object) -> Found:
        assert ticked.wait(60.0), "the loop stood still"
        return Found()

    monkeypatch.setattr(probes, "find_plugins", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gather_probes, Http(), {})
        await anyio.lowlevel.checkpoint()
        ticked.set()


@pytest.mark.anyio
async def test_models_on_disk_are_shown_once_and_with_those_that_were_served_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "find_plugins", lambda http, environment: Found())
    hub = Hub(tmp_path / "hub")
    hub.add("u/q", "q-Q4_K_M.gguf")
    hub.add("u/weights", "a.safetensors", config=CONFIG)
    own = tmp_path / "own.gguf"
    own.write_bytes(b"GGUF")
    environment = {"HOME": str(tmp_path), "HF_HUB_CACHE": str(hub.folder)}
    gathered = await gather_probes(Http(), environment)
    served = (
        Model(name="own", file=str(own)),
        Model(name="gone", file=str(tmp_path / "gone.gguf")),
        Model(name="u/q:Q4_K_M", file="/elsewhere"),
        Model(name="nowhere"),
    )
    first = Endpoint(name="llamacpp", provider="llamacpp", url=HERE.url, source="default", models=served)
    world = World(generation=1, endpoints=(first, TWO[1]))

    async def read(endpoint: Endpoint) -> list[str]:
        shelf = shelf_of(gathered, endpoint, environment, lambda: world)
        return [model.name for model in await shelf()] if shelf is not None else []

    assert await read(TWO[0]) == ["u/q:Q4_K_M", "own"]
    assert await read(TWO[1]) == []
    vllm = Endpoint(name="vllm", provider="vllm", url="http://127.0.0.1:8000", source="default")
    world = World(generation=1, endpoints=(vllm,))
    assert await read(vllm) == ["u/weights"]
    assert (
        shelf_of(gathered, Endpoint(name="x", provider="x", url="", source="default"), {}, lambda: world)
        is None
    )


def test_the_daemon_knows_what_is_on_disk_while_its_servers_are_down(
    environment: dict[str, str], home: Path, unused_port: int
) -> None:
    hub = Hub(home / "hub")
    hub.add("u/q", "q-Q4_K_M.gguf")
    hub.add("u/weights", "a.safetensors", config=CONFIG)
    configure(
        environment,
        {
            "llamacpp": {"api_base": f"http://127.0.0.1:{unused_port}"},
            "vllm": {"api_base": f"http://127.0.0.3:{unused_port}"},
            "second": {"like": "vllm", "api_base": f"http://127.0.0.2:{unused_port}"},
        },
    )
    with Running(environment | {"HF_HUB_CACHE": str(hub.folder)}) as daemon:

        def on_disk() -> dict[str, list[tuple[str, str | None]]]:
            endpoints = daemon.client.world().world.endpoints
            return {e.name: [(m.name, m.state) for m in e.models or ()] for e in endpoints}

        wanted = {"llamacpp": [("u/q:Q4_K_M", "unloaded")], "vllm": [("u/weights", "unloaded")], "second": []}
        wait_until(lambda: on_disk() == wanted, lambda: str(on_disk()))
        daemon.client.refresh()
        assert on_disk() == wanted
        assert "u/q:Q4_K_M" in hived(environment, "status").out
