"""``hived plugin``: an environment of Hive's gets one file, and loses it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import anyio
import msgspec
import pytest

import hived_client
from hived.cli.plugin import FILE, Place, enable, interpreter, look
from hived_client._version import __version__
from hived_client.agent.hook import LINE
from hived_client.errors import Refused
from tests.cli.words import hived
from tests.client.agent.hive_stand_in import write_hive


def make_environment(folder: Path, *, client: bool = True) -> Path:
    """Make an environment without pip; return its Python. ``client``: it can import hived's client."""
    venv.create(folder, with_pip=False, symlinks=True)
    if client:
        roots = (Path(each.__path__[0]).parent for each in (hived_client, msgspec))
        (packages(folder) / "client.pth").write_text("\n".join(map(str, roots)))
    return folder / "bin" / "python"


def packages(folder: Path) -> Path:
    (found,) = folder.glob("lib/python*/site-packages")
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("hive"))


@pytest.fixture
def python(shared: Path) -> Path:
    (packages(shared.parent.parent) / FILE).unlink(missing_ok=True)
    return shared


@pytest.fixture
def bare(environment: dict[str, str], home: Path) -> dict[str, str]:
    """An environment with a PATH on which there is no ``hive``."""
    return environment | {"PATH": str(home)}


def test_it_goes_in_and_out_and_says_how_things_stand(environment: dict[str, str], python: Path) -> None:
    folder = packages(python.parent.parent)
    before = sorted(folder.iterdir())
    words = ("hive", "--python", str(python))
    said = hived(environment, "plugin", "status", *words)
    assert (said.code, said.out.splitlines()[0]) == (1, "hived is not plugged into Hive")
    for _ in range(2):
        said = hived(environment, "plugin", "enable", *words)
        assert (said.code, said.out.splitlines()[0]) == (0, "hived is plugged into Hive"), said.err
    assert sorted(set(folder.iterdir()) - set(before)) == [folder / FILE]
    assert (folder / FILE).read_text() == LINE
    assert LINE.count("\n") == 1
    assert (folder / FILE).stat().st_mode & 0o777 == 0o644
    said = hived(environment, "plugin", "status", *words, "--json")
    assert said.code == 0
    assert json.loads(said.out) == {
        "program": "hive",
        "enabled": True,
        "python": str(python),
        "file": str(folder / FILE),
        "client": __version__,
        "ours": __version__,
        "hive": None,
    }
    for _ in range(2):
        assert hived(environment, "plugin", "disable", *words).code == 0
    assert sorted(folder.iterdir()) == before


def test_what_it_writes_plugs_hived_into_hive(
    environment: dict[str, str], python: Path, tmp_path: Path
) -> None:
    hive = write_hive(tmp_path, "a0d14b8a2")
    code = "import framework.llm.litellm as m; print(type(m.litellm).__name__)"

    def told() -> str:
        env = {"PATH": os.environ["PATH"], "HOME": environment["HOME"], "PYTHONPATH": str(hive)}
        done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert told() == "module"
    assert hived(environment, "plugin", "enable", "hive", "--python", str(python)).code == 0
    assert told() == "Attended"
    assert hived(environment, "plugin", "disable", "hive", "--python", str(python)).code == 0
    assert told() == "module"


def test_a_command_runs_with_it_plugged_in_and_nothing_is_written(
    environment: dict[str, str], tmp_path: Path
) -> None:
    python = make_environment(tmp_path / "env", client=False)
    # What LiteLLM brings along. The client is not there.
    (packages(tmp_path / "env") / "litellms.pth").write_text(str(Path(anyio.__path__[0]).parent))
    before = sorted(packages(tmp_path / "env").iterdir())
    hive = write_hive(tmp_path / "hive", "54fd8db4e")
    code = (
        "import sys, framework.llm.litellm as m\n"
        "print(type(m.litellm).__name__, m.LiteLLMProvider('vllm/x').api_base)\n"
        "sys.exit(7)"
    )
    with_hive = environment | {"PYTHONPATH": f"{hive}{os.pathsep}{environment['PYTHONPATH']}"}
    said = hived(with_hive, "exec", "--", str(python), "-c", code)
    assert (said.code, said.out.split()) == (7, ["Attended", "http://127.0.0.1:8000/v1"]), said.err
    assert sorted(packages(tmp_path / "env").iterdir()) == before


def test_hives_configuration_is_not_touched(environment: dict[str, str], python: Path) -> None:
    configuration = Path(environment["HOME"]) / ".hive" / "configuration.json"
    configuration.parent.mkdir()
    configuration.write_text('{"llm": {}}')
    before = configuration.stat()
    for action in ("enable", "disable"):
        assert hived(environment, "plugin", action, "hive", "--python", str(python)).code == 0
    assert configuration.stat().st_mtime_ns == before.st_mtime_ns
    assert [each.name for each in configuration.parent.iterdir()] == ["configuration.json"]


def test_an_older_file_of_ours_is_written_again(python: Path) -> None:
    file = packages(python.parent.parent) / FILE
    file.write_text("import sys  # as an older version wrote it\n")
    assert not look(str(python)).active
    assert enable(str(python), look(str(python))).active
    assert file.read_text() == LINE


def test_hive_is_seen_where_it_is_installed(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", client=False)
    write_hive(packages(tmp_path / "env"), "54fd8db4e")
    place = look(str(python))
    assert place.hive == str(packages(tmp_path / "env") / "framework")
    assert (place.client, place.pip, place.active) == (None, False, False)
    assert place.version == sys.version_info[:2]


# Whose Python it is.


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_it_is_the_one_beside_the_command_hive_also_behind_a_link(tmp_path: Path) -> None:
    hive = executable(tmp_path / "tool" / "bin" / "hive")
    python = executable(tmp_path / "tool" / "bin" / "python")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "hive").symlink_to(hive)
    assert interpreter(None, {"PATH": str(tmp_path / "path")}, "/") == str(python)


def test_it_is_the_one_that_the_command_names(tmp_path: Path) -> None:
    python = executable(tmp_path / "python3.12")
    executable(tmp_path / "bin" / "hive", f"#!{python} -E\n")
    assert interpreter(None, {"PATH": str(tmp_path / "bin")}, "/") == str(python)


def test_it_is_the_one_of_the_checkout(tmp_path: Path) -> None:
    python = executable(tmp_path / ".venv" / "bin" / "python")
    assert interpreter(None, {"PATH": "/none"}, str(tmp_path)) == str(python)
    with pytest.raises(Refused):
        interpreter(None, {"PATH": "/none"}, str(tmp_path), is_new=False)  # anybody's clone
    executable(tmp_path / f".venv/lib/python3.12/site-packages/{FILE}")
    assert interpreter(None, {"PATH": "/none"}, str(tmp_path), is_new=False) == str(python)
    executable(tmp_path / "hive", "#!/usr/bin/env bash\n")
    assert interpreter(None, {"PATH": str(tmp_path)}, "/") == str(python)


def test_it_is_the_one_that_is_given_with_its_links(tmp_path: Path) -> None:
    python = executable(tmp_path / "env" / "bin" / "python")
    assert interpreter(str(tmp_path / "env"), {}, "/") == str(python)
    link = tmp_path / "link"
    link.symlink_to(python)
    assert interpreter(str(link), {}, "/") == str(link)


# What pip is told.


def test_pip_is_asked_where_the_client_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pip of our own, which puts the client where the real one would, and notes what it was told."""
    python = make_environment(tmp_path / "env", client=False)
    folder = packages(tmp_path / "env")
    roots = [str(Path(each.__path__[0]).parent) for each in (hived_client, msgspec)]
    (folder / "pip.py").write_text(
        "import sys\n"
        f"open({str(tmp_path / 'told')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"open({str(folder / 'client.pth')!r}, 'w').write('\\n'.join({roots!r}))\n"
    )
    monkeypatch.setattr("hived.cli.plugin.requirement", lambda: "/where/it/is")
    assert enable(str(python), look(str(python))).client == __version__
    told = (tmp_path / "told").read_text()
    assert told == "install --disable-pip-version-check --no-input /where/it/is"


def test_nothing_is_installed_and_nothing_written_for_an_old_python(tmp_path: Path) -> None:
    place = Place(version=(3, 10), folder=str(tmp_path))
    with pytest.raises(Refused, match=r"3\.10, and hived needs 3\.11"):
        enable("python3.10", place)
    assert list(tmp_path.iterdir()) == []


def test_json_says_what_is_wrong(bare: dict[str, str], home: Path) -> None:
    said = hived(bare, "plugin", "status", "hive", "--python", "/no/such", "--json")
    assert said.code == 1
    assert json.loads(said.out)["code"] == "plugin.no_python"
    assert "No such file or directory" in said.err
