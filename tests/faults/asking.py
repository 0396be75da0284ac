"""A daemon to provoke, and how a provocation asks it: as any program would."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault
from tests.conftest import environment
from tests.daemon.running import DEADLINE, Running, configure, wait_until

PATIENCE = DEADLINE
"""Seconds that a question may take."""


class Shared:
    """A daemon whose endpoints are those of the provocation that runs now."""

    def __init__(self, daemon: Running) -> None:
        self.daemon = daemon

    def expecting(self, providers: Mapping[str, object]) -> Client:
        """Give the daemon a configuration; return a client that finds it read."""
        configure(self.daemon.environment, providers)
        self.daemon.client.reload(timeout=PATIENCE)
        return self.daemon.client

    def refusal(self, providers: Mapping[str, object], model: str, **question: object) -> Fault:
        """Return why a model cannot be called."""
        return refusal(self.expecting(providers), model, **question)

    def warning(self, code: str, providers: Mapping[str, object], model: str, **question: object) -> Fault:
        """Return what a model that can be called comes with."""
        return warning(code, resolved(self.expecting(providers), model, **question))


@contextmanager
def settled(home: Path, **variables: str) -> Iterator[Running]:
    """Run a daemon in a home of its own, with some more variables, watching nothing."""
    places = environment.__wrapped__(home) | variables  # type: ignore[attr-defined]
    configure(places)
    with Running(places) as daemon:
        yield daemon


def at(url: str, **more: object) -> dict[str, object]:
    """Return an entry of the configuration."""
    return {"api_base": url, **more}


def refusal(client: Client, model: str, **question: object) -> Fault:
    """Return why a model cannot be called."""
    return raised(functools.partial(client.resolve, model, **({"timeout": PATIENCE} | question)))  # type: ignore[arg-type]


def resolved(client: Client, model: str, **question: object) -> Target:
    """Return how a model is called."""
    return client.resolve(model, **({"timeout": PATIENCE} | question))  # type: ignore[arg-type]


def warning(code: str, target: Target) -> Fault:
    """Return one of a target's warnings."""
    return one(code, target.warnings)


def problem(code: str, client: Client) -> Fault:
    """Wait until ``hived status`` would show a problem, and return it."""

    def look() -> list[Fault]:
        known = client.world()
        return [
            each
            for each in (known.problem, *known.notes, *known.world.problems)
            if each is not None and each.code == code
        ]

    return wait_until(look, lambda: f"no {code} in {client.world().world.problems}")[0]


def one(code: str, faults: tuple[Fault, ...]) -> Fault:
    """Return the fault with this code."""
    return next((each for each in faults if each.code == code), Fault(code="none", message=f"{faults}"))


def raised(act: object) -> Fault:
    """Return the fault of the error that an act raises."""
    assert callable(act)
    with pytest.raises(HivedError) as caught:
        act()
    return caught.value.fault
