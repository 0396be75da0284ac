"""``hived start``: start a model server and wait until it answers."""

from __future__ import annotations

import argparse
import sys

from hived.cli.rendering import as_json, duration
from hived.cli.running import YES, seconds, shown
from hived_client.doors.launch import ensure_running
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun, Progress
from hived_client.vocabulary.faults import quoted

PASSES_ON = True
"""What follows ``--`` is for somebody else. argparse would take it for ours after the first option."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", help="llamacpp, ollama, … or an endpoint of the configuration")
    parser.add_argument("--model", metavar="FILE", help="the model, for a server that is started with one")
    parser.add_argument("--port", type=int, metavar="N", help="default: the configured one, else a free one")
    parser.add_argument("--ctx-size", type=int, metavar="TOKENS", help="context to load it with")
    parser.add_argument("--alias", metavar="NAME", help="default: the file's name")
    parser.add_argument(
        "--no-restart", action="store_true", help="leave it down when it ends by accident (default: restart)"
    )
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="SECONDS", help="default: 600")
    parser.add_argument("--json", action="store_true", help="print what was started as JSON")
    parser.epilog = (
        "What follows -- is passed on to the server. Ollama is only started: it loads a model when one is "
        "asked for. A server that runs already is left as it is."
    )


def run(options: argparse.Namespace) -> int:
    client = Client()
    if not client.running:
        greeting = ensure_running()
        print(f"hived was not running; it is now (pid {greeting.pid})", file=sys.stderr)
    for step in client.start(
        options.provider,
        model=options.model or None,
        port=options.port,
        context=options.ctx_size,
        alias=options.alias,
        arguments=tuple(options.passed),
        timeout=options.timeout,
        restart=not options.no_restart,
    ):
        if not isinstance(step, Begun):
            tell(step)
            continue
        for note in step.notes:
            print(shown(note), file=sys.stderr)
        print(as_json(step) if options.json else "\n".join(_lines(step, options.provider)))
    return YES


def tell(step: Progress) -> None:
    """Show how far a start is, to a person."""
    if sys.stderr.isatty() and step.stage != "note":  # what is noted is said at the end, to everybody
        print(f"{shown(step.message)} ({duration(step.elapsed)})", file=sys.stderr)


def _lines(begun: Begun, provider: str) -> list[str]:
    name = shown(begun.endpoint)
    if begun.adopted:
        lines = [f"{name} already runs at {begun.url}; hived did not start it"]
    else:
        process = f" (pid {begun.pid})" if begun.pid is not None else ""
        lines = [f"{name} is ready at {begun.url} after {duration(begun.elapsed)}{process}"]
    lines += [f"  hived resolve {quoted(shown(f'{provider}/{model}'))}" for model in begun.models]
    return lines if begun.adopted else [*lines, f"  hived stop {name}"]
