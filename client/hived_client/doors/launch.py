"""Start the daemon, once, however many ask at the same time.

Connect; if nobody is there take the start lock, and connect again: another may have started it between
the two. Only then start it: the installed service where there is one, else a process of its own. That
child reports over a pipe that it is ready, or why it is not, so that nobody has to guess from a socket that
does not appear. One deadline covers everything.

An older daemon that a client started is asked to retire by a newer client, where nobody else uses it at the
moment. Never the other way round, or two programs with two versions would take turns at it for ever; and
never the service's, which its manager would take for a failure: ``status`` says how that one is brought up to
date.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
import time

import msgspec

from hived_client._version import __version__
from hived_client.doors.files import accepts
from hived_client.doors.origin import install_command
from hived_client.doors.paths import Places, ensure_folder, places, unwritable
from hived_client.doors.service import find_service, start_service
from hived_client.doors.sync import Connection
from hived_client.doors.wire import Retired, RetireParams, Welcome
from hived_client.errors import HivedError, StartFailed, Unavailable
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.versions import is_newer

START_TIMEOUT = 15.0
"""Seconds from the question to a daemon that answers."""

POLL = 0.02
"""Seconds between two tries for a lock or a socket that somebody else is about to release or bind."""

HELD = 0.1
"""Seconds between two starts while another daemon holds the lock and does not answer: it begins or ends."""

BEGUN = 1.0
"""Seconds for which a service that was begun may not answer yet, until its manager is asked again. launchd
says no more than that it began one."""

LOG_BYTES = 5 * 1024 * 1024
"""Size at which the log of the last daemon is put aside."""

NOTIFY_FD = "HIVED_NOTIFY_FD"
"""Variable that tells a spawned daemon where to report."""

OF_ANOTHER = frozenset(
    (
        *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
        *("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"),
        *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "XPC_SERVICE_NAME"),
    )
)
"""Variables by which a service manager speaks to whoever starts the daemon, and not to the daemon."""

ALREADY_RUNNING = 75
"""Exit code of a daemon that found another one (EX_TEMPFAIL)."""


_started: set[int] = set()
"""Daemons that this process started, as far as it has not seen them end."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a spawned daemon says of its start: one line of JSON."""

    ready: bool
    pid: int
    fault: Fault | None = None


def ensure_running(where: Places | None = None, *, timeout: float = START_TIMEOUT) -> Welcome:
    """Return the greeting of the running daemon, after starting it if there was none.

    Idempotent, and safe for any number of callers at once. Raises ``StartFailed`` with the daemon's
    own words, or ``Unavailable`` where one runs and does not answer.
    """
    where = where or places()
    deadline = time.monotonic() + timeout
    _reap()
    greeting = _greet(where, deadline)
    if greeting is not None and not _is_outdated(greeting):
        return greeting
    ensure_folder(where.runtime, close=False)
    ensure_folder(where.folder)
    fd = _open_lock(where)
    try:
        _lock(fd, deadline, timeout)
        while True:
            # Again each time: the daemon that held the lock may have been on its way out.
            greeting = _greet(where, deadline)
            if greeting is not None and not (_is_outdated(greeting) and _retire(where, greeting, deadline)):
                return greeting
            if time.monotonic() >= deadline:
                raise _too_late("the start of hived", timeout)
            _reap()
            if _start_service(where, deadline):
                _wait_served(where, min(deadline, time.monotonic() + BEGUN))
            elif not _spawn(where, deadline, timeout):
                time.sleep(HELD)
    finally:
        os.close(fd)


def wait_gone(where: Places, greeting: Welcome, timeout: float = START_TIMEOUT) -> bool:
    """Wait until this very daemon no longer answers; tell whether it came to that."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = _greet(where, deadline)
        if found is None or found.daemon_id != greeting.daemon_id:
            return True
        time.sleep(POLL)
    return False


def _is_outdated(greeting: Welcome) -> bool:
    return greeting.managed_by == "client" and is_newer(__version__, greeting.version)


def _retire(where: Places, greeting: Welcome, deadline: float) -> bool:
    """Ask an older daemon to end, unless somebody uses it; tell whether it has."""
    left = max(0.05, deadline - time.monotonic())
    try:
        with Connection(where, left) as connection:
            answer: Retired = connection.call("retire", RetireParams(if_idle=True), Retired, left)
    except HivedError:
        return False  # it serves on, as it is: an old daemon is better than none
    return answer.retiring and wait_gone(where, greeting, left)


def _start_service(where: Places, deadline: float) -> bool:
    """Have the installed service started, if there is one and somebody to start it."""
    service = find_service(where, os.environ)
    if service is None:
        return False
    return start_service(service, os.environ, max(0.1, deadline - time.monotonic()))


def _wait_served(where: Places, until: float) -> None:
    while time.monotonic() < until and not accepts(where.socket):
        time.sleep(POLL)


def _greet(where: Places, deadline: float) -> Welcome | None:
    left = max(0.05, deadline - time.monotonic())
    try:
        with Connection(where, left) as connection:
            return connection.greet(left)
    except Unavailable as error:
        # What was closed on us is a daemon on its way out: the same as none.
        if error.code in ("daemon.not_running", "draining", "protocol.broken"):
            return None
        raise


def _open_lock(where: Places) -> int:
    try:
        return os.open(where.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(unwritable(where.start_lock, error)) from error


def _lock(fd: int, deadline: float, timeout: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _too_late("somebody else's start of hived", timeout) from None
            time.sleep(POLL)
        else:
            return


def _spawn(where: Places, deadline: float, timeout: float) -> bool:
    """Start the daemon and wait for its word; return whether it is ready, or another one holds the lock."""
    command = _command()
    log = _open_log(where)
    try:
        reader, writer = os.pipe()
    except OSError as error:
        os.close(log)
        raise StartFailed(fault("daemon.start_failed", why=error.strerror or "no pipe")) from error
    try:
        environment = _environment(where) | {"HIVED_MANAGED_BY": "client", NOTIFY_FD: str(writer)}
        try:
            child = subprocess.Popen(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writer,),
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            raise StartFailed(
                fault("daemon.start_failed", why=f"{command[0]}: {error.strerror or error}")
            ) from error
        finally:
            os.close(writer)
            os.close(log)
        try:
            report = _read_report(reader, deadline)
        except BaseException:
            # Interrupted: a daemon that nobody waits for any more would start behind the caller's back.
            _end(child)
            raise
    finally:
        os.close(reader)
    if report is not None and report.ready:
        # The daemon outlives this process on purpose, and subprocess would warn that nobody waits for it.
        child.returncode = 0
        _started.add(child.pid)
        return True
    if report is None and time.monotonic() >= deadline:
        _end(child)
        raise _too_late("the start of hived", timeout)
    try:
        code = child.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        _end(child)
        raise _too_late("the start of hived", timeout) from error
    if code == ALREADY_RUNNING:
        return False
    problem = report.fault if report is not None else None
    why = f"it ended with code {code}; see {where.logs}/hived.log"
    raise StartFailed(problem or fault("daemon.start_failed", why=why))


def _reap() -> None:
    """Bury the daemons that this process started and that have ended since: nobody else can."""
    for pid in tuple(_started):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True  # somebody else in this process has, or it is the child of the parent that forked us
        if ended:
            _started.discard(pid)


def _too_late(what: str, timeout: float) -> StartFailed:
    return StartFailed(fault("deadline", what=what, seconds=timeout, mend="hived serve"))


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


def _environment(where: Places) -> dict[str, str]:
    """Return an environment in which a daemon has exactly these places, whoever's they are."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER}
    # What is relative would mean another folder there: the daemon lives in the root folder.
    relative = [
        name for name in ("HIVE_HOME", "HIVED_RUNTIME_DIR") if environment.get(name, "/")[:1] not in "/~"
    ]
    if not relative and places(environment) == where:
        return environment
    environment |= {
        "HIVE_HOME": where.home,
        "HIVED_RUNTIME_DIR": where.runtime,
        "XDG_STATE_HOME": os.path.dirname(where.state),
    }
    if os.path.basename(where.state) == "hived":  # it is the home folder's own, not a second one
        environment["HOME"] = os.path.dirname(where.home)
    return environment


def _command() -> list[str]:
    """Return the command of the daemon: of this Python if it has one, else of the ``hived`` on PATH."""
    import importlib.util

    if importlib.util.find_spec("hived") is not None and importlib.util.find_spec("hived.daemon") is not None:
        return [sys.executable, "-P", "-m", "hived", "serve"]
    found = shutil.which("hived")
    if found is None:
        raise StartFailed(fault("daemon.not_installed", python=sys.executable, install=install_command()))
    return [found, "serve"]


def _open_log(where: Places) -> int:
    path = f"{where.logs}/hived.log"
    try:
        ensure_folder(where.state)
        ensure_folder(where.logs)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size > LOG_BYTES:
                os.replace(path, f"{path}.1")
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (OSError, Unavailable):
        pass  # a full disk must not keep the daemon away; one that may not be used is its own to refuse
    try:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StartFailed(fault("daemon.start_failed", why=error.strerror or "no log")) from error


def _read_report(fd: int, deadline: float) -> Report | None:
    data = b""
    readable = select.poll()  # select itself can only wait for the first 1024 descriptors
    readable.register(fd, select.POLLIN)
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not readable.poll(left * 1000.0):
            return None
        more = os.read(fd, 65_536)
        if not more:
            return None
        data += more
    try:
        return msgspec.json.decode(data, type=Report)
    except msgspec.MsgspecError:
        return None
