"""What ``hived status`` finds wrong in its own environment, which the daemon cannot see."""

from __future__ import annotations

import json
from pathlib import Path

from hived.cli.status import with_own_problems
from hived_client.doors.files import Known
from hived_client.doors.paths import Places, places
from tests.cli.words import hived
from tests.client.publishing import write_snapshot
from tests.client.worlds import endpoint, world

LAB = endpoint("lab", "vllm", "x", url="http://127.0.0.1:8000")


def test_a_proxy_that_takes_calls_is_a_problem_of_this_environment(home: Path) -> None:
    known = Known(world=world(LAB), verdict="fresh", age=0.0, places=places({"HOME": str(home)}))
    assert with_own_problems(known, {}) is known
    assert with_own_problems(known, {"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.1"}) is known
    found = with_own_problems(known, {"HTTP_PROXY": "http://p"})
    assert [each.code for each in found.world.problems] == ["proxy.hijacks"]


def test_it_is_shown_and_its_password_is_not(environment: dict[str, str], where: Places) -> None:
    write_snapshot(where, world(LAB), path=where.last_known)
    proxied = environment | {"http_proxy": "http://me:secret@proxy:3128"}
    said = hived(proxied, "status")
    assert "http_proxy sends calls to http://127.0.0.1:8000 through the proxy http://proxy:3128" in said.out
    assert "→ export NO_PROXY=localhost,127.0.0.1,::1" in said.out
    document = json.loads(hived(proxied, "status", "--json").out)
    assert [each["code"] for each in document["problems"]] == ["proxy.hijacks"]
    assert "secret" not in said.out + json.dumps(document)
    assert "proxy" not in hived(environment, "status").out
