"""``hived demo``: all of it, for real, in a temporary home that is gone afterwards."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--use-installed",
        action="store_true",
        help="use a local model that is already loaded, and start and stop nothing but hived",
    )
    parser.add_argument("--json", action="store_true", help="print the steps and their times as JSON")


def run(options: argparse.Namespace) -> int:
    from hived.cli.demo.story import tell

    return tell(use_installed=options.use_installed, as_json=options.json)
