"""Who a process is, and whether it still lives.

A process number says little: it is handed out again as soon as its owner is gone, and the number in a
file from before a restart of the machine may today be anybody. So a process is known here by its
number, the moment it started and the boot it started in, and nothing is believed, waited for or
signalled before all three agree. Where the kernel offers a handle on a process (Linux: a pidfd), the
check is made *after* the handle was opened; from then on the handle cannot mean anybody else.

This module decides nothing about servers. It is the only one that touches psutil.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import anyio
import anyio.to_thread
import msgspec
import psutil

from hived.machine.sockets import listeners_at
from hived_client.doors.boot import boot_id

CLOCK_SLACK = 0.02
"""Seconds by which two readings of one start time may differ where it is derived from a wall clock."""

SESSION_GRACE = 5.0
"""Seconds in which what a server left behind ends when asked."""
KILL_PATIENCE = 5.0
"""Seconds to wait for the end after SIGKILL; only a process stuck in the kernel takes longer."""

_LINUX = sys.platform == "linux"

_HELD = 'read -r go && exec "$@" </dev/null'
"""Waits for a word, and ends without one; exec keeps the number and the start time."""

Ending = Literal["gone", "terminated", "killed"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One process, and no other that will ever carry its number.

    ``started`` is only ever compared with another reading of itself. On Linux it is the kernel's own
    count of clock ticks between boot and start (field 22 of ``/proc/PID/stat``), which no change of
    the clock moves; elsewhere it is seconds since the epoch. ``boot`` is ``boot_id()`` of that time.
    """

    pid: Annotated[int, msgspec.Meta(ge=1)]
    started: float
    boot: str


def identify(pid: int) -> Identity | None:
    """Say who carries this number now; None where nobody does or only a zombie is left."""
    state = _state(pid)
    if state is None or state[0] == "Z":
        return None
    return Identity(pid=pid, started=state[1], boot=boot_id())


def is_alive(identity: Identity) -> bool:
    """Say whether exactly this process still runs. A stopped one lives; a zombie does not.

    Raises OSError where it cannot be told, because no descriptor is left to look with.
    """
    if identity.boot != boot_id():
        return False
    now = identify(identity.pid)
    if now is None:
        return False
    slack = 0.0 if _LINUX else CLOCK_SLACK
    return abs(now.started - identity.started) <= slack


def is_stopped(pid: int) -> bool:
    """Say whether the process is held by SIGSTOP or a debugger: it accepts connections and never answers."""
    try:
        state = _state(pid)
    except OSError:
        return False  # cannot be told just now, and is asked again in a moment
    return state is not None and state[0] in "Tt"


def find_listener(host: str, port: int) -> int | None:
    """Find the process that listens on this TCP address of this machine, if we may see it. Blocks.

    ``host`` is an address or ``localhost``; an address of another machine has no listener here. A
    listener on exactly this address comes before one on all addresses. Where several processes share
    one socket, the lowest number is most likely the parent of the others.
    """
    wanted = _addresses(host)
    if not wanted:
        return None
    found: list[tuple[int, int | None]] = []
    for address, pid in _listeners(port):
        ranks = [rank for one in wanted if (rank := _match(one, address)) is not None]
        if ranks:
            found.append((min(ranks), pid))
    if not found:
        return None
    best = min(rank for rank, _ in found)
    # Only the best match counts: where that belongs to somebody else, a worse one is not our server.
    return min((pid for rank, pid in found if rank == best and pid is not None), default=None)


def program_of(pid: int) -> str:
    """Name the program that a process runs (``ssh``); empty where it is gone or not ours to see."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def words_of(pid: int) -> tuple[str, ...]:
    """Return the command line of a process; empty where it is gone or not ours to see."""
    try:
        return tuple(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ()


class CommandLines:
    """The command lines of this machine's processes, each read while it is new and then no more.

    Reading them all costs milliseconds, and is done every two seconds while a server is away; which
    processes there are is known in a fraction of one. Not safe in two threads at once.
    """

    READ = 3
    """Times that a command line is read: between fork and exec it is still the parent's."""

    def __init__(self) -> None:
        self._read: dict[int, int] = {}
        self._kept: dict[int, tuple[float, tuple[str, ...]]] = {}

    def __repr__(self) -> str:
        return f"<CommandLines of {len(self._read)} processes, {len(self._kept)} kept>"

    def find(self, wanted: Callable[[Sequence[str]], bool]) -> list[tuple[float, tuple[str, ...]]]:
        """Return those that are wanted: when each began (seconds since the epoch), and its words. Blocks.

        ``wanted`` is the same at every call, since what it did not want is not read again. A process
        that nobody may read, or that ended meanwhile, is left out.
        """
        alive = set(psutil.pids())
        for gone in self._read.keys() - alive:
            del self._read[gone]
            self._kept.pop(gone, None)
        for pid in alive:
            times = self._read.get(pid, 0)
            if times < self.READ or (pid in self._kept and not _is_still(pid, self._kept[pid][0])):
                self._read[pid] = times + 1 if times < self.READ else 1
                self._keep(pid, wanted)
        return [self._kept[pid] for pid in sorted(self._kept)]

    def _keep(self, pid: int, wanted: Callable[[Sequence[str]], bool]) -> None:
        self._kept.pop(pid, None)
        try:
            process = psutil.Process(pid)
            words = tuple(process.cmdline())
            if wanted(words) and process.status() != psutil.STATUS_ZOMBIE:
                self._kept[pid] = (process.create_time(), words)
        except psutil.Error:
            pass


def _is_still(pid: int, began: float) -> bool:
    """Tell whether a number still is that of the process which began then, and that is no zombie."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - began) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


async def wait_exit(identity: Identity, *, poll: float = 1.0) -> None:
    """Return when this process is gone (at once if it is already). Safe to cancel.

    Where the kernel tells (Linux), it is known within a millisecond; elsewhere within ``poll`` seconds.
    A child of ours counts as gone when it ended, reaped or not.
    """
    with _handle(identity) as handle:
        await _wait(identity, handle, poll)


async def stop(identity: Identity, *, grace: float = 10.0) -> Ending:
    """End this process: ask with SIGTERM, wait ``grace`` seconds, then SIGKILL it and its own group.

    Returns ``gone`` where there was nothing to end, ``terminated`` where it ended when asked, ``killed``
    where it was forced. Never hits another process that got the same number. Raises PermissionError for
    another user's process. Cancelled, it leaves the process with what it was sent so far.
    """
    with _handle(identity) as handle:
        if not is_alive(identity):
            return "gone"
        _send(identity, handle, signal.SIGTERM)
        if is_stopped(identity.pid):
            # A stopped process keeps its signals for later. Continue it after SIGTERM, not before, so
            # that the first thing it does is to end.
            _send(identity, handle, signal.SIGCONT)
        with anyio.move_on_after(grace):
            await _wait(identity, handle, 0.05)
            return "terminated"
        if not is_alive(identity):
            return "terminated"
        _kill(identity, handle)
        with anyio.move_on_after(KILL_PATIENCE):
            await _wait(identity, handle, 0.05)
        return "killed"


async def end_session(leader: Identity, *, grace: float = SESSION_GRACE) -> int:
    """End what a process that is gone left running in its session; return how many there were.

    A server that is killed leaves its engine or its runners, which hold the memory of the graphics card and
    would keep the next start from having it. While one of them lives, the kernel gives the number of their
    session to nobody else. Cancelled, it leaves them with what they were sent so far.
    """
    left = await anyio.to_thread.run_sync(_session_of, leader, abandon_on_cancel=True)
    if left:
        async with anyio.create_task_group() as tasks:
            for each in left:
                tasks.start_soon(functools.partial(_end_quietly, each, grace))
    return len(left)


async def _end_quietly(identity: Identity, grace: float) -> None:
    with contextlib.suppress(PermissionError):
        await stop(identity, grace=grace)


def _session_of(leader: Identity) -> list[Identity]:
    """List the processes of this user in the session of one that has ended. Blocks."""
    if leader.boot != boot_id() or identify(leader.pid) is not None:
        return []  # another boot's; or its number is somebody else's by now, and so is that session
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader.pid and (identity := identify(pid)) is not None:
                found.append(identity)
    return [each for each in found if each.started >= leader.started]


def spawn_detached(
    argv: Sequence[str], *, log: Path, environment: Mapping[str, str], held: bool = False
) -> subprocess.Popen[bytes]:
    """Start a program that outlives us: its own session, output appended to ``log``. Blocks.

    ``held``: it begins only with `release`, under the number that it has already, and never if we end
    before that. So it can be written down first, and whoever kills us in between leaves no orphan.

    The log is created 0600 and its missing folders 0700. Raises OSError where the program or the log
    cannot be opened. While we live we are its parent: give the result to `reap`, or it stays a zombie
    after its end, and to `let_go` before we end without it. A process of ours that is killed needs
    neither, since init inherits the child.
    """
    output = _open_log(log)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _HELD, "hived", *argv] if held else list(argv),
            stdin=subprocess.PIPE if held else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",  # else it would keep our folder's file system busy
            env=dict(environment),
            start_new_session=True,  # no terminal's Ctrl-C and no signal to our group reaches it
            close_fds=True,
            umask=0o077,
        )
    finally:
        os.close(output)


def make_log(log: Path) -> None:
    """Create a log (0600, its missing folders 0700) for somebody else to append to. Raises OSError."""
    os.close(_open_log(log))


def _open_log(log: Path) -> int:
    _make_private(log.parent)
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def release(process: subprocess.Popen[bytes]) -> None:
    """Let a held program begin. One that has ended already is reaped like any other."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.write(b"go\n")
            process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()


async def reap(process: subprocess.Popen[bytes], *, poll: float = 1.0) -> int:
    """Wait for the end of a child and collect its exit status (negative: the signal). Safe to cancel."""
    identity = identify(process.pid) if process.poll() is None else None
    if identity is not None:
        await wait_exit(identity, poll=poll)
    # The process has ended; what is left is the kernel's moment between telling and handing over.
    return await anyio.to_thread.run_sync(process.wait)


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Disown a child that shall go on without us; Python would warn of one that is dropped running."""
    if process.poll() is None:
        process.returncode = 0


@contextlib.contextmanager
def _handle(identity: Identity) -> Iterator[int | None]:
    """Hold a pidfd of this process; None where there is none to be had, and then asking again must do."""
    handle = _open_handle(identity.pid)
    try:
        # Only now: between a check and the opening the number could have changed hands.
        yield handle if handle is not None and is_alive(identity) else None
    finally:
        if handle is not None:
            os.close(handle)


def _open_handle(pid: int) -> int | None:
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # it is gone; or an old kernel, a sandbox, no descriptor left: polling finds out
        return None


async def _wait(identity: Identity, handle: int | None, poll: float) -> None:
    if handle is not None:
        await anyio.wait_readable(handle)
        return
    while is_alive(identity):  # noqa: ASYNC110
        # No handle: nothing on this system tells us, so we look.
        await anyio.sleep(poll)


def _send(identity: Identity, handle: int | None, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "linux" and handle is not None:
            signal.pidfd_send_signal(handle, number)
        elif is_alive(identity):
            os.kill(identity.pid, number)


def _kill(identity: Identity, handle: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        group = os.getpgid(identity.pid)
        # A leader takes its workers with it. Never our own group, whoever leads that.
        if group == identity.pid and group != os.getpgrp() and is_alive(identity) and not _ended(handle):
            os.killpg(group, signal.SIGKILL)
            return
    _send(identity, handle, signal.SIGKILL)


def _ended(handle: int | None) -> bool:
    if handle is None:
        return False
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _state(pid: int) -> tuple[str, float] | None:
    """Read the state letter and the start time of whoever carries this number."""
    if pid <= 0:
        return None
    return _linux_state(pid) if _LINUX else _other_state(pid)


def _linux_state(pid: int) -> tuple[str, float] | None:
    try:
        # Asked twice a second for every server: a bare descriptor costs half of what a file object does.
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(fd, 4096)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # we have no descriptor left: that says nothing of the process
        return None
    # The name, in brackets, may hold spaces and brackets itself: count from its end (proc(5)).
    fields = line[line.rfind(b")") + 2 :].split()
    return (fields[0].decode("ascii"), float(fields[19])) if len(fields) > 19 else None


def _other_state(pid: int) -> tuple[str, float] | None:
    letters = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "Z", psutil.STATUS_STOPPED: "T"}
    try:
        process = psutil.Process(pid)
        return letters.get(process.status(), "R"), process.create_time()
    except psutil.ZombieProcess:
        return "Z", 0.0
    except psutil.Error:
        return None


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _addresses(host: str) -> list[_Address]:
    """List the addresses of this machine that the host means; none where it is another machine's."""
    if host.lower() == "localhost":
        return [ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")]
    address = _parse(host.strip("[]"))
    if address is None:
        return []
    if address.is_loopback or address.is_unspecified:
        return [address]
    ours = {_parse(one.address) for cards in psutil.net_if_addrs().values() for one in cards}
    return [address] if address in ours else []


def _parse(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address


def _match(wanted: _Address, listening: _Address) -> int | None:
    """Rank how well a listener serves the wanted address: 0 exactly; greater, less; None not at all."""
    if wanted == listening or wanted.is_unspecified:
        return 0
    if not listening.is_unspecified:
        return None
    if wanted.version == listening.version:
        return 1
    return 2 if listening.version == 6 else None  # "::" takes IPv4 too, unless told not to


def _listeners(port: int) -> Iterator[tuple[_Address, int | None]]:
    if _LINUX:
        yield from listeners_at(port)
        return
    for process in psutil.process_iter():  # macOS shows the whole table to root only, our own to us
        with contextlib.suppress(psutil.Error):
            for own in process.net_connections("tcp"):
                # An empty tuple stands for an address that is not known.
                if own.status == psutil.CONN_LISTEN and len(own.laddr) == 2 and own.laddr[1] == port:
                    address = _parse(own.laddr[0])
                    if address is not None:
                        yield address, process.pid


def _make_private(folder: Path) -> None:
    """Make a folder and its missing parents, each 0700: os.makedirs gives the mode to the last alone."""
    for one in (*reversed(folder.parents), folder):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
