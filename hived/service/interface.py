"""What both service managers offer, and what they need: a program run for what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.services import Supervision

ANSWER_PATIENCE = 10.0
"""Seconds that a service manager may take to answer."""

START_PATIENCE = 60.0
"""Seconds that it may take to start or stop a service: the unit itself gives up after 30 and 10."""


class Answer(Protocol):
    """How a program ended and what it said."""

    @property
    def code(self) -> int: ...
    @property
    def out(self) -> str: ...
    @property
    def err(self) -> str: ...
    @property
    def is_late(self) -> bool: ...


class Run(Protocol):
    """Runs a program for what it says; ``None`` where it cannot be run."""

    def __call__(
        self, words: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None
    ) -> Answer | None: ...


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A service to be written: everything that its file depends on."""

    name: str
    """``hived``, or ``hived-`` and 8 hex digits of another home."""
    python: str
    """The interpreter as it was called: a virtual environment's own, not the one that it links to."""
    path: str
    """The ``PATH`` that the daemon will find programs on."""
    settings: Mapping[str, str] = {}
    """Variables that decide where the daemon's files are."""
    environment_file: str
    """File of the variables that were taken over; it need not be there."""
    log: str
    """Where launchd puts what the daemon says; systemd has a journal."""


def as_root(environment: Mapping[str, str], uid: int) -> Fault | None:
    """Say that sudo stands between a user and their own service."""
    user = environment.get("SUDO_USER", "root")
    return fault("service.as_root", user=user) if uid == 0 and user != "root" else None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a service manager says of a service."""

    active: str
    """``active``, ``activating``, ``failed``, ``inactive``, …"""
    enabled: bool
    """Whether it starts with the login."""
    pid: int | None = None
    why: str = ""
    """Why it failed, as far as the manager tells."""

    @property
    def is_active(self) -> bool:
        """Whether it runs."""
        return self.active in ("active", "reloading", "activating")


class ServiceManager(Protocol):
    """systemd's user instance or launchd, for one service. Everything blocks, within bounds.

    What does not succeed raises ``Unavailable`` with what the manager said.
    """

    supervision: Supervision
    shown: str
    """What the manager calls the service."""
    path: str
    """The file to be written."""

    @property
    def environment_file(self) -> str:
        """Where the variables that were taken over are written."""
        ...

    def why_not(self) -> Fault | None:
        """Say why no service can be installed here."""
        ...

    def render(self, order: Order) -> str:
        """Return the service's file. Raises ``Unavailable`` where nothing sensible can be written."""
        ...

    def state(self) -> State:
        """Say how the service is."""
        ...

    def take_note(self) -> None:
        """Have the manager read its files again, after one was written or removed."""
        ...

    def enable(self) -> None:
        """Have it start with the login."""
        ...

    def start(self) -> None:
        """Start it; where the manager can tell, wait until it is ready."""
        ...

    def restart(self) -> None:
        """Stop it where it runs, and start it."""
        ...

    def stop(self) -> None:
        """Stop it until the next login; nothing where it does not run."""
        ...

    def forget(self) -> None:
        """Stop it, and have it not start again, before its file is removed."""
        ...

    def tidy(self) -> None:
        """Remove folders that nobody else has a use for, once nothing is in them."""
        ...
