"""A disk that is full or read-only: the daemon goes on, says so, and all is well once there is room."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from hived.machine.processes import identify
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client
from hived_client.errors import HivedError, NotReady
from tests.daemon.running import DEADLINE, Patient, Running, configure, llamacpp_at, mentioning, wait_until
from tests.daemon.small_disk import OnSmallDisk
from tests.servers.strangers import LyingLlamaCpp
from tests.stress.figures import Tell

KILOBYTES = 96
CHANGES = 30

pytestmark = pytest.mark.usefixtures("may_mount")


def problems(client: Client) -> set[str]:
    """Return every fault that a person is shown."""
    known = client.world()
    found = {problem.code for problem in known.world.problems}
    return found | ({known.problem.code} if known.problem is not None else set())


def refreshes(client: Client) -> bool:
    with contextlib.suppress(HivedError):
        return client.refresh() > 0
    return False


def change_often(environment: dict[str, str], client: Client, url: str) -> None:
    """Make many Worlds, the last of which has a server at this address."""
    for port in range(1, CHANGES):
        configure(environment, llamacpp_at(f"http://127.0.0.1:{port}"))
        client.reload()
    configure(environment, llamacpp_at(url))
    client.reload()


@pytest.mark.parametrize("which", ["runtime", "state"])
def test_a_full_disk(environment: dict[str, str], where: Places, tell: Tell, which: str) -> None:
    configure(environment, llamacpp_at("http://127.0.0.1:9"))
    with LyingLlamaCpp() as server, contextlib.ExitStack() as stack:
        daemon = stack.enter_context(OnSmallDisk(environment, getattr(where, which), KILOBYTES))
        seen = places(environment | {"HIVED_RUNTIME_DIR": daemon.seen("").rstrip("/")})
        client = Patient(seen if which == "runtime" else where, environment=environment)
        stack.callback(client.close)
        wait_until(lambda: refreshes(client), lambda: daemon.log)
        daemon.fill()
        change_often(environment, client, server.url)
        # It answers as ever, of what it has just learnt; what needs the disk says why it cannot be.
        assert client.resolve("llamacpp/m", timeout=DEADLINE).api_base == f"{server.url}/v1"
        with pytest.raises(HivedError) as refused:
            list(client.start("llamacpp", model="/nowhere.gguf"))
        assert refused.value.code == "start.no_file"
        wait_until(lambda: "disk.full" in problems(client), lambda: f"{problems(client)} {daemon.log}")
        if which == "runtime":
            assert client.statistics()["publisher"]["failing"]
        daemon.make_room()
        wait_until(lambda: problems(client) == set(), lambda: f"{problems(client)} {daemon.log[-3000:]}")
        assert client.resolve("llamacpp/m").api_base == f"{server.url}/v1"
        assert [name for name in os.listdir(daemon.seen("")) if name.endswith(str(daemon.pid))] == []
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.log
        tell("said", sorted({str(line["event"]) for line in daemon.events("disk.full")}))


def test_a_state_folder_that_is_read_only(
    environment: dict[str, str], home: Path, where: Places, unused_port: int, tell: Tell
) -> None:
    nowhere = f"http://127.0.0.1:{unused_port}"
    configure(environment, llamacpp_at(nowhere))
    model = speaking()
    with OnSmallDisk(environment, where.state, KILOBYTES) as daemon:
        daemon.wait_ready()
        daemon.client.refresh()
        daemon.remount("ro")
        change_often(environment, daemon.client, nowhere)
        wait_until(lambda: "runtime.unwritable" in problems(daemon.client), lambda: daemon.log)
        with pytest.raises(NotReady) as no:
            daemon.client.resolve("llamacpp/x")
        assert no.value.code == "server.down"
        with pytest.raises(HivedError) as refused:
            list(daemon.client.start("llamacpp", model=model, timeout=DEADLINE))
        assert "Read-only file system" in refused.value.message, refused.value
        assert servers_of(home) == []
        tell("a start meanwhile is refused with", refused.value.message)
        daemon.remount("rw")
        wait_until(lambda: "runtime.unwritable" not in problems(daemon.client), lambda: daemon.log)
        *_, begun = daemon.client.start("llamacpp", model=model, timeout=DEADLINE)
        assert servers_of(home) == [getattr(begun, "pid", None)]
        daemon.client.stop("llamacpp")
        assert servers_of(home) == []


def test_a_runtime_folder_that_is_read_only_at_the_start(environment: dict[str, str], where: Places) -> None:
    configure(environment)
    os.makedirs(where.runtime, 0o700)
    with ReadOnly(environment, where.runtime, KILOBYTES) as daemon:
        assert daemon.process.wait(60.0) == 78
        failed = daemon.events("daemon.failed")
        assert [line["code"] for line in failed] == ["runtime.unwritable"]
        assert "Traceback" not in daemon.log


class ReadOnly(OnSmallDisk):
    """Its disk is read-only from the beginning."""

    mode = "0700,ro"


def speaking() -> str:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from tests.servers.llamacpp import speaking_model

    return str(speaking_model())


def servers_of(home: Path) -> list[int]:
    """Return the model servers below a home."""
    found = []
    for pid in mentioning(f"HOME={home}"):
        with contextlib.suppress(OSError):
            if b"--port" in Path(f"/proc/{pid}/cmdline").read_bytes() and identify(pid):
                found.append(pid)
    return found


def test_descriptors_are_told(environment: dict[str, str]) -> None:
    assert isinstance(Running(environment, wait=False), Running)
