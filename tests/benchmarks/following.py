"""How soon clients see what changed: the configuration, a model on disk, a router's model, a new model."""

from __future__ import annotations

import http.client
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from hived.daemon.methods import A_MOMENT
from hived.decisions.addresses import host_and_port
from hived_client.doors.sync import Client, Connection
from hived_client.doors.wire import Nothing
from hived_client.resolution import Target
from hived_client.vocabulary.world import Endpoint, World
from tests.benchmarks.daemons import daemon, write_configuration
from tests.benchmarks.measuring import Row, Times, figure, short, wait_until
from tests.servers.llamacpp_router import LlamaCppRouter
from tests.servers.lm_studio import LmStudio, Stored, usual_models
from tests.servers.lm_studio_home import install, store
from tests.servers.ollama import Ollama
from tests.servers.strangers import LyingLlamaCpp

CLIENTS = 50
"""Clients that ask at once for a model that has just come."""

OBJECTS = 80_000
"""Objects of somebody else's in a configuration of 5 MB: to make them is the longest part of reading it."""


def followed_rows(scale: float) -> Iterator[Row]:
    """From the act to what every client reads."""
    times = max(10, int(40 * scale))
    yield figure("configuration changed → followed and looked at, p95", _configuration(times).p95, 0.3)
    yield figure("new Ollama manifest on disk → visible, p95", _manifest(times).p95, 0.3)
    yield figure("new LM Studio model on disk → visible, p95", _models_folder(times).p95, 1.0)
    yield figure("llama.cpp router's event → visible, p95", _router(times).p95, 0.3)
    small, large = (
        _questions_meanwhile(max(5, times // 4), 0),
        _questions_meanwhile(max(5, times // 4), OBJECTS),
    )
    yield figure("5 MB of configuration: the longest that a question waits, p50", large.p50, 0.05)
    yield figure("  (the same with 100 bytes: shown for comparison)", small.p50, 0.05)


def _questions_meanwhile(times: int, objects: int) -> Times:
    """Return the longest round trip of each time that a configuration with so much more in it is taken in."""
    more = [{"name": f"entry-{n}", "numbers": [n, 0.5, None], "is_set": True} for n in range(objects)]
    with LyingLlamaCpp() as first, LyingLlamaCpp() as second, daemon({"server": first.url}) as running:
        client, longest = Client(running.where), []
        with Connection(running.where, 5.0) as connection:
            for turn in range(times):
                url = (second if turn % 2 == 0 else first).url
                write_configuration(running.where, {"server": url}, more=more)
                spent = [0.0]
                while not _sees(client, lambda each: (each.url, each.state) == (url, "ready")):  # noqa: B023
                    began = time.perf_counter()
                    connection.call("world", Nothing(), World, 5.0)
                    spent.append(time.perf_counter() - began)
                    time.sleep(0.001)
                longest.append(max(spent))
    return Times(sorted(longest))


def _configuration(times: int) -> Times:
    with LyingLlamaCpp() as first, LyingLlamaCpp() as second, daemon({"server": first.url}) as running:
        client = Client(running.where)

        def act(turn: int) -> Callable[[], bool]:
            server = first if turn % 2 else second
            write_configuration(running.where, {"server": server.url})
            return lambda: _sees(client, lambda each: (each.url, each.state) == (server.url, "ready"))

        return _spread(act, times)


def _manifest(times: int) -> Times:
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder, ExitStack() as stack:
        server = stack.enter_context(Ollama(folder=Path(folder)))
        server.add("first")
        variables = {"OLLAMA_MODELS": folder}
        running = stack.enter_context(daemon({"server": server.url}, kind="ollama", more=variables))
        client = Client(running.where)
        time.sleep(1.0)  # the watch begins in a thread once the server is known to be ready

        def act(turn: int) -> Callable[[], bool]:
            server.add(f"model-{turn}")
            return lambda: _sees(client, lambda each: _has(each, f"model-{turn}:latest"))

        return _spread(act, times)


def _models_folder(times: int) -> Times:
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as home, ExitStack() as stack:
        folder = install(Path(home), usual_models())
        server = stack.enter_context(LmStudio())
        running = stack.enter_context(daemon({"server": server.url}, kind="lm_studio", more={"HOME": home}))
        client = Client(running.where)
        wait_until(lambda: _sees(client, lambda each: each.state == "ready"))
        time.sleep(1.0)  # the watch begins in a thread once the server is known to be ready

        def act(turn: int) -> Callable[[], bool]:
            model = Stored(f"somebody/model-{turn}")
            server.stored[model.key] = model
            store(folder, model)
            return lambda: _sees(client, lambda each: _has(each, model.key))

        return _spread(act, times, least=1.0)


def _router(times: int) -> Times:
    with LlamaCppRouter(models=("a",), load_seconds=0.0) as server, daemon({"server": server.url}) as running:
        client = Client(running.where)
        wait_until(lambda: server.sse_clients == 1)

        def act(turn: int) -> Callable[[], bool]:
            if turn % 2:
                server.unload("a")
            else:
                server.load("a")
            wanted = "unloaded" if turn % 2 else "loaded"
            return lambda: _sees(client, lambda each: [m.state for m in each.models or ()] == [wanted])

        return _spread(act, times)


def _spread(act: Callable[[int], Callable[[], bool]], times: int, *, least: float = 0.2) -> Times:
    """Time acts that begin at any moment of whatever turns the daemon has, ``least`` seconds apart."""
    chance = random.Random(7)
    spent = []
    for turn in range(times):
        time.sleep(least + chance.random() * 0.3)
        began = time.perf_counter()
        wait_until(act(turn))
        spent.append(time.perf_counter() - began)
    return Times(sorted(spent))


def _sees(client: Client, holds: Callable[[Endpoint], bool]) -> bool:
    return any(holds(each) for each in client.world().world.endpoints)


def _has(endpoint: Endpoint, name: str) -> bool:
    return any(model.name == name for model in endpoint.models or ())


def miss_rows(scale: float) -> Iterator[Row]:
    """A question about a model that the server has since a moment ago, and nobody told hived."""
    times = max(5, int(40 * scale))
    with Ollama() as server, daemon({"server": server.url}, kind="ollama") as running:
        client = Client(running.where)
        server.add("first")
        client.refresh()
        looks, spent, bare = [], [], []
        for turn in range(times):
            name = f"alone-{turn}"
            time.sleep(A_MOMENT + 0.1)  # until a no of just now has no more weight
            server.add(name)
            began = time.perf_counter()
            assert isinstance(client.resolve(f"server/{name}", timeout=5.0), Target)
            spent.append(time.perf_counter() - began)
            began = time.perf_counter()
            _probe(server.url)
            bare.append(time.perf_counter() - began)
        for turn in range(max(3, times // 8)):
            name = f"crowd-{turn}"
            time.sleep(A_MOMENT + 0.1)
            clients = [Client(running.where) for _ in range(CLIENTS)]
            server.add(name)
            before = _looks_at(server)
            _all_at_once([partial(each.resolve, f"server/{name}", timeout=5.0) for each in clients])
            looks.append(_looks_at(server) - before)
            for each in clients:
                each.close()
        mine, floor = Times(sorted(spent)), Times(sorted(bare))
    note = f"one GET of the list, new connection: {short(floor.p50)}"
    yield Row(
        "a model that has just come: asked for → answered, p50",
        short(mine.p50),
        note,
        mine.p50 / floor.p50,
        20,
        shown=f"{mine.p50 / floor.p50:.1f} ×",
    )
    most, what = max(looks), f"  {CLIENTS} clients ask at once: looks at the server"
    yield Row(what, f"{most:g}", "", most, 1, shown=f"{most:g}")


def _looks_at(server: Ollama) -> int:
    """Each look asks for the list once; a model that has just come is then asked about itself as well."""
    return server.requests.count(("GET", "/api/tags"))


def _probe(url: str) -> None:
    connection = http.client.HTTPConnection(*host_and_port(url), timeout=5)
    connection.request("GET", "/api/tags")
    connection.getresponse().read()
    connection.close()


def _all_at_once(acts: list[Callable[[], object]]) -> None:
    barrier = threading.Barrier(len(acts))
    failed: list[Exception] = []

    def run(act: Callable[[], object]) -> None:
        barrier.wait(10.0)
        try:
            act()
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
