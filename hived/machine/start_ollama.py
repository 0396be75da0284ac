"""How Ollama is started: ``ollama serve``, once, where it is expected, and on loopback.

Ollama is told by ``OLLAMA_HOST`` where to listen. What the user has there is for clients too, and may be
an address to be reached from elsewhere (``0.0.0.0``): a server that hived starts listens on this device
only, and whoever asked is told so. Every other variable of the user's (``OLLAMA_MODELS``,
``OLLAMA_KEEP_ALIVE``, …) is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hived.decisions.addresses import BadAddress, host_and_port, read_url
from hived.decisions.ollama_host import DEFAULT_PORT, written_host
from hived.decisions.unspecified import is_to_listen
from hived.machine.inherited import without_ours
from hived.machine.installations import Installations
from hived.machine.last_lines import REASON_LENGTH, plain_lines, telling_line
from hived.machine.loopback import own_place, shown
from hived.machine.owners import port_taken
from hived.machine.ports import is_port_free
from hived.machine.recipes import Launch, Stage, Wanted
from hived.machine.start_faults import fault_of, log_of
from hived_client.errors import StartFailed
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import OLLAMA

_TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"error while loading shared libraries|Library not loaded",
        r"address already in use",
        r"^Error: ",
        r"^panic: |^fatal error: ",
    )
)


class OllamaRecipe:
    """Ollama's server."""

    kind = OLLAMA
    single = True
    only_one = False
    takes: frozenset[str] = frozenset()

    def __init__(self, root: str = "/") -> None:
        """``root`` is the folder taken for ``/`` when its program is looked for."""
        self._root = root

    def __repr__(self) -> str:
        return "<OllamaRecipe>"

    def prepare(self, wanted: Wanted, base: Mapping[str, str]) -> Launch:
        """Find the program and say where it is to listen. Blocks."""
        host, usual = own_place(OLLAMA, wanted.url)
        port = wanted.port or usual or DEFAULT_PORT
        program = Installations(base, root=self._root).find(OLLAMA.name)
        if program is None or not program.found or program.path is None:
            raise StartFailed(
                fault(
                    "start.not_installed",
                    title=OLLAMA.title,
                    why="",
                    install=OLLAMA.install,
                    install_darwin=OLLAMA.install_darwin,
                )
            )
        if not is_port_free(host, port):
            raise StartFailed(port_taken(host, port))
        listens = shown(host, port)
        return Launch(
            argv=(program.path, "serve"),
            environment=without_ours(base) | {"OLLAMA_HOST": listens},
            url=f"http://{listens}",
            notes=_notes(base.get("OLLAMA_HOST", ""), listens),
        )

    def why_it_ended(self, text: str, *, started: bool) -> str:
        lines = plain_lines(text)
        told = telling_line(lines, _TELLING)
        return told or (lines[-1][:REASON_LENGTH] if lines and not started else "")

    def broke_down(self, text: str) -> bool:
        return False

    def stage(self, text: str) -> Stage | None:
        return None

    def fault_of_end(self, launch: Launch, why: str, log: str) -> Fault:
        if "address already in use" in why:
            return port_taken(*host_and_port(launch.url))
        return fault_of(
            why,
            title=OLLAMA.title,
            **log_of(log),
            install=OLLAMA.install,
            install_darwin=OLLAMA.install_darwin,
            program=launch.argv[0],
        )


def _notes(written: str, listens: str) -> tuple[str, ...]:
    """Say that the user's own address is not the one that is listened at, where it is one to listen at."""
    if not written.strip():
        return ()
    try:
        meant = written_host(written)
        wide = is_to_listen(meant)
        moved = read_url(meant) != f"http://{listens}"
    except (BadAddress, ValueError):
        wide = moved = True
    if not wide and not moved:
        return ()
    said = "something else" if "@" in written else _plain(written)  # it may hold a password
    return (f"OLLAMA_HOST is {said}; the server that hived starts listens at {listens} only",)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:REASON_LENGTH]
