"""Whose a process, a port or a lock is, as far as this user may see. Reads, and changes nothing.

Linux; elsewhere less is known.

What cannot be seen is ``None``: the processes of other users hide their programs, but not that their sockets
are theirs. Blocks; never raises.
"""

from __future__ import annotations

import os
import pwd
import re

import msgspec

from hived.machine.processes import find_listener, is_stopped, words_of
from hived.machine.sockets import rows_at
from hived_client.doors.regular import open_regular
from hived_client.vocabulary.faults import Fault, fault

_UNIT = re.compile(r"(?:^|/)([^/]+\.(?:service|scope))(?=/|$)")
_MOST_VARIABLES = 1_000_000
"""Bytes of ``/proc/PID/environ`` that are read."""
_MOST_LOCKS = 1_000_000
"""Bytes of ``/proc/locks`` that are read."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose something is."""

    pid: int | None = None
    program: str = ""
    """Name of the program; empty: not known."""
    user: str = ""
    """Name or number of the user."""
    unit: str = ""
    """``system unit ollama.service``, ``user unit hived.service``; empty: none."""
    is_other: bool = False
    """Whether it belongs to another user."""
    is_held: bool = False
    """Whether it is held by SIGSTOP or a debugger: its sockets take connections, and nobody answers."""

    @property
    def words(self) -> str:
        """Say it in words; empty where nothing is known."""
        said = [f"pid {self.pid}"] if self.pid is not None else []
        said += [self.unit] if self.unit else []
        said += [f"user {self.user}"] if self.is_other and self.user else []
        return f"{self.program or 'a process'} ({', '.join(said)})" if said else self.program


def owner_of_port(host: str, port: int, root: str = "/") -> Owner | None:
    """Say who listens at a TCP port of this device; ``None`` where nobody does, or nobody is seen to."""
    rows = rows_at(port, root)
    if rows == []:
        return None  # to look through every process's descriptors for nothing would take a second
    try:
        pid = find_listener(host, port)
    except OSError:  # no descriptor left, or a system that does not tell
        pid = None
    if pid is not None:
        return owner_of_process(pid, root)
    if not rows:
        return None
    return Owner(user=user_name(rows[0].uid), is_other=rows[0].uid != os.getuid())


def port_taken(host: str, port: int, **more: str) -> Fault:
    """Say that a port is taken, and by whom where that is seen. Blocks."""
    owner = owner_of_port(host, port)
    by = f" by {owner.words}" if owner is not None and owner.words else ""
    return fault("start.port_taken", port=port, by=by, **more)


def owner_of_process(pid: int, root: str = "/") -> Owner:
    """Say what a process is."""
    uid = None
    try:
        uid = os.stat(f"{root}proc/{pid}").st_uid
    except OSError:
        pass
    words = words_of(pid)
    return Owner(
        pid=pid,
        program=program_in(words),
        user=user_name(uid) if uid is not None else "",
        unit=unit_of_process(pid, root),
        is_other=uid is not None and uid != os.getuid(),
        is_held=is_stopped(pid),
    )


def unit_of_process(pid: int, root: str = "/") -> str:
    """Name the systemd unit that a process runs in; empty for none."""
    return unit_of(_read(f"{root}proc/{pid}/cgroup", 4096))


def read_variables(pid: int, root: str = "/") -> dict[str, str]:
    """Return the variables that a process was started with; none where they are not ours to see."""
    words = _read(f"{root}proc/{pid}/environ", _MOST_VARIABLES).split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def is_hived(words: tuple[str, ...]) -> bool:
    """Tell whether a command line is that of a daemon of ours."""
    return "serve" in words and any(_stem(word) == "hived" for word in words)


def program_in(words: tuple[str, ...]) -> str:
    """Name what a command line runs: of an interpreter its module or script, else the program. Pure."""
    if not words:
        return ""
    name = _stem(words[0])
    if re.fullmatch(r"(python|node|ruby|perl)[0-9.]*", name):
        if "-m" in words[:-1]:
            module = words[words.index("-m") + 1]
            # Of our own it is the last part that tells: the daemon, or a server that it started.
            return _stem(
                module.rpartition(".")[2] if module.startswith("hived.") else module.partition(".")[0]
            )
        script = next((word for word in words[1:] if not word.startswith("-")), None)
        # What follows -c is a program's own text, and no name.
        return _stem(script) if script is not None and "-c" not in words else name
    return name


def unit_of(cgroup: str) -> str:
    """Name the systemd unit in the text of ``/proc/PID/cgroup``; empty for none. Pure.

    The last service is the one that the process is part of; a user's own lie below ``user@UID.service``.
    """
    for line in cgroup.splitlines():
        path = line.rpartition(":")[2]
        units = [unit for unit in _UNIT.findall(path) if unit.endswith(".service")]
        if not units or units[-1].startswith("user@"):
            continue
        return f"{'user' if units[0].startswith('user@') else 'system'} unit {units[-1]}"
    return ""


def holder_of_lock(path: str, root: str = "/") -> int | None:
    """Return the process that holds the ``flock`` on a file; ``None`` where nobody does or it is not told.

    By the kernel's own list; where a sandbox has none, by the number in the file, if that process has the
    file open. The lock is never tried for: that could keep a daemon from starting.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    pid = flock_holder(
        _read(f"{root}proc/locks", _MOST_LOCKS), os.major(found.st_dev), os.minor(found.st_dev), found.st_ino
    )
    if pid is not None:
        return pid
    signed = _read(path, 32).strip()
    return int(signed) if signed.isdigit() and _has_open(int(signed), found, root) else None


def flock_holder(locks: str, major: int, minor: int, inode: int) -> int | None:
    """Return the process with a ``flock`` on a file, by the text of ``/proc/locks`` (proc(5)). Pure."""
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK":
            continue
        where = f"{major:02x}:{minor:02x}:{inode}"
        if fields[5] == where and fields[4].isdigit() and int(fields[4]) > 0:
            return int(fields[4])
    return None


def user_name(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _has_open(pid: int, wanted: os.stat_result, root: str) -> bool:
    folder = f"{root}proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return False
    for number in numbers[:4096]:
        try:
            found = os.stat(f"{folder}/{number}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def _stem(word: str) -> str:
    return os.path.basename(word.rstrip(":"))


def _read(path: str, most: int) -> str:
    try:
        with open_regular(path) as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""
