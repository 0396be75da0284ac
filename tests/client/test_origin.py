"""What pip is told to install: what this hived came from, and nothing that merely has its name."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

import hived_client
from hived_client.doors.origin import UNKNOWN, install_command, requirement
from hived_client.vocabulary.faults import fault, quoted
from hived_client.vocabulary.kinds import LLAMACPP

GIT = '{"url": "https://me:secret@x/h.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'


def came_from(origin: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours:
        version = "1.2"

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return origin

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Ours())


@pytest.mark.parametrize(
    ("origin", "exact", "newest"),
    [
        (None, "hived-local==1.2", "hived-local"),
        ("broken", UNKNOWN, UNKNOWN),
        ('{"url": "file:///no/such", "dir_info": {"editable": true}}', "/no/such", "/no/such"),
        ('{"url": "file:///usr", "dir_info": {}}', "/usr", "/usr"),
        (
            GIT,
            "hived-local @ git+https://me:secret@x/h.git@abc",
            "hived-local @ git+https://me:secret@x/h.git",
        ),
        ('{"url": "https://x/h.whl"}', "hived-local @ https://x/h.whl", "hived-local @ https://x/h.whl"),
    ],
)
def test_it_is_what_this_hived_was_installed_from(
    origin: str | None, exact: str, newest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_from(origin, monkeypatch)
    assert requirement() == exact
    assert requirement(newest=True) == newest


def test_a_command_is_of_this_python_and_tells_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    came_from(GIT, monkeypatch)
    python = quoted(sys.executable)
    assert install_command(upgrade=True) == (
        f"{python} -m pip install --upgrade 'hived-local @ git+https://x/h.git'"
    )


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("ssh://git@github.com/o/h.git", "ssh://git@github.com/o/h.git"),
        ("ssh://git:secret@github.com/o/h.git", "ssh://git@github.com/o/h.git"),
        ("ssh://h:22/o.git", "ssh://h:22/o.git"),
        ("https://token@x/h@2.git", "https://x/h@2.git"),
    ],
)
def test_a_login_is_told_only_where_it_is_no_secret(
    origin: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_from(GIT.replace("https://me:secret@x/h.git", origin), monkeypatch)
    assert install_command().endswith(f" -m pip install 'hived-local @ git+{told}'")


def test_where_no_pip_is_uv_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    came_from(None, monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    python = quoted(sys.executable)
    assert install_command() == f"uv pip install --python {python} hived-local"
    assert install_command(upgrade=True) == f"uv pip install --upgrade --python {python} hived-local"


def test_what_was_never_installed_is_installed_from_its_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    root = Path(hived_client.__path__[0]).parents[1]
    assert requirement() == (str(root) if (root / "pyproject.toml").exists() else UNKNOWN)


def test_what_else_is_to_be_installed_is_what_the_extras_name() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = fault("call.no_litellm", model="x", why="y").hint
    for wanted, hint in ((extras["agent"], named), (extras["llamacpp"][-1:], LLAMACPP.install)):
        for each in wanted:
            assert each.partition(">")[0] in hint
