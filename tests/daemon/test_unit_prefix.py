"""Two daemons of one user never take each other's units for their own."""

from __future__ import annotations

import os

import msgspec
import pytest

from hived.daemon.app import _unit_prefix
from hived_client.doors.paths import places

USUAL = f"/run/user/{os.getuid()}/hived"


@pytest.mark.parametrize(
    ("runtime", "is_short"), [(USUAL, True), ("/tmp/a/hived", False), ("/home/u/.hive/run", False)]
)
def test_only_the_daemon_of_the_usual_folder_has_the_short_names(runtime: str, is_short: bool) -> None:
    found = _unit_prefix(msgspec.structs.replace(places({"HOME": "/home/u"}), runtime=runtime))
    assert (found == "hived") is is_short
    assert found.startswith("hived")
