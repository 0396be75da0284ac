"""A real second user: refused before the first frame, and nothing is theirs to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hived_client.doors.paths import Places
from tests.daemon.running import Running, configure, llamacpp_at
from tests.servers.strangers import LyingLlamaCpp
from tests.stress.figures import Tell

UID = 54_321
"""Nobody's number."""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


def strangers_tries(environment: dict[str, str], home: Path) -> dict[str, str]:
    """Return what the other user's tries came to."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.stress.stranger", str(UID), str(home)],
        env=environment | {"HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=300.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tries: dict[str, str] = json.loads(done.stdout)
    return tries


def test_another_user_in_a_home_that_all_may_enter(
    environment: dict[str, str], home: Path, where: Places, tell: Tell
) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        # As homes are on many systems: what is to be closed must be closed by itself.
        home.chmod(0o755)
        Path(where.logs).mkdir(parents=True)
        with Running(environment, log=f"{where.logs}/hived.log") as daemon:
            daemon.client.refresh()
            tries = strangers_tries(environment, home)
            assert daemon.client.statistics()["server"]["refused"] == 0, "it should not have come so far"
            assert daemon.client.resolve("llamacpp/m").endpoint == "llamacpp"
    library = {name: tries.pop(name) for name in ("ask by the library", "its World")}
    tell("another user's tries", f"{len(tries)}, all refused by the folders' modes")
    tell("what the library says to them", library)
    assert set(tries.values()) == {"PermissionError"}, tries
    assert library["its World"] == "0 endpoints"


def test_another_user_where_every_folder_was_opened(
    environment: dict[str, str], home: Path, where: Places, tell: Tell
) -> None:
    configure(environment)
    with Running(environment) as daemon:
        for path in (home, Path(where.runtime), Path(where.folder)):
            path.chmod(0o755)
        Path(where.socket).chmod(0o666)
        tries = strangers_tries(environment, home)
        assert daemon.client.statistics()["server"]["refused"] >= 1
        assert [line["uid"] for line in daemon.events("peer.denied")][:1] == [UID]
        assert daemon.client.greet().pid == daemon.pid
    tell("the same on an open socket", f"greet: {tries['greet']}; library: {tries['ask by the library']}")
    assert tries["greet"] == "answered 0 bytes"
    assert tries["ask by the library"] == "runtime.unsafe", tries
    assert tries["its World"] == "0 endpoints"
    assert {tries[f"read {name}"] for name in ("snapshot", "beat", "lock", "last_known")} == {
        "PermissionError"
    }
