"""``hived service``: hived as a service of this user, under systemd or launchd."""

from __future__ import annotations

import argparse
import os
import sys

from hived.cli.rendering import as_json
from hived.cli.running import YES, seconds, shown
from hived.cli.service.acts import act
from hived.cli.service.here import Here
from hived.cli.service.showing import show

ACTIONS = {
    "install": "write the service, have it start now and with every login, and wait until it is ready",
    "uninstall": "stop it and remove all that it consists of",
    "show": "print what install would write; writes nothing",
    "start": "start it",
    "stop": "stop it until the next login",
    "restart": "stop it and start it",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=tuple(ACTIONS))
    taking = parser.add_mutually_exclusive_group()
    taking.add_argument(
        "--with-environment",
        action="store_true",
        help="install: write the variables of this shell that matter, and no others, into a file for the "
        "service alone",
    )
    taking.add_argument(
        "--without-environment", action="store_true", help="install: remove that file, and ask nothing"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="for it to be ready (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    width = max(map(len, ACTIONS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(f"{name:{width}}  {what}" for name, what in ACTIONS.items())


def run(options: argparse.Namespace) -> int:
    here = Here(os.environ, sys.executable)
    if options.action == "show":
        return show(here, as_document=options.json)
    outcome = act(here, options)
    if options.json:
        print(as_json(outcome))
        return YES
    for line in outcome.changed:
        print(shown(line))
    if outcome.pid is None:
        return YES
    from hived.cli import status

    return status.run(argparse.Namespace(watch=False, json=False, all=False))
