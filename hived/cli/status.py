"""``hived status``: read from the files, so that it is quick and works when the daemon does not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

import msgspec

from hived.cli.document import world_document
from hived.cli.rendering import as_json
from hived.cli.running import NOT_RUNNING, UNRESPONSIVE, USAGE, YES
from hived.cli.screen import status_lines
from hived_client.doors.files import Known
from hived_client.doors.proxies import hijacked_endpoint
from hived_client.doors.sync import Client


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the World as JSON")
    parser.add_argument(
        "--watch", action="store_true", help="show it until q or Ctrl-C; with --json, a line at every change"
    )
    parser.add_argument("--all", action="store_true", help="list every model, also those that are not loaded")


def run(options: argparse.Namespace) -> int:
    if options.watch:
        return _watch(options)
    known = with_own_problems(Client().world(), os.environ)
    if options.json:
        print(as_json(world_document(known)))
    else:
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 0
        print("\n".join(status_lines(known, width, everything=options.all)))
    if known.verdict in ("absent", "stopped", "foreign"):
        print(f"hived is not running\n  → {_start(known)}", file=sys.stderr)
        return NOT_RUNNING
    return UNRESPONSIVE if known.verdict == "stale" else YES


def _start(known: Known) -> str:
    """Return the command that starts the daemon here."""
    from hived_client.doors.service import find_service  # only where nothing runs

    return "hived service start" if find_service(known.places, os.environ) is not None else "hived serve"


def with_own_problems(known: Known, environment: Mapping[str, str]) -> Known:
    """Add what the daemon cannot see: a proxy in this very environment that takes calls from servers."""
    taken = hijacked_endpoint(known.world.endpoints, environment)
    if taken is None:
        return known
    world = msgspec.structs.replace(known.world, problems=(*known.world.problems, taken))
    return msgspec.structs.replace(known, world=world)


def _watch(options: argparse.Namespace) -> int:
    if not options.json and (not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb"):
        print(
            "hived status --watch needs a terminal that can be drawn on\n"
            "  → hived status --watch --json\n  → hived events",
            file=sys.stderr,
        )
        return USAGE
    # Not above: only a watch needs an event loop, and a status has to be quick.
    from hived.cli.watching import watch_in_json, watch_on_terminal
    from hived_client.doors.aio import AsyncClient

    def completed(known: Known) -> Known:
        return with_own_problems(known, os.environ)

    client = AsyncClient()
    if options.json:
        return watch_in_json(client, completed)
    return watch_on_terminal(client, completed, everything=options.all)
