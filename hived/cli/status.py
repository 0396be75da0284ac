"""``hived status``: read from the files, so that it is quick and works when the daemon does not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

import msgspec

from hived.cli.rendering import as_json, status_lines, world_document
from hived.cli.running import NOT_RUNNING, UNRESPONSIVE, YES
from hived_client.doors.files import Known
from hived_client.doors.proxies import hijacked_endpoint
from hived_client.doors.sync import Client


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the World as JSON")


def run(options: argparse.Namespace) -> int:
    known = with_own_problems(Client().world(), os.environ)
    if options.json:
        print(as_json(world_document(known)))
    else:
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 0
        print("\n".join(status_lines(known, width)))
    if known.verdict in ("absent", "stopped", "foreign"):
        print("hived is not running\n  → hived serve", file=sys.stderr)
        return NOT_RUNNING
    return UNRESPONSIVE if known.verdict == "stale" else YES


def with_own_problems(known: Known, environment: Mapping[str, str]) -> Known:
    """Add what the daemon cannot see: a proxy in this very environment that takes calls from servers."""
    taken = hijacked_endpoint(known.world.endpoints, environment)
    if taken is None:
        return known
    world = msgspec.structs.replace(known.world, problems=(*known.world.problems, taken))
    return msgspec.structs.replace(known, world=world)
