"""``hived completion SHELL``: print what the shell needs, made from the verbs' own parsers."""

from __future__ import annotations

import argparse
import importlib

from hived.cli.running import YES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(options: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(whole_parser(), shell=options.shell))
    return YES


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser of all verbs: for completion and for tests, never for a run."""
    from hived.cli import VERBS

    parser = argparse.ArgumentParser(prog="hived")
    verbs = parser.add_subparsers(dest="verb")
    for name, what in VERBS.items():
        importlib.import_module(f"hived.cli.{name}").configure(verbs.add_parser(name, help=what))
    return parser
