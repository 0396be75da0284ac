"""``hived resolve``: ask what a program would ask."""

from __future__ import annotations

import argparse

from hived.cli.progress import ProgressLine
from hived.cli.rendering import as_json, target_lines
from hived.cli.running import TOKENS, YES, number, seconds
from hived_client.doors.sync import Client


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="PROVIDER/NAME or ENDPOINT/NAME")
    parser.add_argument(
        "--context", type=number(1, TOKENS), metavar="TOKENS", help="tokens that prompt and output need"
    )
    parser.add_argument("--needs", action="append", default=[], metavar="WHAT", help="tools, vision, …")
    parser.add_argument(
        "--private",
        nargs="?",
        const=True,
        default=False,
        type=_reach,
        metavar="lan",
        help="only on this device (or, with 'lan', on this network)",
    )
    parser.add_argument("--fresh", action="store_true", help="look at the server again first")
    parser.add_argument("--verify", action="store_true", help="connect to the server before saying yes")
    parser.add_argument(
        "--start", action="store_true", help="start the daemon, and the model's server, if they do not run"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="default: 0.25, and with --start 120"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(options: argparse.Namespace) -> int:
    with ProgressLine() as tell:
        target = Client().resolve(
            options.model,
            context=options.context,
            needs=tuple(options.needs),
            private=options.private,
            fresh=options.fresh,
            verify=options.verify,
            start=options.start,
            timeout=options.timeout,
            tell=tell,
        )
    print(
        as_json(target_document(target)) if options.json else "\n".join(target_lines(options.model, target))
    )
    return YES


def target_document(target: object) -> dict[str, object]:
    """Return a Target with every field, also those that have their default; the user's key is hidden."""
    import msgspec

    from hived_client.resolution import Target

    assert isinstance(target, Target)
    return msgspec.structs.asdict(target.shown())


def _reach(word: str) -> str:
    if word != "lan":
        raise argparse.ArgumentTypeError("can only be 'lan'")
    return word
