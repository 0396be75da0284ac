"""The lines of a log: the last ones, and those that are still to come. Blocks; changes nothing.

A file is followed by its name: one that was put aside for a new one is read to its end, and then the new one
from its beginning. One that was cut is read from its beginning again.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from hived.cli.logs.entries import Entry, of_daemon, of_journal, of_server
from hived.cli.logs.sources import Journal, Source
from hived_client.errors import NotReady
from hived_client.vocabulary.faults import fault, quoted

POLL = 0.2
"""Seconds between two looks at a file that is followed."""
UNFINISHED = 1.0
"""Seconds after which a line is told although it has not ended: a server that died does not end it."""
CHUNK = 65_536
MOST_BYTES = 8 * 1024 * 1024
"""Bytes at the end of a file that are searched for its last lines."""


def entries(source: Source, count: int, *, follow: bool = False) -> Iterator[Entry]:
    """Yield the last entries of a log, and with ``follow`` those to come, for ever.

    Raises ``NotReady`` (``logs.unreadable``) where it cannot be read.
    """
    if isinstance(source, Journal):
        yield from map(of_journal, _lines_of_program(journal_words(source, count, follow=follow)))
        return
    read = of_daemon if source.is_own else of_server
    try:
        lines, end = last_lines(source.path, count)
    except OSError as error:
        raise _unreadable(
            source.path, error.strerror or str(error), f"ls -l {quoted(source.path)}"
        ) from error
    yield from map(read, lines)
    if follow:
        yield from map(read, following(source.path, end))


def journal_words(journal: Journal, count: int, *, follow: bool = False) -> list[str]:
    """Return the command that prints the journal of a unit as JSON.

    ``--user-unit`` and not ``--user -u``: the latter opens only the user's own journal, which there is none
    of where the journal is not kept on disk.
    """
    unit = f"--unit={journal.unit}" if journal.is_system else f"--user-unit={journal.unit}"
    words = ["journalctl", unit, "--output=json", f"--lines={count}", "--no-pager", "--quiet"]
    return [*words, "--follow"] if follow else words


def last_lines(path: str, count: int) -> tuple[list[str], int]:
    """Return the last lines of a file, and where they end. Raises OSError."""
    with _open(path) as file:
        end = at = file.seek(0, os.SEEK_END)
        data = b""
        # One line end more than lines: what stands before the first of them is the rest of another line.
        while at > 0 and data.count(b"\n") <= count and len(data) < MOST_BYTES:
            begin = max(0, at - CHUNK)
            file.seek(begin)
            data = file.read(at - begin) + data
            at = begin
        lines = data.decode("utf-8", "replace").splitlines() if count else []
        return lines[-count:], end


def following(
    path: str,
    at: int,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Yield every line that is written after a place, for ever. A file that is gone is waited for."""
    pending, heard = b"", clock()
    file = None
    while True:
        if file is None:
            with contextlib.suppress(OSError):
                file = _open(path)
                file.seek(at)
        # Asked before the reading: what is written between the two is then still read of the old one.
        is_old = file is not None and _is_other(path, file.fileno())
        while file is not None and (data := file.read(CHUNK)):
            *whole, pending = (pending + data).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole)
            heard = clock()
            if len(pending) > CHUNK:
                heard = 0.0
        if pending and (is_old or clock() - heard > UNFINISHED):
            yield pending.decode("utf-8", "replace")
            pending = b""
        if file is not None and is_old:
            file.close()
            file, at = None, 0
        elif file is not None and os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0)
        else:
            wait(POLL)


def _lines_of_program(words: Sequence[str]) -> Iterator[str]:
    """Run a program and yield its lines as they come; it ends with the reading."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise _unreadable("the journal", f"{words[0]}: {error.strerror}") from error
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            yield from (line.decode("utf-8", "replace").rstrip("\n") for line in process.stdout)
            said = process.stderr.read(CHUNK).decode("utf-8", "replace").strip()
            if process.wait() != 0:
                raise _unreadable("the journal", said.partition("\n")[0] or "journalctl says nothing")
        finally:
            process.kill()


def _unreadable(path: str, why: str, mend: str = "") -> NotReady:
    return NotReady(fault("logs.unreadable", path=path, why=why, mend=mend))


def _open(path: str) -> io.FileIO:
    """Open a regular file; a pipe that somebody put there would be waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is not a file")
    return open(fd, "rb", buffering=0)


def _is_other(path: str, fd: int) -> bool:
    """Tell whether a name stands for another file than the one that is open; not while it stands for none."""
    try:
        now, was = os.stat(path), os.fstat(fd)
    except OSError:
        return False
    return (now.st_dev, now.st_ino) != (was.st_dev, was.st_ino)
