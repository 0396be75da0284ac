"""hived under the user's systemd.

The unit is the shipped template with five words filled in. A folder that systemd does not read is found out
before anything is written there: ``XDG_CONFIG_HOME`` of a shell need not be that of the manager.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping

from hived.service.files import remove_empty
from hived.service.interface import ANSWER_PATIENCE, START_PATIENCE, Order, Run, State
from hived.service.stamp import own_stamp
from hived.service.templates import read_template
from hived_client.doors.service import user_runtime
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import Fault, fault, quoted
from hived_client.vocabulary.services import Supervision, own_unit_folders, quoted_setting, unit_name
from hived_client.vocabulary.wsl import wsl_of

SYSTEMD = "systemd"


class Systemd:
    """One user unit. ``root`` is where this system's own folders are, for tests."""

    supervision: Supervision = "systemd"

    def __init__(self, name: str, environment: Mapping[str, str], run: Run, *, root: str = "") -> None:
        self.shown = unit_name(name)
        self._name = name
        self._environment = environment
        self._run = run
        self._root = root
        self._folders = own_unit_folders(environment)
        self.path = f"{self._folders[0]}/{self.shown}"

    def __repr__(self) -> str:
        return f"<Systemd {self.shown} in {os.path.dirname(self.path)}>"

    @property
    def environment_file(self) -> str:
        return f"{os.path.dirname(self.path)}/{self._name}.environment"

    def why_not(self) -> Fault | None:
        if not os.path.isdir(f"{self._root}/run/systemd/system"):
            return fault("service.no_systemd", why=self._around())
        if shutil.which("systemctl", path=self._environment.get("PATH")) is None:
            return fault("service.no_systemd", why="systemctl is not on PATH")
        if user_runtime(self._environment, self._root) is None:
            return fault("service.no_session", user=pwd.getpwuid(os.getuid()).pw_name)
        return self._choose_folder()

    def render(self, order: Order) -> str:
        variables = {"PATH": order.path, **order.settings}
        words = {
            "@STAMP@": str(own_stamp("systemd")),
            "@PYTHON@": _program(order.python),
            "@VARIABLES@": " ".join(quoted_setting(name, value) for name, value in variables.items()),
            "@ENVIRONMENT@": order.environment_file.replace("%", "%%"),
        }
        text = read_template("systemd")
        for word, meaning in words.items():
            if any(not letter.isprintable() for letter in meaning):
                raise Unavailable(fault("service.no_interpreter", why=f"{meaning!a} is no line of a unit"))
            text = text.replace(word, meaning)
        return text

    def state(self) -> State:
        names = ("ActiveState", "UnitFileState", "MainPID", "Result", "StatusText", "ExecMainStatus")
        said = self._ask("show", self.shown, *(f"--property={name}" for name in names))
        found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        pid = found.get("MainPID", "")
        return State(
            active=found.get("ActiveState", "inactive"),
            enabled=found.get("UnitFileState") == "enabled",
            pid=int(pid) if pid.isdigit() and pid != "0" else None,
            why=_why(found),
        )

    def take_note(self) -> None:
        self._do("read the files of", "daemon-reload", name="its units")

    def enable(self) -> None:
        self._do("enable", "--quiet", "enable", self.shown)

    def start(self) -> None:
        self._ask("reset-failed", self.shown, may_fail=True)
        self._begin("start")

    def restart(self) -> None:
        self._ask("reset-failed", self.shown, may_fail=True)
        self._begin("restart")

    def stop(self) -> None:
        self._do("stop", "stop", self.shown)

    def forget(self) -> None:
        self._do("disable", "--quiet", "disable", "--now", self.shown)
        self._ask("reset-failed", self.shown, may_fail=True)

    def tidy(self) -> None:
        folder = os.path.dirname(self.path)
        above = os.path.dirname(os.path.dirname(folder))
        for each in (f"{folder}/default.target.wants", folder):
            remove_empty(each, above=above)

    def _begin(self, verb: str) -> None:
        """Start it, and say why it did not come up in the daemon's own words where there are any."""
        try:
            self._do(verb, verb, self.shown)
        except Unavailable as error:
            state = self.state()
            if not state.why:
                raise
            raise Unavailable(fault("service.failed", name=self.shown, why=state.why)) from error

    def _choose_folder(self) -> Fault | None:
        """Take the first of our folders that systemd reads."""
        try:
            said = self._ask("show", "--property=UnitPath")
        except Unavailable as error:
            return error.fault
        read = said.partition("=")[2].split()
        for folder in self._folders:
            if folder in read or " " in folder:  # systemd parts them with blanks
                self.path = f"{folder}/{self.shown}"
                return None
        return fault("service.unseen", folder=self._folders[0])

    def _around(self) -> str:
        """Say what kind of system has no systemd."""
        version = f"{self._root}/proc/sys/kernel/osrelease"
        try:
            with open(version) as file:
                if wsl_of(file.read(200), {}):
                    return "this is WSL, which runs it only where /etc/wsl.conf says so"
        except OSError:
            pass
        inside = (f"{self._root}/.dockerenv", f"{self._root}/run/.containerenv")
        if any(map(os.path.exists, inside)):
            return "this is a container"
        return "something else started this system"

    def _do(self, what: str, *words: str, name: str = "") -> None:
        """Have something done. Raises ``Unavailable`` with what systemd said."""
        self._ask(*words, what=what, name=name, seconds=START_PATIENCE)

    def _ask(
        self,
        *words: str,
        what: str = "tell of",
        name: str = "",
        seconds: float = ANSWER_PATIENCE,
        may_fail: bool = False,
    ) -> str:
        runtime = user_runtime(self._environment, self._root) or self._environment.get("XDG_RUNTIME_DIR", "")
        environment = {**self._environment, "XDG_RUNTIME_DIR": runtime}
        done = self._run(("systemctl", "--user", *words), seconds=seconds, environment=environment)
        if done is not None and (done.code == 0 or may_fail):
            return done.out
        if done is None:
            why = "systemctl cannot be run"
        elif done.is_late:
            why = f"it took longer than {seconds:g} s"
        else:
            why = _first_line(done.err) or f"systemctl ended with {done.code}"
        masked = "masked" in why
        raise Unavailable(
            fault(
                "service.refused",
                supervisor=SYSTEMD,
                what=what,
                name=name or self.shown,
                why=why,
                mend=f"systemctl --user unmask {quoted(self.shown)}" if masked else None,
            )
        )


def _program(python: str) -> str:
    """Write the interpreter as the first word of ``ExecStart=``.

    In an argument ``$`` would be expanded; a colon before the program forbids that for the whole line.
    """
    if not os.path.isabs(python):
        why = f"{python} is no absolute path" if python else "it is not known where this one is"
        raise Unavailable(fault("service.no_interpreter", why=why))
    escaped = python.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = all(letter.isalnum() or letter in "/._-+" for letter in python)
    return python if plain else f'{":" if "$" in python else ""}"{escaped}"'


def _why(found: Mapping[str, str]) -> str:
    """Say why a unit is not running: by the daemon's own last words, else by how it ended."""
    if found.get("ActiveState") not in ("failed", "activating") and found.get("Result") == "success":
        return ""
    if found.get("StatusText"):
        return found["StatusText"].rstrip(".")
    how = {
        "exit-code": f"it ended with code {found.get('ExecMainStatus', '?')}",
        "start-limit-hit": "it failed too often within a minute",
        "watchdog": "it hung and was ended",
        "timeout": "it was not ready in time",
        "signal": f"signal {found.get('ExecMainStatus', '?')} ended it",
        "core-dump": f"signal {found.get('ExecMainStatus', '?')} ended it",
    }
    return how.get(found.get("Result", ""), found.get("Result", ""))


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else " " for c in lines[0]).strip().rstrip(".") if lines else ""
