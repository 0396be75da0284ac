"""A real ``systemd --user``, for a user who exists only here, on a machine whose first process is anything.

It needs root, ``unshare``, ``nsenter``, ``setpriv`` and systemd's own program, and leaves nothing behind:

- a mount namespace, so that nobody else sees its ``/run``, its user, or any unit;
- a process namespace, so that nobody in it outlives it, however this program ends;
- a cgroup of its own FIRST: a manager that is started in the root cgroup draws every process of the machine
  into its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.daemon.running import wait_until

USER = "hived-test"
LOG = "manager.log"
MANAGER = "/lib/systemd/systemd"
PROGRAMS = ("unshare", "nsenter", "setpriv", "systemctl", "systemd-run")
PROJECT = Path(__file__).resolve().parents[2]
READ = tuple(dict.fromkeys((str(PROJECT), sys.prefix, sys.base_prefix)))
"""What the user must be able to read: the project, and the Python that it is installed in."""
HIVED = (sys.executable, "-P", "-m", "hived")
CGROUPS = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
GROUP = "hived-test-"

PATIENCE = 60.0
"""Seconds for a command in it."""


def why_not() -> str:
    """Say in a sentence why there can be none here; empty: there can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not os.path.exists(MANAGER):
        return "systemd is not installed here"
    if missing:
        return f"{', '.join(missing)} is not installed here"
    if os.geteuid() != 0:
        return "only root can make a machine of its own for the user manager"
    if not _cgroups():
        return "no cgroup can be made here"
    tried = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"unshare: {tried.stderr.decode().strip()}"


class Said:
    """How a command ended and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """What was printed, as JSON."""
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


class PrivateMachine:
    """``with PrivateMachine() as machine: machine.log_in(); machine.run("systemctl", "--user", …)``."""

    def __init__(self) -> None:
        self.uid = _free_uid()
        self.home = Path(tempfile.mkdtemp(prefix="hv-", dir="/tmp"))
        self._groups: list[Path] = []
        self._machine: subprocess.Popen[bytes] | None = None
        self._manager: subprocess.Popen[bytes] | None = None
        self._first = 0

    def __repr__(self) -> str:
        return f"<PrivateMachine of user {self.uid} in {self.home}>"

    def __enter__(self) -> Self:
        try:
            self._groups = _make_cgroups(self.uid)
            words = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"]
            words += ["--kill-child", "bash", str(Path(__file__).with_name("inside.sh"))]
            self._machine = subprocess.Popen(
                [*words, USER, str(self.uid), str(self.home), *READ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=self._join_cgroups,
            )
            assert self._machine.stdout is not None
            assert self._machine.stdout.readline() == b"inside\n", "the machine did not come up"
            self._first = psutil.Process(self._machine.pid).children()[0].pid
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def runtime(self) -> str:
        return f"/run/user/{self.uid}"

    @property
    def environment(self) -> dict[str, str]:
        """What a shell of the user has."""
        return {
            "HOME": str(self.home),
            "USER": USER,
            "LOGNAME": USER,
            "LANG": "C.UTF-8",
            "PATH": f"{self.home}/bin:/usr/local/bin:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": self.runtime,
        }

    @property
    def is_logged_in(self) -> bool:
        return self._manager is not None

    def log_in(self) -> None:
        """Begin the user's manager, as a login does, and wait until it has started what it starts."""
        assert self._manager is None, "the user is logged in"
        folder = ["install", "-d", "-m", "700", "-o", str(self.uid), "-g", str(self.uid), self.runtime]
        subprocess.run([*self._enter(), *folder], check=True)
        with (self.home / LOG).open("ab") as log:
            self._manager = subprocess.Popen(
                [*self._enter(), *self._as_user(self.environment), MANAGER, "--user", "--log-target=console"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._join_cgroups,
            )
        wait_until(
            lambda: (
                self.run("systemctl", "--user", "is-system-running").out.strip() in ("running", "degraded")
            ),
            lambda: f"the manager did not come up:\n{self.said()}",
        )

    def log_out(self) -> None:
        """End the manager with all that it runs, and take the runtime folder away: the last logout."""
        manager, self._manager = self._manager, None
        assert manager is not None, "nobody is logged in"
        psutil.Process(manager.pid).children()[0].terminate()  # nsenter only waits for it
        manager.wait(PATIENCE)
        subprocess.run([*self._enter(), "rm", "-rf", self.runtime], check=True)

    def said(self) -> str:
        """Return what the manager and its units have said."""
        return (self.home / LOG).read_text(errors="replace")

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None, patience: float = PATIENCE
    ) -> Said:
        """Run a command as the user, outside every unit, as a shell does."""
        done = subprocess.run(
            [*self._enter(), *self._as_user({**self.environment, **(environment or {})}), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            preexec_fn=self._join_cgroups,
            cwd="/",
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run_on_terminal(self, answer: str, *words: str, environment: Mapping[str, str]) -> Said:
        """Run hived at a terminal, where a person answers what it asks. What it says there is ``err``."""
        ours, theirs = os.openpty()
        try:
            os.write(ours, f"{answer}\n".encode())
            done = subprocess.run(
                [*self._enter(), *self._as_user({**self.environment, **environment}), *HIVED, *words],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=theirs,
                timeout=PATIENCE,
                preexec_fn=self._join_cgroups,
                check=False,
            )
            os.close(theirs)
            return Said(done.returncode, done.stdout.decode(), os.read(ours, 65_536).decode())
        finally:
            os.close(ours)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a Python program as the user, outside every unit, and do not wait for it."""
        return subprocess.Popen(
            [*self._enter(), *self._as_user(self.environment), sys.executable, "-P", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=self._join_cgroups,
        )

    def hived(self, *words: str, environment: Mapping[str, str] | None = None) -> Said:
        """Run hived's own command, as installed in this Python."""
        return self.run(*HIVED, *words, environment=environment)

    def status(self) -> dict[str, Any]:
        """Return what ``hived status --json`` says."""
        found: dict[str, Any] = self.hived("status", "--json").json
        return found

    def unit(self, name: str, unit: str = "hived.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "--user", "show", unit, "--property", name, "--value").out.strip()

    def signal(self, pid: int, name: str) -> None:
        """Send a signal to a process by the number that it has in there."""
        subprocess.run([*self._enter(), "kill", f"-{name}", str(pid)], check=True)

    def read(self, path: str) -> bytes:
        """Read a file as it is in there."""
        return Path(f"/proc/{self._first}/root{path}").read_bytes()

    def write(self, path: Path, text: str, mode: int = 0o644) -> None:
        """Write a file of the user's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        for each in (path, *path.parents):
            if each.is_relative_to(self.home):
                os.chown(each, self.uid, self.uid)

    def lives(self, pid: int) -> bool:
        """Tell whether there is a process of that number in there."""
        try:
            return b"\nState:\tZ" not in self.read(f"/proc/{pid}/status")
        except OSError:
            return False

    def processes(self) -> list[str]:
        """Return the command lines of what the user runs, the manager's own apart."""
        found = []
        for process in psutil.process_iter(["uids", "cmdline", "status"]):
            uids, words = process.info["uids"], process.info["cmdline"] or [process.info["status"]]
            if uids is not None and uids.real == self.uid and words != ["zombie"]:
                found.append(" ".join(words))
        return [line for line in found if MANAGER not in line and "(sd-pam)" not in line]

    def clear(self) -> None:
        """Stop and remove every unit of hived's, and all that lies in the home."""
        units = self.run("systemctl", "--user", "list-units", "--all", "--plain", "--no-legend", "hived*").out
        names = [line.split()[0] for line in units.splitlines() if line.strip()]
        if names:
            self.run("systemctl", "--user", "stop", *names)
            self.run("systemctl", "--user", "reset-failed", *names)
        for each in self.home.iterdir():
            if each.name != LOG:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        subprocess.run([*self._enter(), "sh", "-c", f"rm -rf {self.runtime}/hived*"], check=True)
        self.run("systemctl", "--user", "daemon-reload")

    def close(self) -> None:
        """End everything in it, and leave nothing behind. Idempotent."""
        machine, self._machine = self._machine, None
        if machine is not None:
            assert machine.stdin is not None
            machine.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.wait(60.0)
            machine.kill()
            machine.wait()
            assert machine.stdout is not None
            machine.stdout.close()
        if self._manager is not None:
            self._manager.wait(PATIENCE)
        _remove_cgroups(self._groups)
        shutil.rmtree(self.home, ignore_errors=True)

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._first), "--mount", "--pid"]

    def _as_user(self, environment: Mapping[str, str]) -> list[str]:
        words = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--inh-caps=-all"]
        return [*words, "env", "-i", *(f"{name}={text}" for name, text in environment.items())]

    def _join_cgroups(self) -> None:
        for group in self._groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))


def _free_uid() -> int:
    import pwd

    taken = {each.pw_uid for each in pwd.getpwall()}
    return next(uid for uid in range(61_000, 62_000) if uid not in taken)


def _cgroups() -> list[Path]:
    roots = [Path(each) for each in CGROUPS]
    return [each for each in roots if (each / "cgroup.procs").exists() and os.access(each, os.W_OK)]


def _make_cgroups(uid: int) -> list[Path]:
    _remove_cgroups([stale for root in _cgroups() for stale in root.glob(f"{GROUP}*")])
    groups = [root / f"{GROUP}{os.getpid()}-{uid}" for root in _cgroups()]
    for group in groups:
        group.mkdir()
        for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"):
            if (group / name).exists():
                os.chown(group / name, uid, uid)
    return groups


def _remove_cgroups(groups: Sequence[Path]) -> None:
    """Remove cgroups with those below them. One that is in use, by another run of these tests, stays."""
    for group in groups:
        for _ in range(100):
            for folder, _names, _files in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if not group.exists() or (group / "cgroup.procs").read_text():
                break
            time.sleep(0.02)  # the kernel needs a moment after the last process has gone
