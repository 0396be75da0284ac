"""A model server in a process of its own, which can be stopped and killed; and one that comes and goes.

Run as a program: ``python -m tests.stress.model_server PORT PART`` plays a part until it is killed.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tests.servers.loopback import Loopback
from tests.servers.products import Product
from tests.servers.strangers import AnswersEverything, LyingLlamaCpp, Silent
from tests.stress.truth import Fits, Timeline

OTHER = (
    b'{"object":"list","data":[{"id":"other","aliases":[],"object":"model","created":1,"owned_by":"llamacpp",'
    b'"meta":{"n_ctx":512,"n_ctx_train":512,"size":1}}]}'
)
OTHER_PROPS = (
    b'{"default_generation_settings":{"params":{},"n_ctx":512},"total_slots":1,"model_alias":"other",'
    b'"model_path":"other","build_info":"b0-unknown","is_sleeping":false}'
)

PARTS: dict[str, Callable[[int], Loopback]] = {
    "up": lambda port: LyingLlamaCpp(port=port),
    "other_model": lambda port: LyingLlamaCpp(models=OTHER, props=OTHER_PROPS, port=port),
    "ollama": lambda port: Product("Ollama", port=port),
    "web": lambda port: AnswersEverything(port=port),
    "silent": lambda port: Silent(port=port),
}
"""What may listen on the port of a llama.cpp server whose model is called ``m``."""


class ModelServer:
    """One port on which something listens, or nothing; every change is in ``timeline``."""

    def __init__(self, environment: Mapping[str, str], name: str) -> None:
        self.name = name
        self.timeline = Timeline()
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        # Bound and never listening: nobody else gets the port, and a connection to it is refused.
        self._keeper = socket.socket()
        self._keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._keeper.bind(("127.0.0.1", 0))
        self.port = int(self._keeper.getsockname()[1])
        self.timeline.add("down", 0.0, 0.0)

    def __repr__(self) -> str:
        return f"<ModelServer {self.name} {self.timeline!r}>"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def become(self, part: str) -> None:
        """Change what is on the port: a part, ``held`` (SIGSTOP) or ``down`` (SIGKILL)."""
        begun = time.monotonic()
        if part == "held":
            if self._process is None:
                return
            os.kill(self.pid, signal.SIGSTOP)
        else:
            self.close()
            if part != "down":
                self.timeline.add("down", begun, time.monotonic())
                begun = time.monotonic()
                self._begin(part)
        self.timeline.add(part, begun, time.monotonic())

    def go_on(self) -> None:
        """Let a held server go on (SIGCONT)."""
        begun = time.monotonic()
        os.kill(self.pid, signal.SIGCONT)
        self.timeline.add("up", begun, time.monotonic())

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def leave(self) -> None:
        """End the process and give the port back."""
        self.close()
        self._keeper.close()

    def fits(self) -> Fits:
        """Return when an answer about ``m`` here is right."""
        return Fits(self.timeline, f"{self.url}/v1", RIGHT)

    def _begin(self, part: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.stress.model_server", str(self.port), part],
            env=self._environment,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"


SILENT = ("silent", "held")
RIGHT: dict[str, tuple[str, ...]] = {
    "yes": ("up", "ollama"),
    "server.down": ("down",),
    "model.server_down": ("down",),
    "server.closed": ("down",),
    "server.wrong": ("web",),
    "server.silent": SILENT,
    "server.unreachable": SILENT,
    "deadline": SILENT,
    "model.unknown": ("other_model",),
    "model.elsewhere": ("other_model",),
}
"""What may be said of the model ``m``, and what is true then."""


def flap(servers: list[ModelServer], chance: random.Random, seconds: float) -> int:
    """Change servers by chance for so long; return how often.

    Some states last a moment and some for seconds: the first catch what is slow, the others what is old.
    """
    end = time.monotonic() + seconds
    due = {server: time.monotonic() + chance.uniform(0.0, 1.0) for server in servers}
    held: set[ModelServer] = set()
    changes = 0
    while (now := time.monotonic()) < end:
        server = min(servers, key=lambda each: due[each])
        if due[server] > now:
            time.sleep(min(due[server], end) - now)  # until the next change
            continue
        if server in held:
            held.remove(server)
            server.go_on()
        else:
            part = chance.choice(("up", "up", "down", "down", "held", *PARTS))
            if part == "held":
                server.become("up")
                held.add(server)
            server.become(part)
        changes += 1
        due[server] = time.monotonic() + 0.1 * 80.0 ** chance.random()  # 0.1 to 8 s, as many short as long
    for server in held:
        server.go_on()
    return changes


def main() -> None:
    """Play one part until killed."""
    with PARTS[sys.argv[2]](int(sys.argv[1])):
        print("listening", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
