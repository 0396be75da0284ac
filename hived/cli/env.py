"""``hived env``: the variables with which other programs call a model.

eval "$(hived env ollama/llama3)"
"""

from __future__ import annotations

import argparse
import os
import shlex

from hived.cli.rendering import as_json
from hived.cli.running import YES, shown
from hived_client.agent.variables import Variables, variables_of
from hived_client.doors.sync import Client

SHELLS = ("sh", "fish", "csh")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="PROVIDER/NAME or ENDPOINT/NAME")
    parser.add_argument("--shell", choices=SHELLS, default="sh", help="whose syntax; default: sh")
    parser.add_argument("--json", action="store_true", help="print them as JSON; a key is only named")


def run(options: argparse.Namespace) -> int:
    target = Client().resolve(options.model)
    variables = variables_of(target, os.environ)
    if options.json:
        print(as_json({"variables": variables.values, "key_from": variables.key_ref}))
    else:
        print("\n".join(lines(variables, options.shell)))
    return YES


def lines(variables: Variables, shell: str) -> list[str]:
    """Return one assignment a line; a key is taken from the variable that holds it, and never printed."""
    pairs = [(name, quoted(shown(value), shell)) for name, value in variables.values.items()]
    if variables.key_ref is not None and "OPENAI_API_KEY" not in variables.values:
        pairs.append(("OPENAI_API_KEY", f'"${variables.key_ref}"'))
    form = {"sh": "export {}={}", "fish": "set -gx {} {}", "csh": "setenv {} {}"}[shell]
    return [form.format(name, value) for name, value in pairs]


def quoted(text: str, shell: str) -> str:
    """Quote text, which is one line, as one word of a shell: a server chooses its models' names.

    fish reads an escape within single quotes, and csh an old command behind a ``!``, there as everywhere.
    """
    if shell == "fish":
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    word = shlex.quote(text)
    return word.replace("!", "\\!") if shell == "csh" else word
