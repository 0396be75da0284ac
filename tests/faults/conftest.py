"""Mark the provocations, give them a daemon to share, and print the table of what they came to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.asking import Shared, settled
from tests.faults.provoking import table


@pytest.fixture
def anyio_backend() -> str:
    """What a fault says does not depend on the event loop: one of them is enough here."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """One daemon for all that needs but another configuration; each gives it its own."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder, settled(Path(folder)) as daemon:
        yield Shared(daemon)
        assert daemon.process.poll() is None, daemon.log[-4000:]
        assert "Traceback" not in daemon.log, daemon.log[-4000:]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here ``fault``: it runs by itself, ``-m fault``. What starts nothing runs always."""
    for item in items:
        if "tests/faults/" in item.nodeid and "tests/faults/test_complete.py" not in item.nodeid:
            item.add_marker(pytest.mark.fault)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: code, how it was provoked, what is said, what helps."""
    lines = table()
    if lines:
        terminalreporter.section("faults, as they were provoked")
        for line in lines:
            terminalreporter.write_line(line)
