"""``hived stop``: stop what hived started, and nothing else."""

from __future__ import annotations

import argparse

from hived.cli.completion import NAMES, completed_by
from hived.cli.rendering import as_json
from hived.cli.running import NO, YES, name, seconds
from hived_client.doors.sync import Client

_WORDS = {
    "gone": "had already ended",
    "terminated": "has ended",
    "failed": "was not ended: the command that ends it failed (see hived's log)",
    "killed": "did not end when asked, and was killed",
}


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument("name", type=name, help="an endpoint (see hived status) or a provider")
    completed_by(what, NAMES)
    parser.add_argument("--all", action="store_true", help="every server of that provider")
    parser.add_argument("--grace", type=seconds, default=10.0, metavar="SECONDS", help="before it is killed")
    parser.add_argument("--json", action="store_true", help="print how each ended as JSON")


def run(options: argparse.Namespace) -> int:
    stopped = Client().stop(options.name, everything=options.all, grace=options.grace)
    if options.json:
        print(as_json(stopped))
    else:
        for endpoint, how in stopped.endpoints.items():
            print(f"{endpoint} {_WORDS.get(how, how)}")
    return NO if "failed" in stopped.endpoints.values() else YES
