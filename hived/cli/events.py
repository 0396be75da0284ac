"""``hived events``: one line a change, until Ctrl-C or the daemon's end."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from hived.cli.reader import end_with_reader
from hived.cli.running import YES, number, shown, shown_json
from hived_client.doors.sync import Client
from hived_client.vocabulary.world import Change


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(json_lines=True)
    parser.add_argument("--count", type=number(0, 10**9), metavar="N", help="end after N changes")


def run(options: argparse.Namespace) -> int:
    left = options.count
    if left == 0:
        return YES
    end_with_reader()
    for change in Client().events():
        print(shown_json(msgspec.json.encode(change).decode()) if options.json else line(change))
        sys.stdout.flush()
        if left is not None:
            left -= 1
            if left == 0:
                break
    return YES


def line(change: Change) -> str:
    """Return a change on one line."""
    clock = time.strftime("%H:%M:%S", time.localtime(change.at))
    what = "/".join(part for part in (change.endpoint, change.model) if part)
    move = " → ".join(part for part in (change.before, change.after) if part)
    why = f"  ({change.reason.message})" if change.reason is not None else ""
    return shown(f"{clock}  {change.event:22} {what}  {move}{why}".rstrip())
