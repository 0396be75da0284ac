"""The lines of a log: the last ones, and those that are still to come. Blocks; changes nothing.

A file is followed by its name: one that was put aside for a new one is read to its end, and then the new one
from its beginning. One that was cut is read from its beginning again.
"""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Iterator, Sequence

from hived.cli.logs.entries import Entry, of_daemon, of_journal, of_server
from hived.cli.logs.sources import Journal, Source
from hived.machine.owners import user_name
from hived_client.doors.regular import open_regular
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
        yield from map(read, _following(source.path, end))


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
        chunks: list[bytes] = []
        ends = 0
        # One line end more than lines: what stands before the first of them is the rest of another line.
        while at > 0 and ends <= count and end - at < MOST_BYTES:
            begin = max(0, at - CHUNK)
            file.seek(begin)
            chunks.append(file.read(at - begin))
            ends += chunks[-1].count(b"\n")
            at = begin
    lines = b"".join(reversed(chunks)).split(b"\n")
    if lines[-1] == b"":
        del lines[-1]
    return [_text(line) for line in lines[-count:]] if count else [], end


class Followed:
    """A file that grows, by its name."""

    def __init__(self, path: str, at: int) -> None:
        """``at``: what stands before is known already."""
        self._path = path
        self._at = at
        self._file: io.RawIOBase | None = None
        self._pending = b""
        self._heard = 0.0

    def __repr__(self) -> str:
        return f"<Followed {self._path}, {len(self._pending)} bytes of a line>"

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, now: float) -> list[str]:
        """Return the lines that were written since the last time; ``now`` in seconds, by any clock."""
        if self._file is None and not self._begin():
            return []
        assert self._file is not None
        # Asked before the reading: what is written between the two is then still read of the old one.
        is_old = _is_other(self._path, self._file.fileno())
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
        lines = self._lines(now)
        if self._pending and (is_old or now - self._heard > UNFINISHED or len(self._pending) > CHUNK):
            lines.append(_text(self._pending))
            self._pending = b""
        if is_old:
            self.close()
            self._at = 0
            lines += self.read(now)
        return lines

    def _begin(self) -> bool:
        try:
            self._file = _open(self._path)
        except OSError:
            return False
        self._file.seek(self._at)
        return True

    def _lines(self, now: float) -> list[str]:
        assert self._file is not None
        lines: list[bytes] = []
        while data := self._file.read(CHUNK):
            self._heard = now
            *whole, self._pending = (self._pending + data).split(b"\n")
            lines += whole
        return [_text(line) for line in lines]


def _following(path: str, at: int) -> Iterator[str]:
    followed = Followed(path, at)
    try:
        while True:
            yield from followed.read(time.monotonic())
            time.sleep(POLL)
    finally:
        followed.close()


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
            yield from (_text(line).rstrip("\n") for line in process.stdout)
            said = _text(process.stderr.read(CHUNK))
            if process.wait() != 0:
                raise _unreadable("the journal", *why_not(said))
        finally:
            process.kill()


def why_not(said: str) -> tuple[str, str]:
    """Return why the journal cannot be read, by what ``journalctl`` said, and what helps. Pure."""
    why = said.strip().partition("\n")[0].rstrip(".") or "journalctl says nothing"
    mend = f"sudo usermod -aG systemd-journal {user_name(os.getuid())}" if "permission" in why else ""
    return why, mend


def _unreadable(path: str, why: str, mend: str = "") -> NotReady:
    return NotReady(fault("logs.unreadable", path=path, why=why, mend=mend))


def _open(path: str) -> io.RawIOBase:
    return open_regular(path).detach()  # what is appended is to be seen at once


def _is_other(path: str, fd: int) -> bool:
    """Tell whether a name stands for another file than the one that is open; not while it stands for none."""
    try:
        now, was = os.stat(path), os.fstat(fd)
    except OSError:
        return False
    return (now.st_dev, now.st_ino) != (was.st_dev, was.st_ino)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
