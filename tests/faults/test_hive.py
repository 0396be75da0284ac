"""What keeps hived out of Hive: each provoked by the command, against real Pythons."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from hived.cli import plugin
from hived.cli.plugin import enable, interpreter, look
from hived_client.vocabulary.faults import Fault
from tests.cli.test_plugin import executable, make_environment, packages
from tests.faults.asking import raised
from tests.faults.provoking import provokes


def refused(python: Path) -> Fault:
    """Return why hived cannot be plugged into a Python."""
    return raised(lambda: enable(str(python), look(str(python))))


@provokes("plugin.no_hive", "no command hive on PATH, and no .venv in the folder")
def test_no_hive(tmp_path: Path) -> Fault:
    return raised(functools.partial(interpreter, None, {"PATH": str(tmp_path)}, str(tmp_path)))


@provokes("plugin.no_python", "a --python that is no Python")
def test_no_python(tmp_path: Path) -> Fault:
    return refused(executable(tmp_path / "python", "#!/bin/sh\necho it was never one >&2; exit 3\n"))


@provokes("plugin.no_python", "a --python that never answers")
def test_a_python_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    monkeypatch.setattr(plugin, "ASK", 0.3)
    return refused(executable(tmp_path / "python", "#!/bin/sh\nexec sleep 30\n"))


@provokes("plugin.managed", "a Python that its system's package manager keeps for itself (PEP 668)")
def test_the_systems_own_python(tmp_path: Path) -> Fault:
    """An interpreter as if its standard library were in a folder that bears the mark."""
    python = make_environment(tmp_path / "env")
    (tmp_path / "EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
    startup = tmp_path / "sitecustomize.py"
    startup.write_text(
        "import sys, sysconfig\n"
        "real = sysconfig.get_path\n"
        f"sysconfig.get_path = lambda name: {str(tmp_path)!r} if name == 'stdlib' else real(name)\n"
        "sys.prefix = sys.base_prefix\n"
    )
    script = f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {python} "$@"\n'
    return refused(executable(tmp_path / "python", script))


@provokes("plugin.unwritable", "an environment whose packages are not this user's to change")
def test_not_ours_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    python = make_environment(tmp_path / "env")
    folder = packages(tmp_path / "env")
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    try:
        return refused(python)
    finally:
        folder.chmod(0o755)


@provokes("plugin.no_pip", "an environment without pip, where there is no uv either")
def test_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    monkeypatch.setenv("PATH", str(tmp_path))
    return refused(make_environment(tmp_path / "env", client=False))


@provokes("plugin.install_failed", "a pip that finds nothing of that name")
def test_pip_fails(tmp_path: Path) -> Fault:
    python = make_environment(tmp_path / "env", client=False)
    (packages(tmp_path / "env") / "pip.py").write_text(
        "raise SystemExit('ERROR: No matching distribution found for hived-local')"
    )
    found = refused(python)
    assert found.hint.startswith(f"{python} -m pip install")
    return found


@provokes("plugin.install_failed", "a Python that starts without the file, for its launcher removes it")
def test_a_python_that_does_not_run_the_file(tmp_path: Path) -> Fault:
    python = make_environment(tmp_path / "env")
    file = packages(tmp_path / "env") / plugin.FILE
    return refused(executable(tmp_path / "python", f'#!/bin/sh\nrm -f {file}\nexec {python} "$@"\n'))
