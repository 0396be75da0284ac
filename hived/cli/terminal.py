"""A whole terminal, borrowed: the alternate screen, which leaves what was there before as it was.

The rule that must hold: however the borrowing ends, the terminal is given back, with its cursor, its echo
and its lines. Only ``SIGKILL`` can prevent that.
"""

from __future__ import annotations

import contextlib
import os
import re
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from hived.cli.columns import columns, cut

ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
LEAVE = "\x1b[?25h\x1b[?1049l"
BEGIN_FRAME, END_FRAME = "\x1b[?2026h", "\x1b[?2026l"
"""Between these a terminal that knows them shows nothing half drawn; others ignore them."""

NARROWEST, LOWEST = 20, 4
"""Columns and rows with which something can be shown."""

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """``with Terminal(out, keys) as terminal: terminal.draw(lines)``."""

    def __init__(self, out: int, keys: int | None) -> None:
        """``out`` is a terminal's descriptor; ``keys`` that of one which sends keys, ``None`` for none."""
        self._out = out
        self._keys = keys
        self._before: list[Any] | None = None
        self._drawn = ""

    def __repr__(self) -> str:
        return f"<Terminal {self._out}>"

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the screen; keys come one by one from now on and are not shown."""
        if self._keys is not None:
            with contextlib.suppress(termios.error):
                self._before = termios.tcgetattr(self._keys)
                changed = list(self._before)
                changed[3] &= ~(termios.ECHO | termios.ICANON)
                termios.tcsetattr(self._keys, termios.TCSANOW, changed)
        self._write(ENTER)
        self._drawn = ""

    def leave(self) -> None:
        """Give the screen back. Never raises: the terminal itself may be gone."""
        with contextlib.suppress(OSError):
            self._write(LEAVE)
        if self._keys is not None and self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)

    def size(self) -> tuple[int, int]:
        """Return columns and rows, which change while people work; 80 and 24 where nobody says."""
        found = os.get_terminal_size(self._out)
        return found.columns or 80, found.lines or 24

    def draw(self, lines: Sequence[str], width: int) -> None:
        """Show lines, which are no more than there are rows; nothing is written where nothing changed."""
        # Behind the last column the cursor still stands on it: to clear the rest would clear that.
        rows = [line if _length(line) % width == 0 and line else f"{line}\x1b[K" for line in lines]
        frame = "\x1b[H" + "\r\n".join(rows) + "\x1b[J"
        if frame != self._drawn:
            self._write(BEGIN_FRAME + frame + END_FRAME)
            self._drawn = frame

    def forget(self) -> None:
        """Draw everything next time: the screen has another size, or somebody else wrote on it."""
        self._drawn = ""
        self._write("\x1b[2J")

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]


def fitted(body: Sequence[str], problems: Sequence[str], foot: str, width: int, height: int) -> list[str]:
    """Return what fits: all of it, or the beginnings of both parts, each with how much is left out.

    What is wrong keeps a third of the rows at least, since it stands last and is what one must see.
    """
    if width < NARROWEST or height < LOWEST:
        return [cut("hived: too small a terminal", width)]
    room = height - 1
    gap = [""] if problems else []
    taken = sum(rows_of(line, width) for line in (*body, *gap, *problems))
    if taken > room:
        wrong = sum(rows_of(line, width) for line in problems)
        kept = min(wrong, max(room // 3, room - 1 - sum(rows_of(line, width) for line in body)))
        problems = _first(problems, kept, width)
        body = _first(body, room - len(gap) - sum(rows_of(line, width) for line in problems), width)
    lines = [*body, *gap, *problems]
    lines += [""] * (room - sum(rows_of(line, width) for line in lines))
    return [*lines, cut(foot, width)]


def rows_of(line: str, width: int) -> int:
    """Return the rows that a line takes: a command that is longer than one is not cut."""
    return max(1, -(-_length(line) // width))


def _first(lines: Sequence[str], rows: int, width: int) -> list[str]:
    if sum(rows_of(line, width) for line in lines) <= rows:
        return list(lines)
    kept: list[str] = []
    left = rows - 1  # for the line that says how many are missing
    for line in lines:
        left -= rows_of(line, width)
        if left < 0:
            break
        kept.append(line)
    more = len(lines) - len(kept)
    return [*kept, cut(f"… {more} more lines (hived status)", width)] if rows > 0 else []


def _length(line: str) -> int:
    return columns(_STYLE.sub("", line))
