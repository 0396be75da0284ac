"""``hived serve``: the daemon in the foreground."""

from __future__ import annotations

import argparse
import os


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=("asyncio", "trio"), default="asyncio", help="the event loop (default: asyncio)"
    )


def run(options: argparse.Namespace) -> int:
    from hived.daemon.app import serve
    from hived_client.doors.paths import places

    return serve(places(), os.environ, backend=options.backend)
