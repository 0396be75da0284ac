"""What hived started, written down, so that the next hived knows its servers again.

One small JSON file a server. The files are hints, not truth: whether such a process still lives is
asked of the system (`processes.is_alive`). A file that cannot be understood is set aside and never
stops anything. There is one writer, the daemon that holds the lock. No secret is written.

A file is replaced whole and not synced: what a failure of the power loses is a record of processes that
the same failure ended, and a sync can hold whoever waits for it for seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path

import msgspec
import structlog

from hived.machine.processes import Identity
from hived.machine.recipes import Wanted

log = structlog.get_logger(__name__)

MAX_BYTES = 65_536
"""A record is some hundred bytes; anything much larger is not one of ours."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SUFFIX = ".json"


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """One server that hived started. Times are seconds since the epoch, ``context`` is tokens."""

    endpoint: str
    provider: str
    url: str
    identity: Identity | None
    """``None``: not known yet, of a unit that is just being started; or not ours to know."""
    argv: tuple[str, ...]
    model: str
    alias: str
    log: str
    started_at: float
    boot: str = ""
    """The boot in which it was started; empty: an older hived did not say."""
    context: int | None = None
    unit: str = ""
    """The transient unit of the user's systemd that it lives in; empty: a process of its own."""
    ends_with: tuple[str, ...] = ()
    """The command that ends it, where its process is not the one that was started."""
    wanted: Wanted | None = None
    """What was asked for, so that it can be started again; never a secret."""
    keep: bool = False
    """Whether it is started again when it ends by itself."""
    restarts: int = 0
    """Starts again in a row."""
    ready_at: float | None = None
    """Since when it has answered; ``None``: it has not yet."""


def is_name(text: str) -> bool:
    """Tell whether a server can be called so: its record, its log and its unit are.

    Not ``hived``: that log is the daemon's own.
    """
    return _NAME.fullmatch(text) is not None and text != "hived"


class Records:
    """The folder of records. Every method blocks for a file operation or two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Records({str(self.folder)!r})"

    def read_all(self) -> list[Started]:
        """Read every record, by name. A broken or foreign one becomes ``*.corrupt`` and is left out."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("records.unreadable", path=str(self.folder), why=error.strerror)
            return []
        found: list[Started] = []
        for name in names:
            if not name.endswith(_SUFFIX) or name.startswith("."):
                continue
            try:
                record = _read(self.folder / name)
            except OSError as error:
                # It cannot be read just now, which says nothing against it: kept for the next start.
                log.warning("records.unreadable", path=str(self.folder / name), why=error.strerror)
                continue
            if record is not None and record.endpoint + _SUFFIX == name and is_name(record.endpoint):
                found.append(record)
            else:
                with contextlib.suppress(OSError):
                    os.replace(self.folder / name, self.folder / (name + ".corrupt"))
        return found

    def write(self, started: Started) -> None:
        """Write or replace a record so that whoever kills us leaves the old one or the new one (mode 0600).

        Raises ValueError for a name that is not ``[a-z0-9][a-z0-9._-]{0,63}``, OSError where the folder
        cannot be written.
        """
        path = self._path(started.endpoint)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.folder / f".{started.endpoint}.tmp"
        body = msgspec.json.format(msgspec.json.encode(started), indent=1) + b"\n"
        # O_EXCL after the unlink: what a crash left there is never written through.
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(body)
        os.replace(temporary, path)

    def remove(self, endpoint: str) -> None:
        """Forget a record; one that is not there is no error. Raises ValueError for a bad name."""
        self._path(endpoint).unlink(missing_ok=True)

    def _path(self, endpoint: str) -> Path:
        if not is_name(endpoint):
            raise ValueError(f"an endpoint is named [a-z0-9][a-z0-9._-]{{0,63}}, not {endpoint!r}")
        return self.folder / (endpoint + _SUFFIX)


def _read(path: Path) -> Started | None:
    """Read a record; None for what is none. Raises OSError where that cannot be told now."""
    try:
        # NONBLOCK: opening a fifo that somebody put there would wait for its writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOENT):
            return None  # a link, a socket, or gone
        raise
    with (
        contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError),
        open(fd, "rb") as file,
    ):
        facts = os.fstat(fd)
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_size <= MAX_BYTES:
            return msgspec.json.decode(file.read(MAX_BYTES), type=Started)
    return None
