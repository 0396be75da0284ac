"""``hived serve``: the daemon in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hived_client.doors.paths import Places
    from hived_client.vocabulary.faults import Fault


PATIENCE = 1.0
"""Seconds for which threads may end by themselves once the daemon has ended."""
FUTILE = frozenset((2, 75, 78))
"""Exit codes after which another try would end in the same way."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=("asyncio", "trio"), default="asyncio", help="the event loop (default: asyncio)"
    )
    parser.add_argument(
        "--environment",
        metavar="FILE",
        help='variables to take from a file, as NAME="VALUE" lines; what is set already stays',
    )


def run(options: argparse.Namespace) -> int:
    from hived.daemon.app import serve
    from hived.daemon.notify import managed_by
    from hived_client.doors.paths import places

    if options.environment:
        _take_over(options.environment)
    where = places()
    manager = managed_by(os.environ)
    if manager == "launchd":
        _put_aside(f"{where.logs}/hived.log")
    drifted = _drift(where, manager)
    notes = (drifted,) if drifted is not None else ()
    tell = _tell if sys.stderr.isatty() else None
    code = serve(where, os.environ, backend=options.backend, notes=notes, tell=tell)
    if manager == "launchd" and code in FUTILE:
        code = 0  # launchd knows no other exit code after which it lets an agent be
    _leave_threads(code)
    return code


def _tell(why: Fault) -> None:
    from hived.cli.running import sentence

    print(sentence(why), file=sys.stderr)


def _leave_threads(code: int) -> None:
    """End now where a thread hangs in the kernel, for which the interpreter would wait without an end."""
    import threading
    import time

    until = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                os._exit(code)


def _take_over(path: str) -> None:
    from hived.service.files import read_file
    from hived.service.surroundings import read_environment_file

    raw = read_file(path)
    if raw is not None:
        for name, value in read_environment_file(raw.decode("utf-8", "replace")).items():
            os.environ.setdefault(name, value)


def _put_aside(path: str) -> None:
    """Put a long log aside, if it is ours to write: launchd itself appends to one file for ever."""
    from hived_client.doors.launch import LOG_BYTES

    try:
        mine, there = os.fstat(2), os.stat(path)
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino) or there.st_size <= LOG_BYTES:
            return
        os.replace(path, f"{path}.1")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return  # what is said goes on into the old one
    for number in (1, 2):
        os.dup2(fd, number)
    os.close(fd)


def _drift(where: Places, manager: str) -> Fault | None:
    """Say that the service's file, by which this very process runs, is another version's."""
    if manager not in ("systemd", "launchd"):
        return None
    from hived.service.stamp import drift
    from hived_client.doors.service import find_service

    service = find_service(where, os.environ)
    return drift(service.path, service.text, service.supervision) if service is not None else None
