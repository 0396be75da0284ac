"""Whoever reads what a verb prints as it happens, and may leave before anything happens."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading

GONE = 128 + 13
"""Exit code, as a shell shows an end by SIGPIPE."""


def end_with_reader() -> None:
    """Have this process end as soon as nobody reads it any more, and not at the next line.

    For verbs that print and hold nothing that is to be given back: it ends at once.
    """
    try:
        out = sys.stdout.fileno()
        mode = os.fstat(out).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_wait, args=(out,), daemon=True).start()


def _wait(out: int) -> None:
    left = select.poll()
    left.register(out, 0)  # an error, which is told unasked
    left.poll()
    os._exit(GONE)
