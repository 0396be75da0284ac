"""``python -m tests.stress [--seed N] [--scale K] [words]``: the stress suite by hand, as long as wanted."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.stress.figures import CI_SEED

ALWAYS = ("-q", "-m", "stress", "-o", "faulthandler_timeout=0")
"""A long soak is no hang."""


def main() -> int:
    """Run the suite; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--seed", type=int, default=CI_SEED, help="where chance begins (CI: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as much as in CI")
    parser.add_argument("words", nargs="*", help="only tests with these words in their names")
    options = parser.parse_args()
    words = ["-k", " or ".join(options.words)] if options.words else []
    return subprocess.run(
        [sys.executable, "-m", "pytest", *ALWAYS, *words, str(Path(__file__).parent)],
        env=os.environ | {"HIVED_STRESS_SEED": str(options.seed), "HIVED_STRESS_SCALE": str(options.scale)},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
