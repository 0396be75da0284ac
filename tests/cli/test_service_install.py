"""What an installation does beside a daemon that runs already, and which variables it takes over."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hived.cli.service.acts import Outcome, act
from hived.cli.service.here import Here
from hived.daemon.code import own_code
from hived.service.systemd import Systemd
from hived_client.doors.frames import frame
from tests.client.fake_daemon import WELCOME, FakeDaemon, fake_daemon, pack, result
from tests.service.fake_systemctl import FakeSystemctl, root_with_systemd

OURS = frame(pack(msgspec.structs.replace(WELCOME, managed_by="systemd")))


@pytest.fixture
def systemctl(home: Path) -> FakeSystemctl:
    return FakeSystemctl([f"{home}/.config/systemd/user"])


@pytest.fixture
def here(environment: dict[str, str], home: Path, systemctl: FakeSystemctl) -> Here:
    found = Here(environment, sys.executable, "linux")
    found.manager = Systemd("hived", environment, systemctl, root=root_with_systemd(home / "root"))
    found.problem = None
    return found


@pytest.fixture
def daemon(here: Here) -> Iterator[FakeDaemon]:
    with fake_daemon(
        here.where, greeting=OURS, statistics=lambda _: [result({"code": own_code()})]
    ) as daemon:
        yield daemon


def install(here: Here, **options: bool) -> Outcome:
    given = {"with_environment": False, "without_environment": False, "json": True} | options
    return act(here, argparse.Namespace(action="install", timeout=5.0, **given))


def test_a_second_time_changes_nothing(here: Here, daemon: FakeDaemon, systemctl: FakeSystemctl) -> None:
    install(here)
    before = list(systemctl.verbs)
    assert install(here).changed == (
        "hived.service is installed as this version writes it; nothing was changed",
    )
    assert systemctl.verbs == before


@pytest.mark.parametrize("statistics", [{"code": "of before"}, {}])
def test_a_daemon_with_the_code_of_before_is_started_again(
    here: Here, daemon: FakeDaemon, systemctl: FakeSystemctl, statistics: dict[str, str]
) -> None:
    install(here)
    daemon.methods["statistics"] = lambda _: [result(statistics)]
    assert install(here).changed == ("hived.service was started again",)
    assert systemctl.verbs[-1] == "restart"


def test_what_is_set_no_longer_is_taken_back_by_the_command_that_took_it_over(
    here: Here, daemon: FakeDaemon
) -> None:
    here.variables = {"HF_HOME": "/models", "OLLAMA_HOST": "old-box"}
    assert install(here, with_environment=True).taken_over == ("HF_HOME", "OLLAMA_HOST")
    here.variables = {"HF_HOME": "/models"}
    second = install(here, with_environment=True)
    assert second.taken_over == ("HF_HOME",)
    assert second.changed[0] == "OLLAMA_HOST is not set here, and no longer for the service"
    here.variables = {}
    assert install(here).taken_over == ("HF_HOME",)
    assert install(here, with_environment=True).taken_over == ()
    assert not Path(here.manager.environment_file).exists()
