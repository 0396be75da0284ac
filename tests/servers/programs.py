"""Programs of servers, for a PATH: they obey the variables that the real ones do, and answer as they do."""

from __future__ import annotations

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


class OllamaProgram:
    """``ollama`` in a folder, which serves a fake Ollama where ``OLLAMA_HOST`` says."""

    def __init__(self, folder: Path) -> None:
        self._starts, self._broken = folder / "ollama.starts", folder / "ollama.broken"
        self.path = folder / "ollama"
        roots = [Path(__file__).parents[2], Path(hived_client.__path__[0]).parent]
        self.path.write_text(
            _OLLAMA.format(
                python=sys.executable,
                paths=[str(root) for root in roots],
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
