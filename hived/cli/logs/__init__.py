"""``hived logs``: what the daemon wrote, or a server that it started; also as it is being written."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hived.cli.running import YES, number, shown, shown_json

if TYPE_CHECKING:
    from hived.cli.logs.sources import Source

_NAMES = "hived logs --list 2>/dev/null"
_COMPLETE = {
    "bash": "_hived_logs_names",
    "zsh": f"($({_NAMES}))",
    "tcsh": "`hived logs --list`",
    "preamble": {"bash": f'_hived_logs_names() {{ compgen -W "$({_NAMES})" -- "$1"; }}'},
}


def configure(parser: argparse.ArgumentParser) -> None:
    name = parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a server that hived started, or its provider; none: hived's own",
    )
    name.complete = _COMPLETE  # type: ignore[attr-defined]
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    parser.add_argument(
        "-n",
        "--lines",
        type=number(0, 1_000_000),
        default=50,
        metavar="N",
        help="how many of the last lines; default: 50",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(json_lines=True)
    parser.add_argument("--list", action="store_true", help="print the names that there are logs of")


def run(options: argparse.Namespace) -> int:
    # Here, so that whoever only completes a word does not pay for it.
    from hived.cli.logs.sources import File, find_log, names, variables_of
    from hived.cli.masking import masking
    from hived.cli.reader import end_with_reader
    from hived_client.doors.sync import Client

    known = Client().world()
    if options.list:
        print("\n".join(map(shown, names(known))))
        return YES
    source = find_log(options.name, known, os.environ)
    if sys.stdout.isatty() and not options.json:
        where = source.path if isinstance(source, File) else f"the journal of {source.unit}"
        print(f"{shown(where)}:", file=sys.stderr)
    if options.follow and isinstance(source, File):
        end_with_reader()  # the journal is told by a program that has to be ended first
    show(source, options, masking({**variables_of(known), **os.environ}))
    return YES


def show(source: Source, options: argparse.Namespace, masked: Callable[[str], str]) -> None:
    """Print the end of a log, and what follows where that is wanted."""
    import msgspec

    from hived.cli.logs.entries import lines_of, safe
    from hived.cli.logs.reading import entries

    for entry in entries(source, options.lines, follow=options.follow):
        harmless = safe(entry, masked)
        if options.json:
            print(shown_json(msgspec.json.encode(harmless).decode()), flush=options.follow)
        else:
            print("\n".join(lines_of(harmless)), flush=options.follow)
