"""``hived exec``: run a program that finds the model by its environment, or a Hive with hived plugged in.

hived exec --model ollama/llama3 -- python my_agent.py
hived exec -- hive serve
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from hived.cli.running import USAGE
from hived_client.agent.hook import plugged
from hived_client.agent.variables import variables_of
from hived_client.doors.sync import Client

PASSES_ON = True
NOT_FOUND, NOT_RUNNABLE = 127, 126  # as a shell says it


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [--model MODEL] -- COMMAND …"
    parser.add_argument(
        "--model", help="PROVIDER/NAME or ENDPOINT/NAME; without it: hived is plugged into every Hive below"
    )


def run(options: argparse.Namespace) -> int:
    command: list[str] = options.passed
    if not command:
        print("hived exec: which command? → hived exec --model MODEL -- COMMAND", file=sys.stderr)
        return USAGE
    environment = plugged(os.environ) if options.model is None else _with_model(options.model)
    sys.stdout.flush()
    for ignored in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
    ):  # Python ignores them, and a program would go on doing so
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print(f"hived exec: {command[0]!a} cannot be run: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE


def _with_model(model: str) -> dict[str, str]:
    target = Client().resolve(model)
    variables = variables_of(target, os.environ)
    environment = dict(os.environ) | variables.values
    if variables.key_ref is not None and target.api_key:
        environment["OPENAI_API_KEY"] = target.api_key
    return environment
