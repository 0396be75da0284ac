"""Programs of servers, for a PATH: they obey the variables that the real ones do, and answer as they do."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import hived_client

_OLLAMA = """#!{python} -P
import os, signal, sys

sys.path[:0] = {paths!r}
from tests.servers.ollama import Ollama

if sys.argv[1:] != ["serve"]:
    sys.exit("Error: unknown command for ollama")
with open({starts!r}, "a") as starts:
    print(os.getpid(), os.environ["OLLAMA_HOST"], file=starts)
if os.path.exists({broken!r}):
    sys.exit("Error: " + open({broken!r}).read())
host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
try:
    with Ollama(port=int(port)) as server:
        server.add("tiny")
        signal.sigwait([signal.SIGTERM, signal.SIGINT])
except OSError:
    sys.exit(f"Error: listen tcp {{host}}:{{port}}: bind: address already in use")
"""


_VLLM = """#!{python} -P
import os, signal, sys, time

sys.path[:0] = {paths!r}
from tests.servers.vllm import Vllm

FOLDER = {folder!r}
words = sys.argv[1:]
assert words[0] == "serve", words
options = dict(zip(words[2::2], words[3::2], strict=False))
with open(FOLDER + "/vllm.starts", "a") as starts:
    print(os.getpid(), *words, sep="\\t", file=starts)
if os.path.exists(FOLDER + "/vllm.broken"):
    sys.exit(open(FOLDER + "/vllm.broken").read())
LINES = [
    "(APIServer pid=7) INFO 11-27 05:25:59 [api_utils.py:286] non-default args: {{}}",
    "(EngineCore pid=8) INFO 11-27 05:26:05 [gpu_model_runner.py:4] Starting to load model x...",
    "(EngineCore pid=8) Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.00s/it]",
    "(EngineCore pid=8) INFO 11-27 05:26:09 [backends.py:1] Dynamo bytecode transform time: 3.00 s",
]
server = Vllm((options["--served-model-name"],), root=words[1], port=int(options["--port"]), starting=True)
server.max_model_len = int(options.get("--max-model-len", 512))
with server:
    for number, line in enumerate(LINES):
        print(line, flush=True)
        # Held: it goes on when a test says so.
        while os.path.exists(FOLDER + "/vllm.held") and not os.path.exists(FOLDER + f"/vllm.go{{number}}"):
            time.sleep(0.01)
    server.finish_start()
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
"""

_LMS = """#!{python} -P
import os, subprocess, sys, time, urllib.request

FOLDER = {folder!r}
words = sys.argv[1:]
ctl = FOLDER + "/lms.ctl"
with open(FOLDER + "/lms.calls", "a") as calls:
    print(*words, file=calls)
if os.path.exists(FOLDER + "/lms.broken"):
    sys.exit("Error: " + open(FOLDER + "/lms.broken").read())

def is_taken():
    end = time.monotonic() + 60.0
    while os.path.exists(ctl) and time.monotonic() < end:
        time.sleep(0.01)
    return not os.path.exists(ctl)

def is_awake():
    try:
        with open(FOLDER + "/lms.pid") as file:
            return os.path.exists("/proc/" + file.read() + "/exe")
    except OSError:
        return False

def tell(said):
    with open(ctl + ".new", "w") as file:
        file.write(said)
    os.replace(ctl + ".new", ctl)

def port_served():
    with open(FOLDER + "/lms.port") as file:
        port = int(file.read())
    urllib.request.urlopen(f"http://127.0.0.1:{{port}}/lmstudio-greeting", timeout=60.0).close()
    return port

if words[:2] == ["server", "start"]:
    print("Starting server...", flush=True)
    port = words[words.index("--port") + 1]
    tell("start " + port)
    if not is_awake():  # the application takes up what is written there
        with open(os.devnull, "r+") as null:
            subprocess.Popen([sys.executable, "-P", FOLDER + "/lms.app"], start_new_session=True,
                             stdin=null, stdout=null, stderr=null)
    if not is_taken():
        sys.exit("Error: Failed to start the server on port " + port)
    try:
        print(f"Success! Server is now running on port {{port_served()}}")
    except OSError:
        sys.exit("Error: Failed to verify the server is running. Please try to use another port.")
elif words == ["server", "stop"]:
    try:
        port = port_served()
    except OSError:
        sys.exit("Error: The server is not running.")
    tell("stop")
    if not is_taken():
        sys.exit(f"Error: Failed to stop the server on port {{port}}")
    print(f"Stopped the server on port {{port}}.")
else:
    sys.exit("Error: unknown command")
"""

_APPLICATION = """
import os, sys, time

sys.path[:0] = {paths!r}
from tests.servers.lm_studio import LmStudio

FOLDER = {folder!r}
ctl, server = FOLDER + "/lms.ctl", None
with open(FOLDER + "/lms.pid", "w") as file:
    file.write(str(os.getpid()))
while True:
    if os.path.exists(ctl):
        with open(ctl) as file:
            said = file.read().split()
        if server is not None:
            server.__exit__(None, None, None)
            server = None
        if said[0] == "start":
            with open(FOLDER + "/lms.port", "w") as file:
                file.write(said[1])
            try:
                server = LmStudio(port=int(said[1])).__enter__()
            except OSError:
                pass
        os.unlink(ctl)
    time.sleep(0.01)
"""


def _roots() -> list[str]:
    """Return the folders from which a program of its own imports what this process does."""
    return [str(root) for root in (Path(__file__).parents[2], Path(hived_client.__path__[0]).parent)]


def _write(path: Path, text: str) -> None:
    path.write_text(text.format(python=sys.executable, paths=_roots(), folder=str(path.parent)))
    path.chmod(0o755)


class VllmProgram:
    """``vllm`` in a folder: it has its port and logs as the real one does, and listens at last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "vllm"
        _write(self.path, _VLLM)

    @property
    def starts(self) -> list[tuple[int, tuple[str, ...]]]:
        """Every time it was started: its process, and its words."""
        path = self._folder / "vllm.starts"
        lines = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(line[0]), tuple(line[1:])) for line in lines]

    def hold(self) -> None:
        """Have it stay at each stage until it is let on."""
        (self._folder / "vllm.held").touch()

    def let_on(self, stage: int) -> None:
        """Let it leave a stage, by its number."""
        (self._folder / f"vllm.go{stage}").touch()

    def break_down(self, log: str) -> None:
        """Have it end with this log from now on."""
        (self._folder / "vllm.broken").write_text(log)


class LmsProgram:
    """``lms`` in a folder, and the application that it wakes, which outlives it and serves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "lms"
        _write(self.path, _LMS)
        _write(folder / "lms.app", _APPLICATION)

    @property
    def calls(self) -> list[str]:
        """What it was called with, in a row."""
        path = self._folder / "lms.calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def application(self) -> int | None:
        """The process of the application, while it lives."""
        path = self._folder / "lms.pid"
        pid = int(path.read_text()) if path.exists() else 0
        return pid if pid and os.path.exists(f"/proc/{pid}/exe") else None

    def break_down(self, words: str) -> None:
        """Have it end with these words from now on."""
        (self._folder / "lms.broken").write_text(words)

    def close(self) -> None:
        """Quit the application."""
        pid = self.application
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class OllamaProgram:
    """``ollama`` in a folder, which serves a fake Ollama where ``OLLAMA_HOST`` says."""

    def __init__(self, folder: Path) -> None:
        self._starts, self._broken = folder / "ollama.starts", folder / "ollama.broken"
        self.path = folder / "ollama"
        self.path.write_text(
            _OLLAMA.format(
                python=sys.executable,
                paths=_roots(),
                starts=str(self._starts),
                broken=str(self._broken),
            )
        )
        self.path.chmod(0o755)

    @property
    def starts(self) -> list[tuple[int, str]]:
        """Every time it was started: its process, and where it was told to listen."""
        if not self._starts.exists():
            return []
        lines = [line.split() for line in self._starts.read_text().splitlines()]
        return [(int(pid), host) for pid, host in lines]

    def break_down(self, words: str) -> None:
        """Have it end with these words from now on."""
        self._broken.write_text(words)
