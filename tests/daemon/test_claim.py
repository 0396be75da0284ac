"""Two daemons with one state folder, and with a runtime folder each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hived.daemon.claim import StateTaken, claim_state
from hived.daemon.instance import Instance
from hived_client.doors.paths import Places, socket_path
from tests.daemon.running import Running, configure


@pytest.fixture
def first(where: Places) -> Iterator[Instance]:
    """A daemon that works with its state folder."""
    os.makedirs(where.state, 0o700)
    instance = Instance(where)
    instance.acquire()
    claim_state(where)
    yield instance
    instance.release()


def elsewhere(where: Places) -> Places:
    """The same state folder, with another runtime folder."""
    runtime = f"{where.runtime}-2"
    return msgspec.structs.replace(where, runtime=runtime, socket=socket_path(runtime))


def test_a_second_daemon_is_told_where_the_first_is(first: Instance, where: Places) -> None:
    with pytest.raises(StateTaken) as caught:
        claim_state(elsewhere(where))
    assert caught.value.fault.fields == {"pid": os.getpid(), "path": where.state, "runtime": where.runtime}
    claim_state(where)  # one that makes its lost runtime folder again


def test_a_daemon_that_has_ended_holds_nobody_up(first: Instance, where: Places) -> None:
    first.release()
    claim_state(elsewhere(where))
    claim_state(where)


@pytest.mark.parametrize("boot", ["another", ""])
def test_a_machine_that_shares_the_home_holds_nobody_up(first: Instance, where: Places, boot: str) -> None:
    claim = json.loads(Path(where.claim).read_text())
    Path(where.claim).write_text(json.dumps(claim | {"boot": boot}))
    claim_state(elsewhere(where))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"lock": 1}', '{"lock": "", "runtime": "", "boot": ""}']
)
def test_a_claim_that_makes_no_sense_is_none(first: Instance, where: Places, text: str) -> None:
    Path(where.claim).write_text(text)
    claim_state(elsewhere(where))


def test_where_nothing_can_be_written_there_is_nothing_to_claim(where: Places) -> None:
    claim_state(where)
    os.makedirs(where.claim)
    claim_state(where)


@pytest.mark.slow
def test_the_second_ends_and_the_first_keeps_its_servers(environment: dict[str, str], where: Places) -> None:
    configure(environment)
    with Running(environment) as daemon:
        other = environment | {"HIVED_RUNTIME_DIR": elsewhere(where).runtime}
        second = Running(other, wait=False)
        second.start()
        assert second.process.wait(20.0) == 78
        assert second.events("daemon.failed")[0]["code"] == "state.taken"
        assert daemon.client.greet().pid == daemon.pid
    with Running(other) as second:
        assert second.client.greet().pid == second.pid
