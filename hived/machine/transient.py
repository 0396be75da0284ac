"""A transient unit of the user's systemd: where a server lives that shall outlive hived.

A child of hived's would be ended with hived's own unit, and would have its restrictions (no new privileges,
no namespaces) that a server with graphics drivers cannot bear. A unit has neither, has its own account of
memory and processes, and ends as a whole.

Facts seen with systemd 252: ``$`` in a command is expanded and has to be doubled, ``%`` is not; a unit that
failed keeps its name until it is reset; of one that ended well nothing is left to ask. Variables go into a
file of mode 0600 and not on the command line, which every user of the machine can read.

Everything here blocks, for ``PATIENCE`` at most, and raises ``ManagerFailed`` where systemd says no.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hived_client.doors.service import user_runtime
from hived_client.vocabulary.services import environment_lines

PATIENCE = 5.0
"""Seconds that the user's systemd may take to answer."""

ONESHOT_PATIENCE = 60.0
"""Seconds for a command that ends once the server runs."""

STOP_PATIENCE = 10
"""Seconds after which systemd kills what is left of a unit that is stopped."""

_VARIABLES = ".environment"
"""How the name of a file of variables ends."""

_SAID = 300
"""Characters of an answer."""


class ManagerFailed(Exception):
    """The user's systemd did not do what it was asked for; the text is its own."""


class UnitTaken(ManagerFailed):
    """There is a unit of that name."""


class UnitState(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit is. ``pid`` is its main process, ``code`` how that ended (negative: the signal)."""

    active: bool
    failed: bool
    pid: int | None
    code: int | None


class UserManager:
    """The systemd of this user: that of ``XDG_RUNTIME_DIR``, else the one of the user's own runtime folder.

    A hived that was given a runtime folder of its own stands apart from the user's session, and uses no
    systemd but one that it is told of.
    """

    def __init__(self, environment: Mapping[str, str], *, folder: str, root: str = "") -> None:
        """``folder`` is ours alone, and holds the file of variables for the moment of a start.

        ``root`` is the folder taken for ``/``.
        """
        self._folder = Path(folder)
        self._root = root
        self._is_apart = "HIVED_RUNTIME_DIR" in environment
        kept = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "LANG")
        self._environment = {name: environment[name] for name in kept if name in environment}

    def __repr__(self) -> str:
        return f"<UserManager at {self._runtime or 'no runtime folder'}>"

    @property
    def _runtime(self) -> str | None:
        """The runtime folder in which it listens now: it comes and goes with the user's logins."""
        found = user_runtime(self._environment, self._root)
        return None if self._is_apart and found != self._environment.get("XDG_RUNTIME_DIR") else found

    def tidy(self) -> None:
        """Remove variables that a start left behind in whose midst we were killed."""
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"*{_VARIABLES}"):
                path.unlink(missing_ok=True)

    def is_reachable(self) -> bool:
        """Say whether there is one that answers."""
        if sys.platform != "linux" or self._runtime is None:
            return False
        if not all(self._program(name) for name in ("systemd-run", "systemctl")):
            return False
        with contextlib.suppress(ManagerFailed):
            # It says degraded, and 1, where some other unit has failed: any word but these is a yes.
            said = self._run("systemctl", ["is-system-running"], any_status=True)
            return said.strip() not in ("", "offline", "unknown", "stopping")
        return False

    def start(
        self,
        unit: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        description: str,
        stays: bool = True,
    ) -> int | None:
        """Start a command in a unit and return its process, once it was executed.

        ``stays``: it is the server. Else it ends, after which its unit stays for what it left running, and
        ``None`` is returned. The log is appended to; it and its folder are there. Raises ``UnitTaken``.
        """
        with contextlib.suppress(ManagerFailed):
            self._run("systemctl", ["reset-failed", unit])
        foreign = sorted(self._variables() - environment.keys())
        variables = self._folder / f"{unit}{_VARIABLES}"
        properties = [
            *(f"StandardOutput=append:{log}", f"StandardError=append:{log}"),
            *(f"EnvironmentFile={variables}", f"TimeoutStopSec={STOP_PATIENCE}"),
            *("Restart=no", "UMask=0077", "WorkingDirectory=/", "OOMPolicy=continue"),
            *(("Type=exec",) if stays else ("Type=oneshot", "RemainAfterExit=yes", "KillMode=process")),
        ]
        properties += [f"UnsetEnvironment={' '.join(foreign)}"] if foreign else []
        words = ["--quiet", f"--unit={unit}", f"--description={description}"]
        words += [word for each in properties for word in ("-p", each)]
        try:
            _write_privately(variables, environment_lines(environment))
            self._run(
                "systemd-run",
                [*words, "--", *(word.replace("$", "$$") for word in argv)],
                patience=PATIENCE if stays else ONESHOT_PATIENCE,
            )
        except ManagerFailed as error:
            if "already loaded" in str(error) or "already exists" in str(error):
                raise UnitTaken(unit) from error
            with contextlib.suppress(ManagerFailed):
                self._run("systemctl", ["reset-failed", unit])
            raise
        finally:
            variables.unlink(missing_ok=True)
        return self.state(unit).pid if stays else None

    def state(self, unit: str) -> UnitState:
        """Say what a unit is; one that is not there is neither active nor failed."""
        names = ("ActiveState", "MainPID", "ExecMainCode", "ExecMainStatus")
        said = self._run("systemctl", ["show", unit, *(f"--property={name}" for name in names)])
        found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        pid, how, status = (_number(found.get(name, "")) for name in names[1:])
        code = {1: status, 2: -status, 3: -status}.get(how)  # CLD_EXITED, CLD_KILLED, CLD_DUMPED
        state = found.get("ActiveState", "")
        return UnitState(
            active=state in ("active", "activating", "reloading", "deactivating"),
            failed=state == "failed",
            pid=pid or None,
            code=code if how else None,
        )

    def stop(self, unit: str) -> None:
        """Stop a unit with all that is in it, and forget it. One that is not there is no error."""
        with contextlib.suppress(ManagerFailed):
            self._run("systemctl", ["stop", unit], patience=PATIENCE + STOP_PATIENCE)
        self.forget(unit)

    def forget(self, unit: str) -> None:
        """Give back the name of a unit that failed."""
        with contextlib.suppress(ManagerFailed):
            self._run("systemctl", ["reset-failed", unit])

    def _variables(self) -> set[str]:
        """List the variables that every unit of this user would have."""
        said = self._run("systemctl", ["show-environment"])
        return {line.split("=", 1)[0] for line in said.splitlines() if "=" in line and not line[:1].isspace()}

    def _program(self, name: str) -> str | None:
        places = (self._environment.get("PATH"), "/usr/bin:/bin")
        return next((found for path in places if (found := shutil.which(name, path=path))), None)

    def _run(
        self, name: str, words: Sequence[str], *, patience: float = PATIENCE, any_status: bool = False
    ) -> str:
        program = self._program(name)
        if program is None:
            raise ManagerFailed(f"{name} is not installed")
        runtime = self._runtime
        at = {"XDG_RUNTIME_DIR": runtime} if runtime is not None else {}
        try:
            done = subprocess.run(
                [program, "--user", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=patience,
                env={**self._environment, **at, "LC_ALL": "C"},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ManagerFailed(f"{name} did not answer within {patience:g} s") from error
        except (OSError, ValueError) as error:
            raise ManagerFailed(f"{name}: {error}") from error
        if done.returncode and not any_status:
            raise ManagerFailed(_first_line(done.stderr) or f"{name} ended with {done.returncode}")
        return done.stdout.decode("utf-8", "replace")


def _write_privately(path: Path, body: bytes) -> None:
    """Write a file that nobody else can read. Raises OSError."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(body)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _first_line(raw: bytes) -> str:
    lines = [line for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
    first = lines[0] if lines else ""
    return "".join(c if c.isprintable() else " " for c in first).strip().rstrip(".")[:_SAID]
