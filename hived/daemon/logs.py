"""Where log lines go: the journal, a terminal, or JSON lines; always on stderr."""

from __future__ import annotations

import io
import logging
import os
import select
import stat
import sys
from typing import TextIO, cast

import structlog

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

_level = "info"

STDERR = 2


def configure_logs(level: str) -> None:
    """Set up structlog for this process. Unknown levels mean ``info``."""
    global _level
    _level = level
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
    ]
    chain: list[structlog.typing.Processor]
    if _is_journal():
        chain = [*shared, structlog.processors.format_exc_info, _journal]
    elif sys.stderr.isatty():
        stamp: structlog.typing.Processor = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        colors = "NO_COLOR" not in os.environ
        # What structlog picks by itself shows the locals of a trace where rich is there, and so keys.
        plain = structlog.dev.plain_traceback
        chain = [stamp, *shared, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    else:
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        chain = [
            stamp,
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False),
        ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Forgiving(sys.stderr))),
        cache_logger_on_first_use=False,
    )


def is_terminal_gone() -> bool:
    """Tell whether stderr is a terminal that was closed, which nobody will ever read again."""
    try:
        hung_up = select.poll()
        hung_up.register(STDERR, 0)  # an end, which is told unasked
        # macOS says of some devices only that they cannot be polled.
        return stat.S_ISCHR(os.fstat(STDERR).st_mode) and any(
            told & (select.POLLHUP | select.POLLERR) for _, told in hung_up.poll(0)
        )
    except OSError:
        return False


def leave_terminal(path: str) -> None:
    """Write to the end of a file from now on, as a daemon does that a program has started."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return  # what is said goes nowhere, as before
    os.dup2(fd, STDERR)
    os.close(fd)
    configure_logs(_level)


class _Forgiving(io.TextIOBase):
    """Writes where it can at once.

    A disk that is full, a reader that left, a pipe that nobody empties and a terminal that was stopped with
    Ctrl-S cost a line, and neither end the daemon nor hold it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting = ""
        self._is_torn = False

    def write(self, text: str) -> int:
        self._waiting += text
        return len(text)

    def flush(self) -> None:
        # Past Python's own buffer: what stays in that one fails again at the interpreter's end (code 120).
        line, self._waiting = self._waiting.encode(errors="replace"), ""
        if self._is_torn:
            line = b"\n" + line
        begun = False
        try:
            room = select.poll()
            room.register(self._stream.fileno(), select.POLLOUT)
            while line and room.poll(0):
                # A pipe that has room has it for so much.
                line = line[os.write(self._stream.fileno(), line[: select.PIPE_BUF]) :]
                begun = True
        except (OSError, ValueError):
            return
        finally:
            self._is_torn = bool(line) and (begun or self._is_torn)


def _is_journal() -> bool:
    """Tell whether stderr is the journal's, which then adds time and unit by itself."""
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        found = os.fstat(2)
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (ValueError, OSError):
        return False


def _journal(logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict) -> str:
    level = _PRIORITY.get(str(event.pop("level", "info")), 6)
    name = event.pop("event", "")
    fields = " ".join(f"{key}={value!r}" for key, value in event.items() if value is not None)
    return f"<{level}>{name} {fields}".replace("\n", "\n  ")
