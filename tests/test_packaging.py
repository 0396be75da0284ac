"""What the project installs: metadata, templates and types, from a checkout."""

from __future__ import annotations

import plistlib
import tomllib
from pathlib import Path

import pytest

import hived_client
from hived.service.templates import UNITS, read_template

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_distribution_and_the_command_have_their_names() -> None:
    assert PROJECT["project"]["name"] == "hived-local"
    assert PROJECT["project"]["scripts"] == {"hived": "hived.cli:main"}


def test_both_packages_are_typed() -> None:
    assert (ROOT / "hived" / "py.typed").is_file()
    assert (ROOT / "client" / "hived_client" / "py.typed").is_file()


def test_the_changelog_has_the_version() -> None:
    assert f"## {hived_client.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("manager", sorted(UNITS))
def test_each_template_is_found_and_starts_the_daemon(manager: str) -> None:
    text = read_template(manager)
    assert "@PYTHON@" in text
    assert "hived" in text


def test_the_unit_is_never_restarted_for_what_a_restart_does_not_mend() -> None:
    unit = read_template("systemd")
    assert "RestartPreventExitStatus=2 75 78" in unit
    assert "Type=notify\n" in unit


def test_the_plist_is_one() -> None:
    plist = plistlib.loads(read_template("launchd").encode())
    assert plist["ProgramArguments"][:5] == ["@PYTHON@", "-P", "-m", "hived", "serve"]
    assert plist["Umask"] == 0o77
