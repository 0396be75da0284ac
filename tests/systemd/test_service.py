"""hived's own unit under a real user manager: from ``service install`` to ``service uninstall``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hived_client._version import __version__
from tests.daemon.running import wait_until
from tests.systemd.private_machine import PrivateMachine

pytestmark = pytest.mark.systemd

SECRET = "sk-nobody-may-see-this"


def unit_file(machine: PrivateMachine, name: str = "hived.service") -> Path:
    return machine.home / ".config/systemd/user" / name


def install(machine: PrivateMachine, *words: str, **environment: str) -> dict[str, object]:
    done = machine.hived("service", "install", "--json", *words, environment=environment)
    assert done.code == 0, done
    found: dict[str, object] = done.json
    return found


def main_pid(machine: PrivateMachine) -> int:
    return int(machine.unit("MainPID"))


def answering(machine: PrivateMachine) -> int:
    """Return the process of the daemon that answers, and 0 while there is none."""
    code = "import hived_client; print(hived_client.Client().greet().pid)"
    said = machine.run(*PYTHON, code).out.strip()
    return int(said) if said.isdigit() else 0


ENSURE = "import hived_client; w = hived_client.ensure_running(); print(w.managed_by, w.pid)"
PYTHON = (sys.executable, "-P", "-c")
OLDER = "import hived.daemon.code as c; c.own_code = lambda: 'older'\n"
"""Has a daemon begin with other code than is installed."""


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_install_writes_the_unit_starts_the_daemon_and_prints_status(machine: PrivateMachine) -> None:
    done = machine.hived("service", "install")
    assert done.code == 0, done
    assert f"wrote {unit_file(machine)}" in done.out
    assert "hived      running" in done.out
    assert machine.unit("ActiveState") == "active"
    assert machine.unit("UnitFileState") == "enabled"
    assert answering(machine) == main_pid(machine)
    assert machine.status()["daemon"]["managed_by"] == "systemd"
    assert unit_file(machine).stat().st_mode & 0o777 == 0o600


def test_systemd_finds_nothing_to_complain_of_in_the_unit(machine: PrivateMachine) -> None:
    install(machine)
    verified = machine.run("systemd-analyze", "--user", "verify", str(unit_file(machine)))
    assert (verified.code, verified.err) == (0, "")


def test_what_the_unit_forbids_is_forbidden(machine: PrivateMachine) -> None:
    install(machine)
    status = machine.read(f"/proc/{main_pid(machine)}/status").decode()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_a_second_install_changes_nothing_and_says_so(machine: PrivateMachine) -> None:
    first = install(machine)
    before = unit_file(machine).stat().st_mtime_ns
    second = install(machine)
    assert second["changed"] == ["hived.service is installed as this version writes it; nothing was changed"]
    assert (second["pid"], unit_file(machine).stat().st_mtime_ns) == (first["pid"], before)


def test_show_prints_the_unit_that_would_be_written_and_writes_nothing(machine: PrivateMachine) -> None:
    before = tree(machine.home)
    shown = machine.hived("service", "show")
    assert shown.code == 0
    assert tree(machine.home) == before
    install(machine)
    assert unit_file(machine).read_text() == shown.out


def test_uninstall_leaves_nothing_of_the_service_behind(machine: PrivateMachine) -> None:
    machine.write(machine.home / ".config/other", "")
    before = tree(machine.home)
    install(machine, "--with-environment", OLLAMA_HOST="127.0.0.1:1")
    pid = main_pid(machine)
    done = machine.hived("service", "uninstall")
    assert done.code == 0, done
    left = {each for each in tree(machine.home) - before if not each.startswith((".local", ".hive"))}
    assert left == set()
    assert machine.unit("LoadState") == "not-found"
    assert not machine.lives(pid)
    assert machine.hived("service", "uninstall").code == 1


def test_stop_start_and_restart(machine: PrivateMachine) -> None:
    first = install(machine)
    assert machine.hived("service", "stop").code == 0
    assert machine.unit("ActiveState") == "inactive"
    status = machine.hived("status")
    assert (status.code, status.err) == (3, "hived is not running\n  → hived service start\n")
    assert "does not run" in machine.hived("service", "stop").out
    started = machine.hived("service", "start", "--json").json
    assert started["pid"] == main_pid(machine) != first["pid"]
    assert "runs already" in machine.hived("service", "start").out
    again = machine.hived("service", "restart", "--json").json
    assert again["pid"] == main_pid(machine) != started["pid"]


def test_a_reload_reads_the_configuration_and_the_daemon_stays(machine: PrivateMachine) -> None:
    install(machine)
    pid = main_pid(machine)
    providers = {"lab": {"like": "vllm", "api_base": "http://127.0.0.1:1/v1"}}
    text = json.dumps({"hived": {"guess": False}, "providers": providers})
    machine.write(machine.home / ".hive/configuration.json", text)
    assert machine.run("systemctl", "--user", "reload", "hived").code == 0
    wait_until(lambda: [each["name"] for each in machine.status()["endpoints"]] == ["lab"])
    assert machine.unit("ActiveState") == "active"
    assert main_pid(machine) == pid


def test_a_daemon_that_is_killed_is_started_again(machine: PrivateMachine) -> None:
    install(machine)
    pid = main_pid(machine)
    machine.signal(pid, "KILL")
    assert wait_until(lambda: (found := answering(machine)) != pid and found) == main_pid(machine)
    assert machine.unit("NRestarts") == "1"


def test_a_daemon_that_hangs_is_killed_by_the_watchdog_and_started_again(machine: PrivateMachine) -> None:
    faster = unit_file(machine, "hived.service.d/faster.conf")
    last_words = machine.home / "last words"
    machine.write(faster, f"[Service]\nWatchdogSec=2\nStandardError=append:{last_words}\n")
    install(machine)
    pid = main_pid(machine)
    machine.signal(pid, "STOP")
    assert wait_until(lambda: (found := answering(machine)) != pid and found) == main_pid(machine)
    assert machine.unit("NRestarts") == "1"
    assert "Fatal Python error: Aborted" in last_words.read_text()  # with the stack of every thread


def test_a_daemon_that_runs_on_old_code_is_said_and_started_again_by_an_install(
    machine: PrivateMachine,
) -> None:
    folder = machine.home / "older"
    older = f"import hived_client._version as v; v.__version__ = '0.0.1'\n{OLDER}"
    machine.write(folder / "sitecustomize.py", older)
    drop_in = unit_file(machine, "hived.service.d/older.conf")
    machine.write(drop_in, f"[Service]\nEnvironment=PYTHONPATH={folder}\n")
    assert install(machine)["version"] == "0.0.1"
    told = {each["code"]: each for each in machine.status()["problems"]}
    assert told["daemon.other_version"]["hint"] == "hived service install"
    assert machine.run(*PYTHON, ENSURE).out.split() == ["systemd", str(main_pid(machine))]
    drop_in.unlink()
    machine.run("systemctl", "--user", "daemon-reload")
    assert install(machine)["version"] == __version__
    assert machine.status()["problems"] == []


def test_a_daemon_of_the_same_version_with_older_code_is_started_again_by_an_install(
    machine: PrivateMachine,
) -> None:
    folder = machine.home / "older"
    machine.write(folder / "sitecustomize.py", OLDER)
    drop_in = unit_file(machine, "hived.service.d/older.conf")
    machine.write(drop_in, f"[Service]\nEnvironment=PYTHONPATH={folder}\n")
    first = install(machine)
    drop_in.unlink()
    machine.run("systemctl", "--user", "daemon-reload")
    second = install(machine)
    assert (first["version"], second["version"]) == (__version__, __version__)
    assert second["changed"] == ["hived.service was started again"]
    assert install(machine)["pid"] == second["pid"] != first["pid"]


DEAF = """
import os
import anyio
from hived.daemon import progress, server

progress.PATIENCE = 1.0
let_in = server.Server._accept_all

async def let_nobody_in(self, *more):
    try:
        os.unlink({switch!r})
    except FileNotFoundError:
        return await let_in(self, *more)
    await anyio.sleep_forever()

server.Server._accept_all = let_nobody_in
"""
"""Has the daemon's door hang for ever, once, while its loop turns on."""


def test_a_daemon_whose_loop_turns_and_whose_door_hangs_is_killed_by_the_watchdog_too(
    machine: PrivateMachine,
) -> None:
    switch = machine.home / "broken/switch"
    machine.write(switch.parent / "sitecustomize.py", DEAF.format(switch=str(switch)))
    text = f"[Service]\nWatchdogSec=2\nEnvironment=PYTHONPATH={switch.parent}\n"
    machine.write(unit_file(machine, "hived.service.d/deaf.conf"), text)
    install(machine)
    pid = main_pid(machine)
    assert answering(machine) == pid
    machine.write(switch, "")
    assert wait_until(lambda: (found := answering(machine)) != pid and found) == main_pid(machine)
    assert machine.unit("NRestarts") == "1"


def test_a_daemon_that_may_not_run_here_is_not_tried_again_and_its_reason_is_told(
    machine: PrivateMachine,
) -> None:
    install(machine)
    machine.hived("service", "stop")
    machine.run("chmod", "777", f"{machine.runtime}/hived")
    done = machine.hived("service", "start")
    assert done.code == 1
    assert "hived.service did not start" in done.err
    assert f"{machine.runtime}/hived" in done.err
    assert machine.unit("ExecMainStatus") == "78"
    assert machine.unit("NRestarts") == "0"
    machine.run("chmod", "700", f"{machine.runtime}/hived")
    assert machine.hived("service", "start").code == 0


def test_another_home_has_a_service_of_its_own(machine: PrivateMachine) -> None:
    first = install(machine)
    folder = f"{machine.home}/other home 100% $HOME"
    other = install(machine, HIVE_HOME=folder)
    assert first["name"] == "hived.service"
    name = str(other["name"])
    assert name.startswith("hived-")
    assert first["pid"] != other["pid"]
    assert machine.unit("ActiveState", name) == machine.unit("ActiveState") == "active"
    assert machine.hived("service", "uninstall", environment={"HIVE_HOME": folder}).code == 0
    assert machine.unit("ActiveState", name) == "inactive"
    assert machine.unit("ActiveState") == "active"


def test_variables_are_only_named_until_somebody_wants_them_written(machine: PrivateMachine) -> None:
    configured = {"lab": {"like": "vllm", "api_base": "http://127.0.0.1:1/v1", "api_key_env_var": "LAB_KEY"}}
    machine.write(machine.home / ".hive/configuration.json", json.dumps({"providers": configured}))
    mine = {"OLLAMA_HOST": "127.0.0.1:4321", "LAB_KEY": SECRET, "OTHER_KEY": "sk-other"}
    file = machine.home / ".config/systemd/user/hived.environment"
    said = machine.hived("service", "install", environment=mine)
    assert "LAB_KEY, OLLAMA_HOST" in said.err
    assert "hived service install --with-environment" in said.err
    assert not file.exists()
    taken = machine.hived("service", "install", "--with-environment", environment=mine)
    assert file.stat().st_mode & 0o777 == 0o600
    environ = machine.read(f"/proc/{main_pid(machine)}/environ").decode()
    assert f"LAB_KEY={SECRET}" in environ
    assert "OLLAMA_HOST=127.0.0.1:4321" in environ
    assert "OTHER_KEY" not in environ
    shown = machine.hived("service", "show", "--json", environment=mine)
    for text in (repr(said), repr(taken), repr(shown), unit_file(machine).read_text()):
        assert SECRET not in text
    kept = install(machine)
    assert kept["taken_over"] == ["LAB_KEY", "OLLAMA_HOST"]
    install(machine, "--without-environment")
    assert not file.exists()
    assert "LAB_KEY" not in machine.read(f"/proc/{main_pid(machine)}/environ").decode()


@pytest.mark.parametrize(("answer", "taken_over"), [("y", True), ("", False), ("no", False)])
def test_at_a_terminal_the_variables_are_offered(
    machine: PrivateMachine, answer: str, taken_over: bool
) -> None:
    mine = {"HF_HOME": "/models"}
    done = machine.run_on_terminal(answer, "service", "install", environment=mine)
    assert done.code == 0, done
    assert "HF_HOME" in done.err
    assert "[y/N]" in done.err
    assert "/models" not in done.err + done.out
    assert (b"HF_HOME=/models" in machine.read(f"/proc/{main_pid(machine)}/environ")) is taken_over


def test_a_value_of_any_letters_reaches_the_service_as_it_is(machine: PrivateMachine) -> None:
    value = """a b$c"d\\e`f#g'h%i;j\n  k"""
    folder = machine.home / "bin 100% $HOME"
    folder.mkdir()
    path = f"{folder}:/usr/bin:/bin"
    install(machine, "--with-environment", OLLAMA_MODELS=value, PATH=path)
    variables = machine.read(f"/proc/{main_pid(machine)}/environ").decode().split("\0")
    assert f"OLLAMA_MODELS={value}" in variables
    assert f"PATH={path}" in variables


def test_a_packages_unit_is_started_and_stopped_and_left_where_it_is(machine: PrivateMachine) -> None:
    install(machine)
    theirs = machine.home / ".local/share/systemd/user/hived.service"
    machine.write(theirs, unit_file(machine).read_text())
    machine.hived("service", "uninstall")
    assert machine.hived("service", "start").code == 0
    assert machine.unit("FragmentPath") == str(theirs)
    assert machine.hived("service", "stop").code == 0
    assert machine.hived("service", "uninstall").code == 1
    assert theirs.exists()


def test_an_older_unit_is_told_of_and_brought_up_to_date(machine: PrivateMachine) -> None:
    first = install(machine)
    text = unit_file(machine).read_text()
    machine.write(
        unit_file(machine), text.replace("# hived 0", "# hived 0.0", 1).replace("UMask", "#UMask"), 0o600
    )
    machine.run("systemctl", "--user", "daemon-reload")
    restarted = machine.hived("service", "restart")
    assert "is not as this version writes it" in restarted.err
    assert "service.drift" in [each["code"] for each in machine.status()["problems"]]
    shown = machine.hived("service", "show", "--json").json
    assert shown["same"] is False
    assert "-#UMask=0077" in shown["differences"]
    upgraded = install(machine)
    assert unit_file(machine).read_text() == text
    assert upgraded["pid"] == main_pid(machine) != first["pid"]
    assert "service.drift" not in [each["code"] for each in machine.status()["problems"]]
