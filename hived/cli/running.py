"""How every verb is run: arguments read, errors turned into a sentence, a hint and an exit code."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault

YES = 0
NO = 1
USAGE = 2
NOT_RUNNING = 3
UNRESPONSIVE = 4
INTERRUPTED = 130

TOKENS = 2**31 - 1
"""The longest context that can be asked for."""


class Verb(Protocol):
    """What a verb's module offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, options: argparse.Namespace) -> int: ...


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run one verb."""
    try:
        module: Verb = importlib.import_module(f"hived.cli.{verb}")
        own, passed = list(arguments), []
        if getattr(module, "PASSES_ON", False) and "--" in own:
            own, passed = own[: own.index("--")], own[own.index("--") + 1 :]
        try:
            options = parser_of(verb, module).parse_args(own, argparse.Namespace(passed=passed))
        except SystemExit as end:
            return int(end.code or 0)
        try:
            code = module.run(options)
        except HivedError as error:
            indent = -1 if getattr(options, "json_lines", False) else 2
            code = report(error, as_json=getattr(options, "json", False), indent=indent)
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return code


def parser_of(verb: str, module: Verb) -> argparse.ArgumentParser:
    """Return the parser of one verb."""
    from hived.cli import VERBS

    parser = argparse.ArgumentParser(prog=f"hived {verb}", description=f"{VERBS[verb].capitalize()}.")
    module.configure(parser)
    return parser


def report(error: HivedError, *, as_json: bool, indent: int) -> int:
    """Say what is wrong and what mends it; return the exit code.

    ``indent``: of its JSON; -1 for one line, among other objects that have one each.
    """
    if as_json:
        import msgspec

        body = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "alternatives": list(error.alternatives),
        }
        print(shown_json(msgspec.json.format(msgspec.json.encode(body), indent=indent).decode()))
    print(sentence(error.fault), file=sys.stderr)
    for alternative in error.alternatives:
        print(f"  instead: {shown(alternative)}", file=sys.stderr)
    return exit_code(error)


def exit_code(error: HivedError) -> int:
    """Return the exit code of an error."""
    if error.code in ("daemon.not_running", "daemon.absent"):
        return NOT_RUNNING
    if error.code in ("daemon.unresponsive", "protocol.broken", "draining"):
        return UNRESPONSIVE
    return NO


def seconds(word: str) -> float:
    """Read a number of seconds for argparse. Raises ValueError for what no wait can last."""
    number = float(word)
    if not 0.0 <= number < 1e9:
        raise ValueError(word)
    return number


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number of a range for argparse."""

    def read(word: str) -> int:
        if not (word.isascii() and word.isdecimal() and least <= int(word[:20]) <= most):
            raise argparse.ArgumentTypeError(f"{word!a} is not a number from {least} to {most}")
        return int(word)

    return read


def name(word: str) -> str:
    """Read a name for argparse: none at all is what an unset variable of a script leaves."""
    if not word.strip():
        raise argparse.ArgumentTypeError("the name is empty")
    return word


def sentence(fault: Fault) -> str:
    """Return a fault on one line, or two where there is something to type."""
    text = shown(fault.message)
    return f"{text}\n  → {shown(fault.hint)}" if fault.hint else text


def shown_json(text: str) -> str:
    """Return JSON in which whatever a terminal would obey stands as an escape, which means the same."""
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def shown(text: str) -> str:
    """Return text that came from elsewhere with nothing in it that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)
