"""``python -m tests.benchmarks``: the budgets of the design, as ratios measured in one run."""

from __future__ import annotations

import argparse
import os
import platform

from tests.benchmarks.measuring import Row
from tests.benchmarks.rows import ROWS


def main() -> None:
    """Measure and print. A budget that is missed is shown, not failed: machines are noisy."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: to see that it runs")
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="only these")
    options = parser.parse_args()
    scale = 0.1 if options.quick else 1.0
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{'what':62} {'measured':>10}  {'ratio or figure':>15}  {'budget':>9}      baseline")
    for name in options.rows or ROWS:
        for row in ROWS[name](scale):
            print(line(row), flush=True)


def line(row: Row) -> str:
    """Return one line of the table."""
    sign = "≥" if row.at_least else "≤"
    verdict = "ok  " if row.kept else "MISS"
    return (
        f"{row.what:62} {row.measured:>10}  {row.shown:>15}  {sign} {row.limit:<7g} {verdict} {row.baseline}"
    )


if __name__ == "__main__":
    main()
