"""The caller's variables that a service would not have: named to everybody, taken over by consent alone."""

from __future__ import annotations

import argparse
import sys

from hived.cli.service.here import Here


def consented(here: Here, options: argparse.Namespace) -> dict[str, str] | None:
    """Return all variables that the service is to have, asking where there is somebody to ask.

    ``None``: those that it has.
    """
    missing = {name for name, value in here.variables.items() if here.taken_over.get(name) != value}
    if options.with_environment:
        return dict(here.variables)  # and no others: what is set here no longer is not to be set there
    if not missing or options.without_environment:
        return None
    if options.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        tell_of_variables(here)
        return None
    names = ", ".join(sorted(missing))
    print(f"A service does not see these variables of yours: {names}.", file=sys.stderr)
    print(
        f"Write them into {here.manager.environment_file}, which only you can read? [y/N] ",
        end="",
        file=sys.stderr,
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() in ("y", "yes"):
        return {**here.taken_over, **here.variables}
    return None


def tell_of_variables(here: Here) -> None:
    """Name the variables that the service would not have; what they hold is nobody's business."""
    missing = sorted(name for name, value in here.variables.items() if here.taken_over.get(name) != value)
    if missing:
        print(f"a service does not see these variables of yours: {', '.join(missing)}", file=sys.stderr)
        print("  → hived service install --with-environment", file=sys.stderr)
