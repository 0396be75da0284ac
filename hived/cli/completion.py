"""``hived completion SHELL``: print what the shell needs, made from the verbs' own parsers."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping

from hived.cli.running import YES, shown

NAMES: Mapping[str, str] = {
    "bash": "_hived_names",
    "zsh": "{_hived_names}",
    "tcsh": "`hived completion names`",
}
"""Completes with the names of servers, which are asked for when they are wanted."""
FILES: Mapping[str, str] = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""Completes with files."""

_BEFORE = {
    "bash": """_hived_names() {
  compgen -W "$(hived completion names 2>/dev/null)" -- "$1"
}""",
    "zsh": """_hived_names() {
  local -a names
  names=(${(f)"$(hived completion names 2>/dev/null)"})
  compadd -a names
}""",
    "tcsh": "",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "tcsh", "names"),
        help="names: print those of servers, one a line, as the completion itself asks for them",
    )


def run(options: argparse.Namespace) -> int:
    if options.shell == "names":
        print("\n".join(_names()))
        return YES
    import shtab

    print(shtab.complete(whole_parser(), shell=options.shell, preamble=_BEFORE[options.shell]))
    return YES


def completed_by(argument: argparse.Action, what: Mapping[str, str]) -> None:
    """Have an argument completed by something that is found when it is typed."""
    argument.complete = dict(what)  # type: ignore[attr-defined]


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser of all verbs: for completion and for tests, never for a run."""
    from hived.cli import VERBS

    parser = argparse.ArgumentParser(prog="hived")
    verbs = parser.add_subparsers(dest="verb")
    for name, what in VERBS.items():
        importlib.import_module(f"hived.cli.{name}").configure(verbs.add_parser(name, help=what))
    return parser


def _names() -> list[str]:
    """List the kinds of servers and the names of those that are known, for a shell: each is one word."""
    from hived_client.doors.sync import Client
    from hived_client.vocabulary.kinds import KINDS

    world = Client().world().world
    names = {kind.name for kind in (*KINDS, *world.kinds) if kind.start}
    names |= {name for endpoint in world.endpoints for name in (endpoint.name, *endpoint.aliases)}
    return sorted(name for name in names if shown(name) == name and len(name.split()) == 1)
