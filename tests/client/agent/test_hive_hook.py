"""How hived gets into Hive: at the import of one module, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hived_client.agent.hook import FINDER, LINE, PACKAGES, plugged
from tests.client.agent.hive_stand_in import COMMITS, write_hive

TELL = """
import framework.llm.litellm as module
print(type(module.litellm).__name__, hasattr(module.LiteLLMProvider.__init__, "__hived__"))
print(module.LiteLLMProvider("llamacpp/x").api_base, module.LiteLLMProvider("gpt-4o").api_base)
"""
PLUGGED_IN = ["Attended True", "http://127.0.0.1:8080/v1 None"]


@pytest.fixture(params=COMMITS)
def hive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_hive(tmp_path / "hive", str(request.param))


def said(
    environment: Mapping[str, str], *folders: Path, code: str = TELL, flags: tuple[str, ...] = ()
) -> list[str]:
    """Run a Python and return its lines; what it says of an error comes last."""
    path = os.pathsep.join([*map(str, folders), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env=dict(environment) | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def test_the_line_plugs_hived_in_when_hive_is_imported_and_not_before(
    environment: dict[str, str], hive: Path
) -> None:
    quiet = "print(*sorted(n for n in sys.modules if n.partition('.')[0] in ('hived_client', 'msgspec')))"
    lines = said(environment, hive, code=LINE + quiet + "\nimport framework.llm\n" + quiet + TELL)
    assert lines[:2] == ["", ""]
    assert lines[2:4] == PLUGGED_IN


def test_run_twice_as_in_a_virtual_environment_it_plugs_in_once(environment: dict[str, str]) -> None:
    count = f"print([getattr(f, '__name__', '') for f in sys.meta_path].count({FINDER!r}))"
    assert said(environment, code=LINE + LINE + count) == ["1"]


OLD_FINDER = "import sys\nclass Old:\n    def find_module(self, name, path=None): return None\n"
STUBBORN = """
import sys
from importlib.machinery import PathFinder, SourceFileLoader
class Loader(SourceFileLoader):
    def __setattr__(self, name, value):
        if name == "exec_module":
            raise AttributeError("read-only")
        super().__setattr__(name, value)
class Finder:
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path)
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec
sys.meta_path.insert(0, Finder)
"""


def test_a_finder_of_the_old_kind_is_passed_over_as_by_python(
    environment: dict[str, str], hive: Path
) -> None:
    lines = said(environment, hive, code=OLD_FINDER + "sys.meta_path.insert(0, Old())\n" + LINE + TELL)
    assert lines[:2] == PLUGGED_IN


def test_a_loader_that_cannot_be_followed_leaves_hive_as_it_was(
    environment: dict[str, str], hive: Path
) -> None:
    lines = said(environment, hive, code=STUBBORN + LINE + TELL)
    assert lines[0] == "module False"
    assert "hived is not plugged into Hive: AttributeError('read-only')" in lines


def test_hive_alone_is_as_it_was(environment: dict[str, str], hive: Path) -> None:
    assert said(environment, hive)[0] == "module False"


def test_the_module_is_the_one_that_python_would_have_found(environment: dict[str, str], hive: Path) -> None:
    tell = "import framework.llm.litellm as m\nprint(m.__file__, m.__spec__.origin, m.__spec__.loader.name)"
    bare = said(environment, hive, code=tell)
    assert said(environment, hive, code=LINE + tell) == bare
    assert bare[0].startswith(str(hive))


def test_without_the_client_hive_runs_and_one_line_says_so(hive: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(hive)}
    lines = said(bare, hive, code=LINE + TELL, flags=("-S",))
    assert lines[0] == "module False"
    assert lines[-1] == "hived is not plugged into Hive: No module named 'hived_client'"


def test_a_hive_whose_own_import_fails_says_so_itself(environment: dict[str, str], hive: Path) -> None:
    (hive / "framework" / "llm" / "litellm.py").write_text("raise ImportError('no pydantic')")
    lines = said(environment, hive, code=LINE + TELL)
    assert lines[-1] == "ImportError: no pydantic"
    (hive / "framework" / "llm" / "litellm.py").unlink()
    lines = said(environment, hive, code=LINE + TELL)
    assert lines[-1].startswith("ModuleNotFoundError: No module named 'framework.llm.litellm'")


def test_a_hive_of_another_shape_is_left_alone(environment: dict[str, str], hive: Path) -> None:
    (hive / "framework" / "llm" / "litellm.py").write_text("class LiteLLMProvider: pass\nlitellm = object()")
    lines = said(
        environment, hive, code=LINE + "import framework.llm.litellm as m; print(m.LiteLLMProvider())"
    )
    assert lines[0].startswith("<framework.llm.litellm.LiteLLMProvider")


# Without anything installed: `hived exec -- COMMAND`.


def test_an_environment_plugs_hived_in_with_nothing_installed(
    environment: dict[str, str], hive: Path
) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(hive), "PYTHONPATH": str(hive)}
    lines = said(plugged(bare), code=TELL, flags=("-S",))  # without site there is no sitecustomize either
    assert lines[0] == "module False"
    lines = said(plugged(bare), code=TELL)
    assert lines[:2] == PLUGGED_IN


def test_of_our_packages_it_shows_two_and_only_where_there_are_none(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    code = "import hived_client, sys; print(hived_client.__file__); import hived"
    lines = said(plugged(bare), code=code)
    assert lines[0].endswith("hived_client/__init__.py")
    own = tmp_path / "own"
    own.mkdir()
    (own / "hived_client.py").write_text("")
    assert said(plugged(bare), own, code=code)[0] == str(own / "hived_client.py")


def test_a_sitecustomize_that_was_there_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('was here')")
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    code = (
        f"import sys, sitecustomize; print(sitecustomize.__file__, sys.meta_path[0].__name__ == {FINDER!r})"
    )
    assert said(plugged(bare), code=code)[:2] == ["was here", f"{tmp_path / 'sitecustomize.py'} True"]


def test_the_environment_is_plugged_once() -> None:
    once = plugged({"PYTHONPATH": "/a", "OTHER": "1"})
    assert plugged(once) == once
    assert once["PYTHONPATH"].endswith(f"on_path{os.pathsep}/a")
    assert once["OTHER"] == "1"
    assert len(once[PACKAGES].split(os.pathsep)) == 2
    assert plugged({})["PYTHONPATH"].endswith("on_path")
