"""Servers that hived should start or stop, and cannot."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived.daemon.app import _unit_prefix
from hived.decisions import restarts
from hived.machine.ports import free_port
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun
from hived_client.vocabulary.faults import Fault
from tests.conftest import environment
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.faults.asking import Shared, at, raised, settled
from tests.faults.provoking import provokes
from tests.faults.test_machine import running
from tests.machine.layouts import Layout
from tests.machine.test_start_vllm import DRIVER, GATED, LIBRARY
from tests.machine.test_start_vllm import written as vllm_log
from tests.machine.user_manager import UserManagerPrograms, user_manager
from tests.servers.programs import OllamaProgram, VllmProgram

LLAMA_SERVER = """#!/bin/sh
case "$*" in
  *--help*) echo '  --model FNAME  --host HOST  --port PORT  --alias STRING  --ctx-size N' ;;
  *too-big*)
    echo 'ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8128.00 MiB on device 0:' \
      'cudaMalloc failed: out of memory' >&2
    exit 1 ;;
  *) exec /bin/sleep 600 ;;
esac
"""
"""A llama-server that never gets ready; of a model called too-big it says what the real one says."""


NO_PORT_OF_ROOTS = """\
import ctypes, struct
libc = ctypes.CDLL(None)
header = struct.pack("<Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process: capget(2)
sets = ctypes.create_string_buffer(24)
assert libc.capget(header, sets) == 0
words = list(struct.unpack("<6I", sets.raw))
words[0] &= ~(1 << 10)  # of those in effect CAP_NET_BIND_SERVICE
assert libc.capset(header, struct.pack("<6I", *words)) == 0
"""
"""What takes from a Python what only root may do with ports."""


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


@pytest.fixture
def ordinary(home: Path) -> Iterator[Running]:
    """A daemon that may open no port of root's, whoever runs the tests."""
    with socket.socket() as one, contextlib.suppress(PermissionError):
        one.bind(("127.0.0.1", 1001))
        if os.geteuid() != 0:
            pytest.skip("here every user may open any port")
    (modules := home / "modules").mkdir()
    (modules / "sitecustomize.py").write_text(NO_PORT_OF_ROOTS)
    paths = environment.__wrapped__(home)["PYTHONPATH"]  # type: ignore[attr-defined]
    with settled(home, PYTHONPATH=f"{modules}:{paths}") as daemon:
        yield daemon


def gguf(folder: Path, name: str = "model", content: bytes = b"GGUF\3\0\0\0") -> str:
    """Write what begins as a model does; return its path."""
    path = folder / f"{name}.gguf"
    path.write_bytes(content)
    return str(path)


def failed(client: Client, model: str | None, **more: object) -> Fault:
    """Return why a server could not be started."""
    return raised(lambda: list(client.start("llamacpp", model=model, **({"timeout": DEADLINE} | more))))  # type: ignore[arg-type]


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


@pytest.fixture(scope="module")
def failing() -> Iterator[tuple[Running, VllmProgram]]:
    """A daemon with a vLLM that ends with whatever log a provocation gives it."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        (programs := Path(folder, "bin")).mkdir()
        program = VllmProgram(programs)
        with settled(Path(folder), PATH=f"{programs}:/usr/bin:/bin") as daemon:
            yield daemon, program


def ended(failing: tuple[Running, VllmProgram], log: str) -> Fault:
    """Return what a vLLM is said to have ended of."""
    daemon, program = failing
    program.break_down(log)
    return raised(lambda: list(daemon.client.start("vllm", model="org/model", timeout=DEADLINE)))


@provokes("start.context", "a vLLM, asked for more context than the model was made for: the real one's log")
def test_more_context_than_there_is(failing: tuple[Running, VllmProgram]) -> Fault:
    found = ended(failing, vllm_log("context"))
    assert found.hint == "hived start vllm --model org/model --ctx-size 2048"
    return found


@provokes("start.option", "a vLLM with a flag that it does not know: the real one's log")
def test_a_flag_that_it_does_not_know(failing: tuple[Running, VllmProgram]) -> Fault:
    return ended(failing, vllm_log("option"))


@provokes("start.architecture", "a vLLM with a model of a kind that it does not know: the real one's log")
def test_a_kind_of_model_that_it_does_not_know(failing: tuple[Running, VllmProgram]) -> Fault:
    return ended(failing, vllm_log("architecture"))


@provokes("start.unknown_model", "a vLLM with a model that is not on the disk, offline: the real one's log")
def test_a_model_that_is_nowhere(failing: tuple[Running, VllmProgram]) -> Fault:
    return ended(failing, vllm_log("unknown_model"))


@provokes("start.gated", "a vLLM with a model that wants a licence accepted, in Hugging Face's words")
def test_a_model_that_is_gated(failing: tuple[Running, VllmProgram]) -> Fault:
    return ended(failing, GATED)


@provokes("start.library", "a vLLM built for a CUDA that is not there, in the dynamic linker's words")
def test_a_library_that_is_missing(failing: tuple[Running, VllmProgram]) -> Fault:
    return ended(failing, LIBRARY)


@provokes("start.driver", "a vLLM on a driver that is older than its CUDA, in CUDA's words")
def test_a_driver_that_is_too_old(failing: tuple[Running, VllmProgram]) -> Fault:
    return ended(failing, DRIVER)


@provokes("start.stopped", "a llama-server that is stopped while somebody waits for it")
def test_it_is_stopped(sleepy: Running, tmp_path: Path) -> Fault:
    found: list[Fault] = []
    client = sleepy.another()
    asking = threading.Thread(target=lambda: found.append(failed(client, gguf(tmp_path, "stopped"))))
    asking.start()
    wait_until(lambda: sleepy.client.statistics()["jobs"]["started"])
    sleepy.client.stop("llamacpp", everything=True)
    asking.join(60.0)
    return found[0]


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


@provokes("start.port_refused", "a port that only root may open")
def test_the_port_is_roots(ordinary: Running, tmp_path: Path) -> Fault:
    model = gguf(tmp_path)
    found = failed(ordinary.client, model, port=1001, context=2048, arguments=("--n-gpu-layers", "5"))
    assert found.hint == f"hived start llamacpp --model {model} --port 0 --ctx-size 2048 -- --n-gpu-layers 5"
    return found


@provokes("start.no_model", "llama.cpp, and no model named")
def test_without_a_model(shared: Shared) -> Fault:
    return failed(shared.daemon.client, None)


@provokes("start.not_taken", "Ollama, which is started without a model, and a model")
def test_an_option_that_means_nothing(shared: Shared) -> Fault:
    return raised(lambda: list(shared.daemon.client.start("ollama", model="llama3")))


@provokes("start.owned", "Ollama as its installer puts it, with a system unit that is stopped")
def test_somebody_else_starts_it(environment: dict[str, str], tmp_path: Path) -> Fault:
    computer = Layout(tmp_path)
    computer.install_ollama()
    with running(environment, computer, {"ollama": at(f"http://127.0.0.1:{free_port()}")}) as daemon:
        found = raised(lambda: list(daemon.client.start("ollama")))
    assert found.hint == "sudo systemctl start ollama"
    return found


@provokes("start.elsewhere", "an Ollama that the configuration wants at a name of the local network")
def test_on_another_device(shared: Shared) -> Fault:
    client = shared.expecting({"ollama": at("http://gpu-box.invalid:11434")})
    return raised(lambda: list(client.start("ollama")))


@pytest.fixture
def managed(home: Path, environment: dict[str, str]) -> Iterator[tuple[UserManagerPrograms, dict[str, str]]]:
    """A systemd of this user, and the environment of a daemon that finds it, with an Ollama to start."""
    with user_manager(home / "bin", home / "xdg") as manager:
        OllamaProgram(home / "bin")
        yield manager, environment | manager.environment | {"PATH": f"{home / 'bin'}:{environment['PATH']}"}


@provokes(
    "start.unit_taken", "a unit that has the name of the one to be started, and that hived did not start"
)
def test_the_name_of_the_unit_is_taken(managed: tuple[UserManagerPrograms, dict[str, str]]) -> Fault:
    manager, variables = managed
    with watching_ollama(variables) as daemon:
        manager.load(unit_of(daemon))
        found = raised(lambda: list(daemon.client.start("ollama")))
        assert os.listdir(daemon.where.started) == []
    assert found.hint == f"systemctl --user stop {unit_of(daemon)}"
    return found


@provokes("start.manager", "a systemd of this user that has no room left for a unit")
def test_systemd_says_no(managed: tuple[UserManagerPrograms, dict[str, str]]) -> Fault:
    manager, variables = managed
    manager.break_down("Out of memory.\n")
    with watching_ollama(variables) as daemon:
        found = raised(lambda: list(daemon.client.start("ollama")))
        assert os.listdir(daemon.where.started) == []
    return found


@contextmanager
def watching_ollama(variables: dict[str, str]) -> Iterator[Running]:
    """Run a daemon that has an Ollama to start."""
    configure(variables, {"ollama": at(f"http://127.0.0.1:{free_port()}")})
    with Running(variables) as daemon:
        yield daemon


def unit_of(daemon: Running) -> str:
    """Return the name of the unit in which that daemon starts its Ollama."""
    return f"{_unit_prefix(daemon.where)}-ollama.service"


def killed_again(daemon: Running, program: OllamaProgram, code: str) -> Fault:
    """Kill an Ollama that hived started, and return what is said of it then."""
    last = list(daemon.client.start("ollama", timeout=DEADLINE))[-1]
    assert isinstance(last, Begun)
    assert last.pid is not None
    program.break_down("no space left on device")
    os.kill(last.pid, signal.SIGKILL)

    def said() -> Fault | None:
        reason = daemon.client.world().world.endpoints[0].reason
        return reason if reason is not None and reason.code == code else None

    found = wait_until(
        said, lambda: f"{daemon.client.world().world.endpoints[0].reason}\n{daemon.log[-3000:]}"
    )
    assert found is not None
    return found


@provokes("server.restarting", "an Ollama that hived started is killed, and its turn has not come yet")
def test_it_will_be_started_again(environment: dict[str, str], tmp_path: Path) -> Fault:
    computer = Layout(tmp_path)
    program = OllamaProgram(computer.home)
    where: dict[str, object] = {"ollama": at(f"http://127.0.0.1:{free_port()}")}
    with running(environment, computer, where, delay=600.0) as daemon:
        found = killed_again(daemon, program, "server.restarting")
        assert daemon.client.stop("ollama").endpoints == {"ollama": "gone"}
    return found


@provokes("server.gave_up", "an Ollama that hived started is killed, and every start again ends at once")
def test_it_is_not_started_again_for_ever(environment: dict[str, str], tmp_path: Path) -> Fault:
    computer = Layout(tmp_path)
    program = OllamaProgram(computer.home)
    where: dict[str, object] = {"ollama": at(f"http://127.0.0.1:{free_port()}")}
    with running(environment, computer, where, delay=0.01) as daemon:
        found = killed_again(daemon, program, "server.gave_up")
        assert len(program.starts) == 1 + restarts.MOST
    assert "no space left on device" in found.message
    return found


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
