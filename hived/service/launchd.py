"""hived as a launchd agent. Written by Apple's manual (launchd.plist(5), launchctl(1)); unproven on macOS.

The agent is the shipped template, read and filled in as data, never as text. ``bootstrap`` says no more than
"5: Input/output error" for an agent that is loaded already, so it is taken out first. Without a session at
the screen (ssh) the domain ``gui/UID`` is not there, and the user's own is taken.
"""

from __future__ import annotations

import os
import plistlib
import re
from collections.abc import Mapping

from hived.service.interface import ANSWER_PATIENCE, START_PATIENCE, Answer, Order, Run, State
from hived.service.stamp import own_stamp
from hived.service.templates import read_template
from hived_client.doors.service import NOT_LOADED, launchd_domains
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.homes import home_of
from hived_client.vocabulary.services import Supervision, agent_label

LAUNCHD = "launchd"

_GONE = NOT_LOADED | {36}
"""Exit codes of ``launchctl bootout`` for what is not loaded, or just being taken out (EINPROGRESS)."""


class Launchd:
    """One agent."""

    supervision: Supervision = "launchd"

    def __init__(self, name: str, environment: Mapping[str, str], run: Run) -> None:
        self.shown = agent_label(name)
        self._name = name
        self._environment = environment
        self._run = run
        self._domain = ""
        self.path = f"{home_of(environment)}/Library/LaunchAgents/{self.shown}.plist"

    def __repr__(self) -> str:
        return f"<Launchd {self.shown} in {self._domain or 'no domain yet'}>"

    @property
    def environment_file(self) -> str:
        return f"{home_of(self._environment)}/Library/Application Support/{self.shown}.environment"

    def why_not(self) -> Fault | None:
        try:
            self._domain = self._choose_domain()
        except Unavailable as error:
            return error.fault
        return None

    def render(self, order: Order) -> str:
        if not os.path.isabs(order.python):
            why = (
                f"{order.python} is no absolute path" if order.python else "it is not known where this one is"
            )
            raise Unavailable(fault("service.no_interpreter", why=why))
        words = {
            "@LABEL@": self.shown,
            "@STAMP@": str(own_stamp("launchd")),
            "@PYTHON@": order.python,
            "@PATH@": order.path,
            "@ENVIRONMENT@": order.environment_file,
            "@LOG@": order.log,
        }
        document = _filled(plistlib.loads(read_template("launchd").encode()), words)
        variables = document["EnvironmentVariables"]
        assert isinstance(variables, dict)
        variables |= order.settings
        return plistlib.dumps(document, sort_keys=False).decode()

    def state(self) -> State:
        done = self._ask("print", f"{self._in()}/{self.shown}")
        if done.code != 0:
            return State(active="inactive", enabled=os.path.exists(self.path))
        pid = re.search(r"^\s*pid = (\d+)$", done.out, re.M)
        code = re.search(r"^\s*last exit code = (\d+)", done.out, re.M)
        return State(
            active="active" if pid else "inactive",
            enabled=True,
            pid=int(pid[1]) if pid else None,
            why=f"it ended with code {code[1]}" if code and code[1] != "0" else "",
        )

    def take_note(self) -> None:
        """Do nothing: launchd reads a file when it is loaded, and at the login."""

    def enable(self) -> None:
        self._do("enable", "enable", f"{self._in()}/{self.shown}")

    def start(self) -> None:
        target = f"{self._in()}/{self.shown}"
        if self._ask("print", target).code != 0:
            self._do("load", "bootstrap", self._in(), self.path)
        self._do("start", "kickstart", target)

    def restart(self) -> None:
        # What was loaded is what the file said then: kickstart -k would start that again.
        self._unload()
        self.start()

    def stop(self) -> None:
        self._unload()

    def forget(self) -> None:
        self._unload()

    def tidy(self) -> None:
        """Do nothing: both folders are the system's own."""

    def _unload(self) -> None:
        """Take the agent out of launchd, which ends it. One that is not there is no error."""
        done = self._ask("bootout", f"{self._in()}/{self.shown}", seconds=START_PATIENCE)
        if done.code != 0 and done.code not in _GONE:
            raise self._refused("stop", done)

    def _in(self) -> str:
        if not self._domain:
            self._domain = self._choose_domain()
        return self._domain

    def _choose_domain(self) -> str:
        """Return the first domain that there is. Raises ``Unavailable``."""
        said = ""
        for domain in launchd_domains():
            done = self._ask("print", domain)
            if done.code == 0:
                return domain
            said = done.err.strip().split("\n")[0].rstrip(".")
        raise Unavailable(fault("service.no_launchd", user=os.getuid(), why=said or "it does not answer"))

    def _do(self, what: str, *words: str) -> None:
        done = self._ask(*words, seconds=START_PATIENCE)
        if done.code != 0:
            raise self._refused(what, done)

    def _ask(self, *words: str, seconds: float = ANSWER_PATIENCE) -> Answer:
        done = self._run(("launchctl", *words), seconds=seconds, environment=self._environment)
        if done is None:
            raise Unavailable(fault("service.no_launchd", user=os.getuid(), why="launchctl cannot be run"))
        return done

    def _refused(self, what: str, done: Answer) -> Unavailable:
        why = done.err.strip().split("\n")[0].rstrip(".") or f"launchctl ended with {done.code}"
        return Unavailable(fault("service.refused", supervisor=LAUNCHD, what=what, name=self.shown, why=why))


def _filled(value: object, words: Mapping[str, str]) -> dict[str, object]:
    filled = _fill(value, words)
    assert isinstance(filled, dict)
    return filled


def _fill(value: object, words: Mapping[str, str]) -> object:
    """Return a document in which every word that stands alone has its meaning."""
    if isinstance(value, dict):
        return {name: _fill(each, words) for name, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, words) for each in value]
    return words.get(value, value) if isinstance(value, str) else value
