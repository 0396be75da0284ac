"""``hived doctor``: what is well here and what is not, and what mends it. It reads, and changes nothing."""

from __future__ import annotations

import argparse
import os
import sys

from hived.cli.running import NO, YES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also what is well and of no further interest")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.epilog = "Exit code 1 where something fails. Nothing is started, repaired or written."


def run(options: argparse.Namespace) -> int:
    # Here, so that whoever only completes a word does not pay for it.
    from hived.cli.doctor.examining import examine
    from hived.cli.doctor.printing import can_write_marks, report_lines
    from hived.cli.rendering import as_json

    report = examine(os.environ)
    if options.json:
        print(as_json(report))
    else:
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 0
        marks = can_write_marks(sys.stdout.encoding)
        print("\n".join(report_lines(report, width, everything=options.all, marks=marks)))
    return NO if report.failed else YES
