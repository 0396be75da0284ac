"""Servers that hived should start or stop, and cannot."""

from __future__ import annotations

import functools
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hived_client.doors.sync import Client
from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running
from tests.faults.asking import Shared, at, raised, settled
from tests.faults.provoking import provokes

LLAMA_SERVER = """#!/bin/sh
case "$*" in
  *--help*) echo '  --model FNAME  --host HOST  --port PORT  --alias STRING  --ctx-size N' ;;
  *too-big*)
    echo 'ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8128.00 MiB on device 0:' \
      'cudaMalloc failed: out of memory' >&2
    exit 1 ;;
  *) exec /bin/sleep 60 ;;
esac
"""
"""A llama-server that never gets ready; of a model called too-big it says what the real one says."""


@pytest.fixture(scope="module")
def sleepy() -> Iterator[Running]:
    """A daemon that finds that llama-server on its PATH."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        program = Path(folder, "bin", "llama-server")
        program.parent.mkdir()
        program.write_text(LLAMA_SERVER)
        program.chmod(0o755)
        with settled(Path(folder), PATH=f"{program.parent}:/usr/bin:/bin") as daemon:
            yield daemon


def gguf(folder: Path, name: str = "model", content: bytes = b"GGUF\3\0\0\0") -> str:
    """Write what begins as a model does; return its path."""
    path = folder / f"{name}.gguf"
    path.write_bytes(content)
    return str(path)


def failed(client: Client, model: str | None, **more: object) -> Fault:
    """Return why a server could not be started."""
    return raised(lambda: list(client.start("llamacpp", model=model, **({"timeout": 30.0} | more))))  # type: ignore[arg-type]


@provokes("start.no_file", "the path of a model that is not there")
def test_no_file(shared: Shared, tmp_path: Path) -> Fault:
    return failed(shared.daemon.client, str(tmp_path / "model.gguf"))


@provokes("start.not_gguf", "a file of another kind")
def test_no_model(shared: Shared, tmp_path: Path) -> Fault:
    return failed(shared.daemon.client, gguf(tmp_path, content=b"PK\3\4"))


@provokes("start.not_installed", "neither llama-server on PATH nor the package of its library")
def test_no_program(home: Path) -> Fault:
    blocking = home / "blocking"
    blocking.mkdir()
    (blocking / "sitecustomize.py").write_text("import sys; sys.modules['xllamacpp'] = None\n")
    from tests.conftest import environment

    paths = environment.__wrapped__(home)["PYTHONPATH"]  # type: ignore[attr-defined]
    with settled(home, PATH=str(blocking), PYTHONPATH=f"{blocking}:{paths}") as daemon:
        return failed(daemon.client, gguf(home))


@provokes("start.ended", "a model of eight bytes, given to the real llama.cpp")
def test_it_ends(shared: Shared, tmp_path: Path) -> Fault:
    pytest.importorskip("xllamacpp")
    return failed(shared.daemon.client, gguf(tmp_path))


@provokes("start.no_memory", "a llama-server that says what the real one says when the graphics card is full")
def test_it_does_not_fit(sleepy: Running, tmp_path: Path) -> Fault:
    return failed(sleepy.client, gguf(tmp_path, "too-big"))


@provokes("start.timeout", "a llama-server that never answers")
def test_it_takes_for_ever(sleepy: Running, tmp_path: Path) -> Fault:
    try:
        return failed(sleepy.client, gguf(tmp_path), timeout=0.3)
    finally:
        sleepy.client.stop("llamacpp", everything=True)


@provokes("start.port_taken", "a port at which something listens")
def test_the_port_is_taken(shared: Shared, tmp_path: Path) -> Fault:
    with socket.create_server(("127.0.0.1", 0)) as other:
        return failed(shared.daemon.client, gguf(tmp_path), port=other.getsockname()[1])


@provokes("start.unsupported", "a server that is only watched")
def test_only_watched(shared: Shared) -> Fault:
    return raised(lambda: list(shared.daemon.client.start("openai_compatible")))


@provokes("stop.not_ours", "a server of the configuration, which somebody else started")
def test_not_ours(shared: Shared, unused_port: int) -> Fault:
    providers = {"lab": at(f"http://127.0.0.1:{unused_port}", like="vllm")}
    return raised(functools.partial(shared.expecting(providers).stop, "lab"))


@provokes("stop.which", "two servers, and the name of their provider")
def test_which(sleepy: Running, tmp_path: Path) -> Fault:
    try:
        for name in ("one", "other"):
            failed(sleepy.client, gguf(tmp_path, name), timeout=0.3)
        return raised(functools.partial(sleepy.client.stop, "llamacpp"))
    finally:
        sleepy.client.stop("llamacpp", everything=True)


@provokes("stop.nothing", "a provider of which nothing was started")
def test_nothing_to_stop(shared: Shared) -> Fault:
    return raised(functools.partial(shared.daemon.client.stop, "llamacpp"))
