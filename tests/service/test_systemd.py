"""The unit that is written, and what systemd is told."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest

from hived.cli.doctor.unit import read_service_file
from hived.service.interface import Order
from hived.service.stamp import own_stamp, read_stamp
from hived.service.systemd import Systemd
from hived_client.errors import Unavailable
from hived_client.vocabulary.services import settings_of
from tests.service.fake_systemctl import FakeSystemctl, root_with_systemd

ORDER = Order(
    name="hived",
    python="/opt/venv/bin/python",
    path="/opt/bin:/usr/bin",
    environment_file="/home/me/.config/systemd/user/hived.environment",
    log="/home/me/.local/state/hived/logs/hived.log",
)


@pytest.fixture
def run(home: Path) -> FakeSystemctl:
    return FakeSystemctl([f"{home}/.config/systemd/user", "/etc/systemd/user"])


@pytest.fixture
def systemd(home: Path, run: FakeSystemctl) -> Systemd:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return Systemd("hived", environment, run, root=root_with_systemd(home / "root"))


def line_of(text: str, key: str) -> str:
    return next(line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}="))


def test_the_unit_is_the_template_filled_in(systemd: Systemd) -> None:
    text = systemd.render(ORDER)
    assert line_of(text, "ExecStart") == "/opt/venv/bin/python -P -m hived serve"
    assert line_of(text, "EnvironmentFile") == "-/home/me/.config/systemd/user/hived.environment"
    assert line_of(text, "RestartPreventExitStatus") == "2 75 78"
    assert settings_of(text, "systemd")["PATH"] == "/opt/bin:/usr/bin"
    assert read_stamp(text) == own_stamp("systemd")
    assert "@" not in "".join(line for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(
    ("python", "word"),
    [
        ("/opt/my venv/bin/python", '"/opt/my venv/bin/python"'),
        ("/opt/100%/python", '"/opt/100%%/python"'),
        ("/opt/$HOME/python", ':"/opt/$HOME/python"'),
        ('/opt/"q"/py\\thon', '"/opt/\\"q\\"/py\\\\thon"'),
    ],
)
def test_an_interpreter_is_written_as_one_word_that_means_itself(
    systemd: Systemd, python: str, word: str
) -> None:
    text = systemd.render(msgspec.structs.replace(ORDER, python=python))
    assert line_of(text, "ExecStart") == f"{word} -P -m hived serve"
    assert shlex.split(word.lstrip(":"))[0].replace("%%", "%") == python


@pytest.mark.parametrize("value", ["/a b", "/100%h", '/"x"', "/back\\slash", "/$HOME"])
def test_a_setting_is_written_as_one_word_and_read_again(systemd: Systemd, value: str) -> None:
    text = systemd.render(msgspec.structs.replace(ORDER, settings={"HIVE_HOME": value}))
    assert settings_of(text, "systemd")["HIVE_HOME"] == value


@pytest.mark.parametrize(
    "change", [{"python": ""}, {"python": "python3"}, {"path": "/a\n[Service]\nExecStart=/bin/x"}]
)
def test_what_cannot_be_a_unit_is_not_written(systemd: Systemd, change: dict[str, str]) -> None:
    with pytest.raises(Unavailable) as caught:
        systemd.render(msgspec.structs.replace(ORDER, **change))
    assert caught.value.code == "service.no_interpreter"


def test_the_doctor_reads_it_as_it_was_meant(systemd: Systemd) -> None:
    written = msgspec.structs.replace(ORDER, python="/opt/my venv/bin/python", settings={"HIVE_HOME": "/a b"})
    unit = read_service_file(systemd.render(written), "systemd")
    assert (unit.changed, unit.added) == ((), ())
    assert (unit.interpreter, unit.path) == (written.python, written.path)


def test_a_system_without_systemd_and_a_user_without_a_session_are_told_apart(
    tmp_path: Path, home: Path, run: FakeSystemctl
) -> None:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    nowhere = Systemd("hived", environment, run, root=str(tmp_path)).why_not()
    without = root_with_systemd(home / "root", session=False)
    nobody = Systemd("hived", environment, run, root=without).why_not()
    assert nowhere is not None
    assert nobody is not None
    assert (nowhere.code, nobody.code) == ("service.no_systemd", "service.no_session")
    assert run.asked == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [(".dockerenv", "", "container"), ("proc/sys/kernel/osrelease", "5.15-microsoft-standard-WSL2", "WSL")],
)
def test_what_kind_of_system_has_no_systemd_is_said(
    tmp_path: Path, run: FakeSystemctl, file: str, content: str, said: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    found = Systemd("hived", {"HOME": "/h"}, run, root=str(tmp_path)).why_not()
    assert found is not None
    assert said in found.message


def test_systemd_is_asked_at_the_runtime_folder_of_the_user_even_where_the_shell_names_none(
    systemd: Systemd, run: FakeSystemctl, home: Path
) -> None:
    assert systemd.why_not() is None
    assert run.environment["XDG_RUNTIME_DIR"].startswith(str(home / "root/run/user"))


def test_the_unit_goes_where_systemd_looks_and_not_where_only_the_shell_does(
    home: Path, run: FakeSystemctl
) -> None:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": f"{home}/mine"}
    systemd = Systemd("hived", environment, run, root=root_with_systemd(home / "root"))
    assert systemd.why_not() is None
    assert systemd.path == f"{home}/.config/systemd/user/hived.service"
    run.unit_path.insert(0, f"{home}/mine/systemd/user")
    again = Systemd("hived", environment, run, root=f"{home}/root")
    assert again.why_not() is None
    assert again.path == f"{home}/mine/systemd/user/hived.service"


FAILED = [
    ({"ActiveState": "failed", "Result": "exit-code", "StatusText": "It may not."}, "It may not"),
    ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "3"}, "it ended with code 3"),
    ({"ActiveState": "failed", "Result": "start-limit-hit"}, "it failed too often within a minute"),
    ({"ActiveState": "failed", "Result": "watchdog"}, "it hung and was ended"),
    ({"ActiveState": "active", "Result": "success", "StatusText": "all is well"}, ""),
]


@pytest.mark.parametrize(("properties", "why"), FAILED)
def test_why_a_unit_does_not_run_is_said_in_the_daemons_words_or_by_how_it_ended(
    systemd: Systemd, run: FakeSystemctl, properties: dict[str, str], why: str
) -> None:
    run.properties = properties
    assert systemd.state().why == why


def test_a_unit_that_is_masked_is_said_with_what_unmasks_it(systemd: Systemd, run: FakeSystemctl) -> None:
    run.refusals["start"] = "Failed to start hived.service: Unit hived.service is masked.\n"
    with pytest.raises(Unavailable) as caught:
        systemd.start()
    assert caught.value.code == "service.refused"
    assert caught.value.hint == "systemctl --user unmask hived.service"
