"""One private machine for all these tests. Each begins and ends with nothing installed or running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.systemd.private_machine import PrivateMachine, why_not


@pytest.fixture(scope="session")
def logged_in() -> Iterator[PrivateMachine]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with PrivateMachine() as machine:
        machine.log_in()
        yield machine


@pytest.fixture
def machine(logged_in: PrivateMachine) -> Iterator[PrivateMachine]:
    """The private machine, whose user has a home without anything in it."""
    logged_in.clear()
    yield logged_in
    if not logged_in.is_logged_in:
        logged_in.log_in()
    logged_in.clear()
    assert logged_in.processes() == []
