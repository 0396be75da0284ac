"""``hived start``: start a model server and wait until it answers."""

from __future__ import annotations

import argparse
import os
import sys

from hived.cli.rendering import as_json, duration
from hived.cli.running import USAGE, YES, seconds, shown
from hived_client.doors.launch import ensure_running
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun
from hived_client.errors import Refused
from hived_client.vocabulary.faults import fault, quoted
from hived_client.vocabulary.kinds import LLAMACPP, kind_of_prefix

PASSES_ON = True
"""What follows ``--`` is for somebody else. argparse would take it for ours after the first option."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", help="llamacpp")
    parser.add_argument("--model", metavar="FILE", help="the GGUF file")
    parser.add_argument("--port", type=int, metavar="N", help="default: a free one")
    parser.add_argument("--ctx-size", type=int, metavar="TOKENS", help="context to load it with")
    parser.add_argument("--alias", metavar="NAME", help="default: the file's name")
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="SECONDS", help="default: 600")
    parser.add_argument("--json", action="store_true", help="print what was started as JSON")
    parser.epilog = "What follows -- is passed on to llama-server."


def run(options: argparse.Namespace) -> int:
    kind = kind_of_prefix(options.provider)
    if kind is not LLAMACPP:
        raise Refused(fault("start.unsupported", provider=options.provider, known=LLAMACPP.name))
    if not options.model:
        print("hived start llamacpp needs --model FILE.gguf", file=sys.stderr)
        return USAGE
    client = Client()
    if not client.running:
        greeting = ensure_running()
        print(f"hived was not running; it is now (pid {greeting.pid})", file=sys.stderr)
    for step in client.start(
        options.provider,
        model=os.path.abspath(options.model) if options.model else None,
        port=options.port,
        context=options.ctx_size,
        alias=options.alias,
        arguments=tuple(options.passed),
        timeout=options.timeout,
    ):
        if not isinstance(step, Begun):
            if sys.stderr.isatty():
                print(f"{shown(step.message)} ({duration(step.elapsed)})", file=sys.stderr)
            continue
        if options.json:
            print(as_json(step))
        else:
            print(f"{step.endpoint} is ready at {step.url} after {duration(step.elapsed)} (pid {step.pid})")
            for model in step.models:
                print(f"  hived resolve {quoted(shown(f'llamacpp/{model}'))}")
            print(f"  hived stop {step.endpoint}")
    return YES
