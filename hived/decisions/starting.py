"""Look before leaping: whether to start a server, to take the one that is there, or neither. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import CALLABLE, Installation, State

Leap = Literal["begin", "adopt", "wait"]
"""``adopt``: it answers already. ``wait``: somebody else is starting it, or it loads."""


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a fresh look showed of the place where a server is to be started."""

    url: str
    port: int
    state: State | None
    """``None``: nothing is watched there."""
    taken: bool
    """Whether something has the port."""
    holder: str = ""
    """Who has it, in words; empty: not seen."""
    serves: bool = True
    """Whether it has the model that is asked for, as far as it says."""
    installation: Installation | None = None
    """Its program on this device; ``None``: not known."""


def before_start(kind: ProviderKind, ground: Ground) -> Leap | Fault:
    """Say what to do for a server of a kind at a place of its own.

    What answers as that kind is taken as it is, whoever started it. Anything else at the port is a fault;
    a server with another model is left alone, and whoever wants one of its own looks for another port.
    Where nothing is, a server that has an owner (a system unit, an application, a brew service) is left to
    it: two that keep one server fight over its port, its models folder and its memory.
    """
    if not ground.serves:
        return "begin"
    if ground.state in CALLABLE or ground.state == "unauthorised":
        return "adopt"
    if ground.state in ("starting", "loading"):
        return "wait"
    if ground.taken:
        return fault("start.port_taken", port=ground.port, by=f" by {ground.holder}" if ground.holder else "")
    program = ground.installation
    if program is not None and program.found and program.owner:
        return fault(
            "start.owned",
            title=kind.title,
            url=ground.url,
            owner=program.owner,
            start=program.start or kind.start,
        )
    if program is not None and not program.found:
        return fault(
            "start.not_installed",
            title=kind.title,
            why="",
            install=kind.install or None,
            install_darwin=kind.install_darwin or None,
        )
    return "begin"
