"""How far a start is, on one line of a terminal that is written again and again; elsewhere nothing."""

from __future__ import annotations

import os
import shutil
import sys
from types import TracebackType
from typing import Self

from hived.cli.columns import cut
from hived.cli.rendering import duration
from hived.cli.running import shown
from hived_client.doors.wire import Progress

_AGAIN = "\r\x1b[K"
"""To the beginning of the line, with nothing on it."""


class ProgressLine:
    """``with ProgressLine() as tell: … tell(step)``. What it has shown is gone at the end."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        # A terminal that cannot go back is told each thing once.
        self._is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "")
        self._said = ""
        self.ours = ""
        """The server that hived has begun, as far as it was told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._said and self._is_terminal and not self._is_dumb:
            print(_AGAIN, end="", file=sys.stderr, flush=True)

    def __call__(self, step: Progress) -> None:
        if step.ours:
            self.ours = shown(step.endpoint or "")
        if not self._is_terminal or step.stage == "note":  # what is noted is said at the end, to everybody
            return
        if self._is_dumb:
            if step.message != self._said:
                print(shown(step.message), file=sys.stderr, flush=True)
        else:
            lasting = f" ({duration(step.elapsed)})" if step.elapsed else ""
            line = f"{shown(step.message)}{lasting}"
            width = shutil.get_terminal_size().columns
            print(f"{_AGAIN}{cut(line, width - 1)}", end="", file=sys.stderr, flush=True)
        self._said = step.message
