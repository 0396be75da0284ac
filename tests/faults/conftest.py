"""Mark the provocations, and print the table of what they came to."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.faults.provoking import table


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of this device that is taken and where nothing listens, so that nobody else gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here ``fault``: it runs by itself, ``-m fault``."""
    for item in items:
        if "tests/faults/" in item.nodeid:
            item.add_marker(pytest.mark.fault)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: code, how it was provoked, what is said, what helps."""
    lines = table()
    if lines:
        terminalreporter.section("faults, as they were provoked")
        for line in lines:
            terminalreporter.write_line(line)
