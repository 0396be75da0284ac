"""``hived start``: start a model server and wait until it answers."""

from __future__ import annotations

import argparse
import sys

from hived.cli.completion import FILES, NAMES, completed_by
from hived.cli.progress import ProgressLine
from hived.cli.rendering import as_json, duration
from hived.cli.running import INTERRUPTED, TOKENS, YES, number, seconds, shown
from hived_client.doors.launch import ensure_running
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import fault, quoted

PASSES_ON = True
"""What follows ``--`` is for somebody else. argparse would take it for ours after the first option."""


def configure(parser: argparse.ArgumentParser) -> None:
    provider = parser.add_argument(
        "provider", help="llamacpp, ollama, vllm, lm_studio, or an endpoint of the configuration"
    )
    completed_by(provider, NAMES)
    model = parser.add_argument(
        "--model",
        metavar="MODEL",
        help="of a server that is started with one: a GGUF file for llama.cpp; for vLLM a folder, or a name "
        "of Hugging Face's, which is downloaded if it is not on the disk",
    )
    completed_by(model, FILES)
    parser.add_argument(
        "--port", type=number(0, 65_535), metavar="N", help="default: the configured one, else a free one"
    )
    parser.add_argument(
        "--ctx-size", type=number(1, TOKENS), metavar="TOKENS", help="context to load it with"
    )
    parser.add_argument("--alias", metavar="NAME", help="default: the file's name")
    parser.add_argument(
        "--no-restart", action="store_true", help="leave it down when it ends by accident (default: restart)"
    )
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="SECONDS", help="default: 600")
    parser.add_argument("--json", action="store_true", help="print what was started as JSON")
    parser.epilog = (
        "What follows -- is passed on to the server. Ollama and LM Studio are only started: they load a "
        "model when one is asked for. A server that runs already is left as it is. One that hived starts "
        "listens on this device only and outlives hived; Ctrl-C leaves it starting, and hived stop ends it."
    )


def run(options: argparse.Namespace) -> int:
    client = Client()
    if not client.running:
        greeting = ensure_running()
        print(f"hived was not running; it is now (pid {greeting.pid})", file=sys.stderr)
    with ProgressLine() as tell:
        try:
            begun = _start(client, options, tell)
        except KeyboardInterrupt:
            print(f"\n{_left(tell.ours)}", file=sys.stderr)
            return INTERRUPTED
    for note in begun.notes:
        print(shown(note), file=sys.stderr)
    print(as_json(begun) if options.json else "\n".join(_lines(begun, options.provider)))
    return YES


def _start(client: Client, options: argparse.Namespace, tell: ProgressLine) -> Begun:
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
        if isinstance(step, Begun):
            return step
        tell(step)
    raise Unavailable(fault("protocol.broken", why="the start came to no end"))


def _left(name: str) -> str:
    """Say what becomes of a start that nobody waits for any more: a start is whole, or leaves nothing."""
    if name:
        return f"{name} goes on starting without you; hived stop {name} ends it, hived status shows it"
    return "nothing was begun yet; hived status shows what runs"


def _lines(begun: Begun, provider: str) -> list[str]:
    name = shown(begun.endpoint)
    if begun.adopted:
        lines = [f"{name} already runs at {begun.url}; hived did not start it"]
    else:
        process = f" (pid {begun.pid})" if begun.pid is not None else ""
        lines = [f"{name} is ready at {begun.url} after {duration(begun.elapsed)}{process}"]
    lines += [f"  hived resolve {quoted(shown(f'{provider}/{model}'))}" for model in begun.models]
    return lines if begun.adopted else [*lines, f"  hived stop {name}"]
