"""A program that asks a question pays for msgspec and the standard library's cheap half."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hived_client

SCRIPT = """
import sys
import hived_client
known = hived_client.world()
assert known.verdict == "absent", known
try:
    hived_client.resolve("nobody/x")
except hived_client.NotReady as error:
    assert error.code == "provider.unknown", error
print(*sorted(name for name in sys.modules if "." not in name))
"""

DEAR = [
    "anyio",
    "asyncio",
    "trio",
    "httpx",
    "structlog",
    "psutil",
    "hived",
    "subprocess",
    "pathlib",
    "json",
    "dataclasses",
    "tempfile",
    "logging",
    "argparse",
    "concurrent",
    "multiprocessing",
    "urllib",
    "http",
    "email",
    "ssl",
    "litellm",
    "rich",
]


def test_asking_imports_nothing_dear(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint(DEAR), loaded & set(DEAR)
    foreign = {
        name
        for name in loaded - set(sys.stdlib_module_names)
        if not name.startswith("_")
        and name not in ("hived_client", "msgspec", "typing_extensions", "sitecustomize")
    }
    assert foreign == set()


@pytest.mark.parametrize("name", hived_client.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(hived_client, name) is getattr(hived_client, name)
    assert name in dir(hived_client)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such"):
        hived_client.no_such  # noqa: B018


def test_the_public_functions_are_those_of_the_shared_client() -> None:
    from hived_client.doors.sync import shared

    assert hived_client.resolve == shared.resolve
    assert hived_client.world == shared.world
