"""The user service: units as text, managers as answers, and one that hangs as a program."""

from __future__ import annotations

import plistlib
import re
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hived.cli.doctor.service import (
    Manager,
    ServiceFacts,
    ask_systemd,
    check_path,
    check_service,
    check_variables,
    programs_on,
    read_service,
    version_of,
)
from hived.cli.doctor.unit import Unit, read_service_file, read_unit
from hived.service.templates import read_template
from hived_client._version import __version__
from hived_client.doors.paths import places
from hived_client.vocabulary.faults import fault
from tests.cli.doctor.findings_of import only, seen

TEMPLATE = """# what is filled in stands between @
[Unit]
Description=hived
[Service]
Type=notify
ExecStart=@PYTHON@ -P -m hived serve
Environment=PYTHONUNBUFFERED=1 @VARIABLES@
"""
INSTALLED = TEMPLATE.replace("@PYTHON@", "/v/bin/python").replace(
    "@VARIABLES@", '"PATH=/v/bin:/usr/bin" A=%%'
)
RUNS = Manager(answers=True, active="active", enabled="enabled")
WELL = ServiceFacts(
    name="hived.service",
    path="/h/.config/systemd/user/hived.service",
    unit=Unit(interpreter="/v/bin/python"),
    version="1.0",
    ours="1.0",
    manager=RUNS,
    lingers=True,
    user="me",
)


def service(**fields: Any) -> ServiceFacts:
    return msgspec.structs.replace(WELL, **fields)


def manager(**fields: Any) -> ServiceFacts:
    return service(manager=msgspec.structs.replace(RUNS, **fields))


CASES: list[tuple[str, ServiceFacts, list[str]]] = [
    ("a healthy one", WELL, []),
    ("none, where there could be one", service(path=None), ["note service.installed"]),
    (
        "none, without a service manager",
        service(path=None, manager=Manager(answers=False, is_there=False, why="no systemd")),
        ["note service.installed"],
    ),
    ("an interpreter that is gone", service(can_run=False), ["fail service.interpreter"]),
    ("an interpreter without hived", service(version=None), ["fail service.interpreter"]),
    ("another version", service(version="0.9"), ["warn service.version"]),
    (
        "a unit that was edited",
        service(unit=Unit(changed=("[Service] Type=notify",))),
        ["warn service.edited"],
    ),
    (
        "a unit of another version",
        service(drift=fault("service.drift", path="/u", why="hived 0.9 wrote it")),
        ["warn service.drift"],
    ),
    ("a unit that was not read again", manager(needs_reload=True), ["warn service.reload"]),
    ("one that failed", manager(active="failed", result="exit-code"), ["fail service.active"]),
    ("one that does not run", manager(active="inactive"), ["warn service.active"]),
    ("one that does not start with the login", manager(enabled="disabled"), ["warn service.enabled"]),
    ("one that is started again and again", manager(restarts=3), ["warn service.restarts"]),
    ("one that ends with the login", service(lingers=False), ["note service.linger"]),
    (
        "a manager that hangs",
        service(manager=Manager(answers=False, why="it took longer than 2 s")),
        ["warn service.manager"],
    ),
    ("an agent of launchd", service(is_launchd=True, manager=Manager(answers=False), lingers=None), []),
]


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_service_is_judged(facts: ServiceFacts, expected: list[str]) -> None:
    findings = check_service(facts)
    assert seen(findings) == expected
    assert all(each.fix for each in findings if each.level in ("warn", "fail"))


def test_a_unit_says_its_interpreter_its_path_and_where_it_differs() -> None:
    assert read_unit(INSTALLED, TEMPLATE) == Unit(interpreter="/v/bin/python")
    assert read_service_file(INSTALLED, "systemd").path == "/v/bin:/usr/bin"
    edited = INSTALLED.replace("Type=notify\n", "Type=simple\n; a remark\n")
    unit = read_unit(edited, TEMPLATE)
    assert unit.changed == ("[Service] Type=notify",)
    assert unit.added == ("[Service] Type=simple",)
    assert read_unit("", TEMPLATE).changed[0] == "[Unit] Description=hived"


def test_the_shipped_unit_is_as_it_is_shipped_whatever_is_filled_in() -> None:
    shipped = read_template("systemd")
    unit = read_unit(re.sub("@[A-Z]+@", "/some/thing", shipped), shipped)
    assert (unit.interpreter, unit.changed, unit.added) == ("/some/thing", (), ())


def test_an_agent_says_its_interpreter_and_its_path() -> None:
    agent = {"ProgramArguments": ["/v/bin/python", "-m"], "EnvironmentVariables": {"PATH": "/a:/b"}}
    text = plistlib.dumps(agent).decode()
    assert read_service_file(text, "launchd") == Unit(interpreter="/v/bin/python", path="/a:/b")
    for broken in (plistlib.dumps({}).decode(), "", "x", "bplist00", "<plist><array/></plist>"):
        assert read_service_file(broken, "launchd") == Unit()


def test_the_version_is_asked_of_the_interpreter_itself(environment: dict[str, str]) -> None:
    assert version_of(sys.executable) == __version__
    assert version_of("/no/such/python") is None
    assert version_of("python3") is None
    assert version_of("/bin/true") is None


def systemctl(folder: Path, script: str) -> dict[str, str]:
    """Lay out a machine whose user has a systemd that answers so; return the environment of that user."""
    (folder / "bin").mkdir()
    (folder / "run/systemd/system").mkdir(parents=True)
    program = folder / "bin/systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (folder / "runtime/systemd").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(folder / "runtime/systemd/private"))
    return {"PATH": f"{folder}/bin:/usr/bin:/bin", "XDG_RUNTIME_DIR": str(folder / "runtime")}


def test_systemd_is_asked_once_and_believed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "ActiveState=active\\nUnitFileState=enabled\\nNRestarts=2\\nResult=success\\nNeedDaemonReload=yes"
    given = systemctl(home, f'printf "{lines}\\n"')
    monkeypatch.setenv("PATH", given["PATH"])
    assert ask_systemd("hived.service", given, f"{home}/") == Manager(
        answers=True, active="active", enabled="enabled", restarts=2, result="success", needs_reload=True
    )


def test_a_systemd_that_says_no_is_told_in_its_words(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = systemctl(home, "echo 'Failed to connect to bus' >&2; exit 1")
    monkeypatch.setenv("PATH", given["PATH"])
    assert ask_systemd("hived.service", given, f"{home}/").why == "Failed to connect to bus"


@pytest.mark.slow
def test_a_systemd_that_hangs_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = systemctl(home, "exec sleep 60")
    monkeypatch.setenv("PATH", given["PATH"])
    assert ask_systemd("hived.service", given, f"{home}/").why == "it took longer than 2 s"


def test_without_systemd_it_is_said_why(home: Path) -> None:
    assert not ask_systemd("hived.service", {}, f"{home}/").is_there
    (home / "run/systemd/system").mkdir(parents=True)
    assert ask_systemd("hived.service", {}, f"{home}/").why == "this user has no systemd of its own"


@pytest.mark.skipif(sys.platform == "darwin", reason="a unit of systemd")
def test_an_installed_unit_is_found_where_systemd_looks(environment: dict[str, str], home: Path) -> None:
    where = places(environment)
    assert read_service(where, environment, "1.0").path is None
    folder = home / ".config/systemd/user"
    folder.mkdir(parents=True)
    places_of = f"HIVED_RUNTIME_DIR={home}/run XDG_STATE_HOME={home}/state PATH=/v/bin:/usr/bin"
    text = TEMPLATE.replace("@PYTHON@", sys.executable).replace("@VARIABLES@", places_of)
    (folder / "hived.service").write_text(text)
    read = read_service(where, environment, "1.0")
    assert read.path == str(folder / "hived.service")
    assert read.version == __version__
    assert read.can_run
    assert read.programs is not None
    assert read.programs.path == "/v/bin:/usr/bin"
    assert read.drift is not None  # hived service install did not write it
    assert seen(check_service(read))[1] == "warn service.drift"


def test_a_program_that_only_the_caller_finds_is_told(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine/ollama").touch(0o755)
    here, there = programs_on(str(tmp_path / "mine")), programs_on(str(tmp_path / "theirs"))
    findings = check_path(here, there, "mend")
    assert seen(findings) == ["warn service.path"]
    assert f"does not find ollama, which is {tmp_path}/mine/ollama for you" in findings[0].what
    assert findings[1].what == f"hived's PATH is {tmp_path}/theirs"
    assert seen(check_path(there, here, "mend")) == ["note service.path"]
    assert seen(check_path(here, here, "mend")) == []
    assert "where ollama is found as you find it" in check_path(here, here, "mend")[0].what


def test_a_variable_that_the_daemon_lacks_is_told_by_its_name_alone() -> None:
    here = {"OLLAMA_HOST": "gpu:1", "LAB_KEY": "the-key-itself"}
    findings = check_variables(here, {"LAB_KEY": "another-key"}, frozenset({"LAB_KEY", "NONE"}), "mend")
    said = [each.what for each in findings]
    assert said == [
        "OLLAMA_HOST is set for you, and hived was started without it",
        "LAB_KEY is set for you, and hived was started with another",
    ]
    assert check_variables(here, here, frozenset({"LAB_KEY"}), "mend") == []


def test_an_address_that_only_the_daemon_has_is_told() -> None:
    (found,) = check_variables({}, {"OLLAMA_HOST": "old-box"}, frozenset(), "mend")
    assert (found.level, found.fix) == ("note", "mend")
    assert found.what == "OLLAMA_HOST is not set for you, and hived was started with it"


def test_an_address_of_two_variables_is_told_by_both() -> None:
    both = {"LLAMA_ARG_HOST": "10.0.0.2", "LLAMA_ARG_PORT": "9000"}
    what = "LLAMA_ARG_HOST and LLAMA_ARG_PORT is"
    assert check_variables(both, both, frozenset(), "mend") == []
    for here, there, said in (
        (both, {}, f"{what} set for you, and hived was started without it"),
        (both, both | {"LLAMA_ARG_PORT": "1"}, f"{what} set for you, and hived was started with another"),
        ({}, both, f"{what} not set for you, and hived was started with it"),
    ):
        (found,) = check_variables(here, there, frozenset(), "mend")
        assert found.what == said


def test_what_is_installed_is_told_in_full_only_where_it_matters() -> None:
    assert not only(check_service(WELL), "service.drift").brief
    assert only(check_service(WELL), "service.active").brief
