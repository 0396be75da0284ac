"""What every test shares: both backends, and places of its own for every daemon."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hived
import hived_client
from hived_client.doors.paths import Places, places


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run an async test on both backends."""
    return str(request.param)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """An environment in which nothing of the user's is seen or touched."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ
    }
    # A child imports the same packages as this process does, out of a checkout or an installation.
    roots = {str(Path(module.__path__[0]).parent): None for module in (hived, hived_client)}
    return kept | {
        "PYTHONPATH": os.pathsep.join([*roots, *filter(None, [kept.get("PYTHONPATH")])]),
        "HOME": str(home),
        "HIVED_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
    }


@pytest.fixture
def where(environment: dict[str, str]) -> Places:
    """The places of a daemon in that environment."""
    return places(environment)
