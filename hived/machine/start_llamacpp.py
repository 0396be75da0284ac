"""How llama.cpp is started: one server a model, each on a port of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from hived.decisions.addresses import host_and_port
from hived.machine.gguf_files import check_model
from hived.machine.llamacpp import alias_of, command, environment, find_program
from hived.machine.llamacpp_log import why_it_ended
from hived.machine.loopback import own_place, shown
from hived.machine.owners import port_taken
from hived.machine.ports import choose_port
from hived.machine.recipes import Launch, Stage, Wanted
from hived.machine.start_faults import fault_of, log_of
from hived_client.errors import Refused, StartFailed
from hived_client.vocabulary.faults import Fault, fault, quoted, wrong_start
from hived_client.vocabulary.kinds import LLAMACPP


class LlamaCppRecipe:
    """llama.cpp's server: the user's own program, or the one in a wheel."""

    kind = LLAMACPP
    single = False
    only_one = False
    takes = frozenset(("model", "context", "alias", "arguments"))

    def __repr__(self) -> str:
        return "<LlamaCppRecipe>"

    def prepare(self, wanted: Wanted, base: Mapping[str, str]) -> Launch:
        """Find the program, look at the model's file, choose a port. Blocks."""
        host, usual = own_place(LLAMACPP, wanted.url)
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
        port = choose_port(host, wanted.port, usual)
        if port is None:
            restart = wanted.command(LLAMACPP.name, model=model, port=0)
            raise StartFailed(port_taken(host, wanted.port or 0, restart=restart))
        alias = wanted.alias or alias_of(model)
        try:
            argv = command(
                program,
                model=model,
                host=host,
                port=port,
                alias=alias,
                context=wanted.context,
                extra=wanted.arguments,
            )
        except ValueError as error:
            raise Refused(wrong_start(str(error))) from error
        url = f"http://{shown(host, port)}"
        return Launch(
            argv=tuple(argv), environment=environment(base), url=url, wanted=wanted, model=model, alias=alias
        )

    def why_it_ended(self, text: str, *, started: bool) -> str:
        return why_it_ended(text, started=started)

    def broke_down(self, text: str) -> bool:
        return False

    def stage(self, text: str) -> Stage | None:
        return None  # it answers while it loads, and says how far it is

    def fault_of_end(self, launch: Launch, why: str, log: str) -> Fault:
        if re.search(r"couldn't bind HTTP server socket|^hived-llamacpp: port ", why):
            return port_taken(*host_and_port(launch.url), restart=launch.command(LLAMACPP.name, port=0))
        is_ours = "hived.machine.embedded_llamacpp" in launch.argv
        return fault_of(
            why,
            title=LLAMACPP.title,
            **log_of(log),
            model=launch.model,
            restart=launch.command(LLAMACPP.name, context=4096),
            program=launch.argv[0],
            upgrade="pip install --upgrade xllamacpp" if is_ours else None,
            usage=None if is_ours else f"{quoted(launch.argv[0])} --help",
        )
