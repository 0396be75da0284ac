"""What this machine says of a server that is not there: each computer is laid out below a folder."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived_client.errors import NotReady
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import LM_STUDIO, OLLAMA, VLLM
from hived_client.vocabulary.world import Installation
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.faults.asking import at, one, refusal, resolved
from tests.faults.provoking import provokes
from tests.machine.layouts import Layout
from tests.servers.llamacpp_router import LlamaCppRouter
from tests.servers.ollama import Ollama

_ROOTED = """#!{python} -P
import sys

from hived.daemon import surroundings
from hived.decisions import restarts

surroundings.ROOT = {root!r}
restarts.FIRST = {delay!r}
sys.argv = ["hived", *sys.argv[4:]]  # after: -P -m hived

from hived.cli import main

sys.exit(main())
"""

RELAY = """
import socket, sys, threading
def pump(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    other.close()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=pump, args=(near, far), daemon=True).start()
    threading.Thread(target=pump, args=(far, near), daemon=True).start()
"""
"""What ``ssh -L`` and ``socat`` do, in a dozen lines."""

LATE = """
import socket, sys, time
taken = socket.socket()
taken.bind(("127.0.0.1", int(sys.argv[-1])))
print("bound", flush=True)
time.sleep(600)
"""
"""What vLLM does for the minutes in which its engine starts: it has its port and does not listen."""


@pytest.fixture
def computer(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@contextmanager
def running(
    environment: dict[str, str], computer: Layout, providers: dict[str, object], *, delay: float = 1.0
) -> Iterator[Running]:
    """Run the daemon on another computer, as far as programs and units go.

    ``delay``: seconds before the first start again of a server that ended by itself.
    """
    script = computer.home / "python"
    script.write_text(_ROOTED.format(python=sys.executable, root=str(computer.root), delay=delay))
    script.chmod(0o755)
    configure(environment, providers)
    with Running(environment | {"PATH": str(computer.home)}, python=str(script)) as daemon:
        yield daemon


@contextmanager
def program(words: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program that says one word when it is ready."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@provokes("server.not_installed", "nothing listens, and a bare computer has no Ollama anywhere")
def test_not_installed(environment: dict[str, str], computer: Layout, unused_port: int) -> Fault:
    with running(environment, computer, {"ollama": at(f"http://127.0.0.1:{unused_port}")}) as daemon:
        found = refusal(daemon.client, "ollama/llama3")

        def installation() -> Installation | None:
            return daemon.client.world().world.endpoints[0].installation

        known = wait_until(installation, "it is not in the World")
        assert known is not None
        assert not known.found
    assert found.hint in (OLLAMA.install, OLLAMA.install_darwin)
    return found


@provokes("server.not_installed", "the same of vLLM and LM Studio")
def test_others_not_installed(environment: dict[str, str], computer: Layout, unused_port: int) -> Fault:
    url = f"http://127.0.0.1:{unused_port}"
    with running(environment, computer, {"lm_studio": at(url)}) as daemon:
        found = refusal(daemon.client, "lm_studio/x")
        assert found.hint == LM_STUDIO.install
        configure(environment, {"vllm": at(url)})
        daemon.client.reload()
        vllm = refusal(daemon.client, "vllm/x")
    assert vllm.code in ("server.not_installed", "server.down")  # beside this Python there may be one
    assert vllm.code == "server.down" or vllm.hint == VLLM.install
    return found


@provokes("server.owned_down", "Ollama is there as its installer puts it, with a system unit, and is stopped")
def test_owned(environment: dict[str, str], computer: Layout, unused_port: int) -> Fault:
    computer.install_ollama()
    with running(environment, computer, {"ollama": at(f"http://127.0.0.1:{unused_port}")}) as daemon:
        found = refusal(daemon.client, "ollama/llama3")
        again = refusal(daemon.client, "ollama/llama3", fresh=True)
    assert found == again
    assert found.hint == "sudo systemctl start ollama"
    return found


@provokes("server.down", "Ollama's program is there, where PATH does not lead, and nobody starts it")
def test_nobodys(environment: dict[str, str], computer: Layout, unused_port: int) -> Fault:
    computer.program("/usr/local/bin/ollama")
    with running(environment, computer, {"ollama": at(f"http://127.0.0.1:{unused_port}")}) as daemon:
        found = refusal(daemon.client, "ollama/llama3")
    assert found.hint == "/usr/local/bin/ollama serve"
    return found


@provokes("server.maybe_on_host", "hived runs in a Docker container that has no Ollama")
def test_in_a_container(environment: dict[str, str], computer: Layout, unused_port: int) -> Fault:
    computer.file("/.dockerenv")
    with running(environment, computer, {"ollama": at(f"http://127.0.0.1:{unused_port}")}) as daemon:
        found = refusal(daemon.client, "ollama/llama3")
    assert found.hint.endswith(f"to http://host.docker.internal:{unused_port}")
    return found


@provokes("server.maybe_on_host", "hived runs in WSL 2 without mirrored networking, and no Ollama is there")
def test_in_wsl(environment: dict[str, str], computer: Layout, unused_port: int) -> Fault:
    computer.file("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x)")
    with running(environment, computer, {"ollama": at(f"http://127.0.0.1:{unused_port}")}) as daemon:
        found = refusal(daemon.client, "ollama/llama3")
    assert "networkingMode=mirrored" in found.hint
    return found


@provokes("server.other_family", "a server listens at 127.0.0.1, and the configuration says [::1]")
def test_the_other_family(environment: dict[str, str], computer: Layout) -> Fault:
    with Ollama() as server, socket.socket(socket.AF_INET6) as taken:
        port = int(server.url.rpartition(":")[2])
        taken.bind(("::1", port))  # and does not listen
        with running(environment, computer, {"ollama": at(f"http://[::1]:{port}")}) as daemon:
            found = refusal(daemon.client, "ollama/llama3")
            # The mend mends it.
            configure(environment, {"ollama": at(found.hint.rpartition(" ")[2])})
            daemon.client.reload()
            daemon.client.refresh()
            assert daemon.client.world().world.endpoints[0].state == "ready"
            # And `localhost` is this one too.
            configure(environment, {"ollama": at(f"http://localhost:{port}")})
            daemon.client.reload()
            daemon.client.refresh()
            assert daemon.client.world().world.endpoints[0].state == "ready"
    return found


@provokes("server.starting", "a vLLM server has its port and does not listen yet; killed, it is down")
def test_vllm_listens_late(environment: dict[str, str], computer: Layout) -> Fault:
    script = computer.home / "vllm"
    script.write_text(LATE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-I", "-S", str(script), "serve", "some/model", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(environment, computer, {"vllm": at(url)}) as daemon, program(words) as (process, _):

        def state() -> str:
            return daemon.client.world().world.endpoints[0].state

        # Seen without anybody asking: nothing came up, and a knock is refused as before.
        wait_until(lambda: state() == "starting", "it never was starting")

        def told() -> Fault | None:
            found = refusal(daemon.client, "vllm/some/model")
            return found if "so far" in found.message else None

        found = wait_until(told, "it never said for how long")
        assert found is not None
        process.kill()
        process.wait()
        wait_until(lambda: state() == "down", "it never was down")
    return found


@provokes("server.forwarded", "a program called socat listens, and hands connections on to Ollama's port")
def test_a_relay(environment: dict[str, str], computer: Layout) -> Fault:
    socat = computer.home / "socat"
    socat.symlink_to(Path(sys.executable).resolve())
    with Ollama() as server:
        server.add("llama3")
        target = server.url.rpartition(":")[2]
        words = [str(socat), "-I", "-S", "-c", RELAY, target]
        with program(words) as (_, port):
            where: dict[str, object] = {
                "tunnel": at(f"http://127.0.0.1:{port}", like="ollama"),
                "near": at(server.url, like="ollama"),
            }
            with running(environment, computer, where) as daemon:
                there = resolved(daemon.client, "tunnel/llama3")
                assert there.locality is None
                with pytest.raises(NotReady, match="does not run on this device"):
                    daemon.client.resolve("tunnel/llama3", private=True, fresh=True, timeout=DEADLINE)
                assert resolved(daemon.client, "near/llama3", private=True).locality == "device"
                shown = subprocess.run(
                    [sys.executable, "-P", "-m", "hived", "status"],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=DEADLINE,
                )
                assert "place unknown" in shown.stdout
                assert "socat listens" in shown.stdout
    return one("server.forwarded", there.warnings)


@provokes("model.downloading", "a router has 40 % of a model after a second and more, and says so")
def test_a_download_has_an_end(environment: dict[str, str], computer: Layout) -> Fault:
    name = "user/repo:Q4"
    with (
        LlamaCppRouter() as server,
        running(environment, computer, {"llamacpp": at(server.url)}) as daemon,
    ):
        server.wait_sse_clients(1)
        server.start_download(name)

        def since() -> float | None:
            models = daemon.client.world().world.endpoints[0].models or ()
            return next((model.since for model in models if model.name == name), None)

        began = wait_until(since, "the download never began")
        assert began is not None
        wait_until(lambda: time.time() - began > 1.5)
        server.progress_download(name, done=40, total=100)

        def told() -> Fault | None:
            found = refusal(daemon.client, f"llamacpp/{name}", fresh=True)
            return found if "more)" in found.message else None

        found = wait_until(told, "it never said how long")
        assert found is not None
        assert since() == began
        assert found.fields["rest"] == pytest.approx(1.5 * float(found.fields["seconds"] or 0.0))
        assert "(40 %, about " in found.message
    return found
