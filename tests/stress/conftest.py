"""Mark what lies here ``stress``, give it chance from one seed, and print what it measured."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import pytest

from tests.daemon.running import configure
from tests.stress.figures import FIGURES, SEED, Figure, Tell, again, lines
from tests.stress.model_server import ModelServer

SERVERS = 6
"""Model servers that flap at once."""

DAILY = "tests/stress/test_judging.py"
"""What judges is pure, and tried with every run of the tests."""


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """What the chance of this test comes from."""
    return f"{SEED} {request.node.name}"


@pytest.fixture
def chance(seed: str) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Note a figure for the table at the end."""
    group = request.node.name.removeprefix("test_").replace("_", " ")

    def note(what: str, value: object) -> None:
        FIGURES.append(Figure(group, what, str(value)))

    return note


@pytest.fixture
def servers(environment: dict[str, str]) -> Iterator[list[ModelServer]]:
    """Model servers that can be made to flap, and a configuration that names them."""
    with contextlib.ExitStack() as stack:
        found = [ModelServer(environment, f"lab{number}") for number in range(SERVERS)]
        for server in found:
            stack.callback(server.leave)
        configure(environment, {each.name: {"like": "llamacpp", "api_base": each.url} for each in found})
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/stress/" in item.nodeid and DAILY not in item.nodeid:
            item.add_marker(pytest.mark.stress)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, also of a run that failed: its seed is what finds the failure again."""
    table = lines()
    if table:
        terminalreporter.section(f"stress, {again()}")
        for line in table:
            terminalreporter.write_line(line)
