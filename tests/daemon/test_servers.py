"""What is known of the servers that hived started: by their addresses, and in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived.daemon.clock import Clock
from hived.daemon.servers import Servers
from hived.machine.records import Records, Started
from tests.client.worlds import endpoint

LOCAL = "http://127.0.0.1:11434"


def started(**more: object) -> Started:
    known: dict[str, object] = {
        "endpoint": "ollama",
        "provider": "ollama",
        "url": LOCAL,
        "identity": None,
        "argv": ("ollama", "serve"),
        "model": "",
        "alias": "",
        "log": "/nowhere",
        "started_at": 0.0,
    }
    return Started(**(known | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [(LOCAL, True), ("http://localhost:11434", True), ("http://gpu:11434", False)],
)
def test_a_server_elsewhere_that_has_its_name_is_not_ours(tmp_path: Path, url: str, is_ours: bool) -> None:
    servers = Servers(Records(tmp_path), {}, Clock())
    servers.put(started())
    assert (servers.of(endpoint("ollama", "ollama", url=url)) is not None) is is_ours
