"""How llama.cpp is started: one server a model, each on a port of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hived.decisions.addresses import host_and_port
from hived.machine.gguf_files import check_model
from hived.machine.llamacpp import alias_of, command, environment, find_program
from hived.machine.llamacpp_log import is_out_of_memory, why_it_ended
from hived.machine.owners import port_taken
from hived.machine.ports import free_port, is_port_free
from hived.machine.recipes import Launch, Wanted
from hived_client.errors import Refused, StartFailed
from hived_client.vocabulary.faults import Fault, fault, quoted
from hived_client.vocabulary.kinds import LLAMACPP

HOST = "127.0.0.1"


class LlamaCppRecipe:
    """llama.cpp's server: the user's own program, or the one in a wheel."""

    kind = LLAMACPP
    single = False
    takes = frozenset(("model", "context", "alias", "arguments"))

    def __repr__(self) -> str:
        return "<LlamaCppRecipe>"

    def prepare(self, wanted: Wanted, base: Mapping[str, str]) -> Launch:
        """Find the program, look at the model's file, choose a port. Blocks."""
        if not wanted.model:
            raise Refused(fault("start.no_model", title=LLAMACPP.title, start=LLAMACPP.start))
        model = os.path.abspath(wanted.model)
        program = find_program()
        if program is None:
            raise StartFailed(
                fault(
                    "start.not_installed",
                    title=LLAMACPP.title,
                    why=": neither llama-server nor the xllamacpp package is there",
                    install=LLAMACPP.install,
                )
            )
        check_model(model)
        port = _port(wanted, model)
        alias = wanted.alias or alias_of(model)
        try:
            argv = command(
                program, model=model, port=port, alias=alias, context=wanted.context, extra=wanted.arguments
            )
        except ValueError as error:
            raise Refused(fault("params.invalid", method="start", why=str(error))) from error
        url = f"http://{HOST}:{port}"
        return Launch(argv=tuple(argv), environment=environment(base), url=url, model=model, alias=alias)

    def why_it_ended(self, text: str, *, started: bool) -> str:
        return why_it_ended(text, started=started)

    def fault_of_end(self, launch: Launch, why: str, log: str) -> Fault:
        code = "start.no_memory" if is_out_of_memory(why) else "start.ended"
        words = f": {why}" if why else ""
        return fault(code, title=LLAMACPP.title, why=words, log=log, path=launch.model)


def _port(wanted: Wanted, model: str) -> int:
    """Return the port that was asked for, the configured one if it is free, else any free one."""
    if wanted.port:
        if is_port_free(HOST, wanted.port):
            return wanted.port
        restart = f"hived start llamacpp --model {quoted(model)} --port 0"
        raise StartFailed(port_taken(HOST, wanted.port, restart=restart))
    if wanted.port is None and wanted.url is not None:
        _, port = host_and_port(wanted.url)
        if is_port_free(HOST, port):
            return port
    return free_port(HOST)
