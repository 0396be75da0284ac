"""Plug-ins that cannot be used, each reported by the real daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running, configure
from tests.daemon.test_plugins import with_plugins
from tests.faults.provoking import provokes
from tests.providers.plugin_folder import add_plugin, toy


@pytest.fixture
def folder(home: Path) -> Path:
    (home / "plugins").mkdir()
    return home / "plugins"


def problem(environment: dict[str, str], folder: Path) -> Fault:
    """Return the one problem that a daemon with these plug-ins shows."""
    configure(environment)
    with Running(with_plugins(environment, folder)) as daemon:
        (only,) = daemon.client.world().world.problems
        return only


@provokes("provider.plugin_broken", "an installed plug-in imports a module that is not there")
def test_its_import_fails(environment: dict[str, str], folder: Path) -> Fault:
    add_plugin(folder, "import no_such_module")
    found = problem(environment, folder)
    assert "ModuleNotFoundError (No module named 'no_such_module')" in found.message
    return found


@provokes("provider.plugin_broken", "an installed plug-in's entry point names a number")
def test_it_is_of_another_shape(environment: dict[str, str], folder: Path) -> Fault:
    add_plugin(folder, "PLUGIN = 5")
    return problem(environment, folder)


@provokes("provider.plugin_broken", "an installed plug-in takes the name of Ollama")
def test_it_takes_a_name_of_ours(environment: dict[str, str], folder: Path) -> Fault:
    add_plugin(folder, toy("ollama"))
    found = problem(environment, folder)
    assert "the name 'ollama' belongs to hived itself" in found.message
    return found


@provokes("provider.plugin_broken", "the import of an installed plug-in never ends")
def test_it_never_ends(environment: dict[str, str], folder: Path) -> Fault:
    add_plugin(folder, "import time\nwhile True:\n    time.sleep(1.0)")
    found = problem(environment, folder)
    assert "did not load within 5 s" in found.message
    return found
