"""How LM Studio's server is started: ``lms server start``, which has the application serve.

The command ends once the server runs in the application's own process, or in that of the headless one; it
wakes either where neither runs. There is one server, and starting it at another port moves it. Stopping it
is another command, and leaves the application open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from hived.decisions.addresses import host_and_port
from hived.machine.inherited import without_ours
from hived.machine.installations import Installations
from hived.machine.last_lines import REASON_LENGTH, plain_lines, telling_line
from hived.machine.owners import port_taken
from hived.machine.ports import is_port_free
from hived.machine.recipes import Launch, Stage, Wanted
from hived.machine.start_faults import log_of
from hived_client.errors import Refused, StartFailed
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import LM_STUDIO

HOST = "127.0.0.1"

_TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"Please make sure it is installed",
        r"try to use another port|EADDRINUSE|already in use",
        r"[Ff]ailed to ",
        r"^Error: ",
    )
)


class LmStudioRecipe:
    """LM Studio's server."""

    kind = LM_STUDIO
    single = True
    only_one = True
    takes: frozenset[str] = frozenset()

    def __init__(self, folder: Callable[[Mapping[str, str]], str], root: str = "/") -> None:
        """``folder`` says where LM Studio has its own; ``root`` is the folder taken for ``/``."""
        self._folder = folder
        self._root = root

    def __repr__(self) -> str:
        return "<LmStudioRecipe>"

    def prepare(self, wanted: Wanted, base: Mapping[str, str]) -> Launch:
        """Find ``lms`` and say at which port it is to serve. Blocks."""
        url = wanted.url or f"http://{HOST}:{LM_STUDIO.ports[0]}"
        host, port = host_and_port(url)
        if host not in (HOST, "localhost"):  # it binds to 127.0.0.1, whatever other loopback was written
            raise Refused(fault("start.elsewhere", title=LM_STUDIO.title, url=url))
        port = wanted.port or port
        tool = self._tool(base)
        if not is_port_free(HOST, port):
            raise StartFailed(port_taken(HOST, port))
        return Launch(
            argv=(tool, "server", "start", "--port", str(port)),
            environment=without_ours(base) | {"LMS_SERVER_HOST": HOST},  # older ones know no flag for it
            url=f"http://{HOST}:{port}",
            stays=False,
            ends_with=(tool, "server", "stop"),
        )

    def _tool(self, base: Mapping[str, str]) -> str:
        """Return the path of ``lms``. Raises ``StartFailed`` where it is not there."""
        places = Installations(base, studio=lambda: self._folder(base), root=self._root)
        found = places.find(LM_STUDIO.name)
        if found is not None and found.path is not None and os.path.basename(found.path) == "lms":
            return found.path
        # An application that was never opened has not brought its command yet.
        opens = found.start if found is not None and found.found else ""
        install = opens or LM_STUDIO.install
        raise StartFailed(fault("start.not_installed", title=LM_STUDIO.title, why="", install=install))

    def why_it_ended(self, text: str, *, started: bool) -> str:
        lines = plain_lines(text)
        told = telling_line(lines, _TELLING)
        return told or (lines[-1][:REASON_LENGTH] if lines and not started else "")

    def broke_down(self, text: str) -> bool:
        return False

    def stage(self, text: str) -> Stage | None:
        return None

    def fault_of_end(self, launch: Launch, why: str, log: str) -> Fault:
        if "make sure it is installed" in why:
            return fault(
                "start.not_installed", title=LM_STUDIO.title, why=f": {why}", install=LM_STUDIO.install
            )
        if re.search(r"another port|in use|EADDRINUSE", why):
            return port_taken(*host_and_port(launch.url))
        return fault("start.ended", title=LM_STUDIO.title, why=f": {why}" if why else "", **log_of(log))
