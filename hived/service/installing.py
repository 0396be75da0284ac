"""Installing and removing, for either service manager: what is written, done, and said of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hived.service.files import ensure_file, read_file, remove_file
from hived.service.interface import Order, ServiceManager
from hived.service.stamp import read_stamp
from hived.service.surroundings import environment_file


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to lie there, and what does."""

    text: str
    """The service's file as it would be written now."""
    before: str | None
    """The one that is installed."""
    variables: tuple[str, ...]
    """Names of the variables that the environment file holds or would hold."""
    environment: bytes | None
    """What the environment file is to hold; ``None``: leave it as it is."""

    @property
    def is_same(self) -> bool:
        """Whether the installed one is as it would be written."""
        return self.text == self.before


def plan(manager: ServiceManager, order: Order, variables: Mapping[str, str] | None) -> Plan:
    """Decide what is to be written. ``variables``: take these over; ``None``: leave what was taken over."""
    raw = read_file(manager.path)
    return Plan(
        text=manager.render(order),
        before=raw.decode("utf-8", "replace") if raw is not None else None,
        variables=tuple(variables or ()),
        environment=environment_file(variables) if variables else None,
    )


def write(manager: ServiceManager, wanted: Plan) -> tuple[str, ...]:
    """Write what differs; return a sentence for each thing that was changed."""
    said: list[str] = []
    if wanted.environment is not None and ensure_file(manager.environment_file, wanted.environment):
        said.append(
            f"wrote {manager.environment_file}, which only you can read: {', '.join(wanted.variables)}"
        )
    if ensure_file(manager.path, wanted.text.encode()):
        manager.take_note()
        said.append(_written(manager.path, wanted))
    return tuple(said)


def remove(manager: ServiceManager) -> tuple[str, ...]:
    """Stop the service and remove all that it consists of; return a sentence for each thing removed."""
    manager.forget()
    removed = [path for path in (manager.path, manager.environment_file) if remove_file(path)]
    manager.tidy()
    manager.take_note()
    return tuple(f"removed {path}" for path in removed)


def _written(path: str, wanted: Plan) -> str:
    if wanted.before is None:
        return f"wrote {path}"
    stamp = read_stamp(wanted.before)
    ours = read_stamp(wanted.text)
    if stamp is not None and ours is not None and stamp.version != ours.version:
        return f"wrote {path} again: it was hived {stamp.version}'s, and is {ours.version}'s now"
    return f"wrote {path} again: it was not as it would be written now"
