"""Why a server has no key that it takes: none is named, none is set, none may be sent, or it is another."""

from __future__ import annotations

import pytest

from hived.decisions.locks import locked
from hived.decisions.outcomes import Circumstances
from hived_client.resolution import fault_fields
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import VLLM
from hived_client.vocabulary.world import Daemon, Endpoint

NEAR, LAN, SOMEWHERE = "http://127.0.0.1:8000", "http://10.0.0.7:8000", "http://gpu-box:8000"


def why(
    url: str = NEAR, *, key_ref: str | None = "LAB_KEY", unset: bool = False, managed_by: str | None = None
) -> Fault:
    endpoint = Endpoint(name="lab", provider="vllm", url=url, source="configuration", key_ref=key_ref)
    daemon = managed_by and Daemon(
        version="1", pid=7, started_at=0.0, managed_by=managed_by, socket="/s", id="i", boot="b"
    )
    now = Circumstances(at=1.0, key_unset=unset)
    return locked(endpoint, now, daemon or None, fault_fields(endpoint, VLLM))


@pytest.mark.parametrize(
    ("url", "key_ref", "unset", "code"),
    [
        (NEAR, None, False, "server.unauthorised"),
        (NEAR, "LAB_KEY", False, "server.unauthorised"),
        (NEAR, "LAB_KEY", True, "server.key_unset"),
        (LAN, "LAB_KEY", True, "server.key_unset"),
        # Whether it is set does not matter where it would not be sent.
        (SOMEWHERE, "LAB_KEY", False, "server.key_withheld"),
        (SOMEWHERE, "LAB_KEY", True, "server.key_withheld"),
        (SOMEWHERE, None, False, "server.unauthorised"),
        (SOMEWHERE.replace("http:", "https:"), "LAB_KEY", False, "server.unauthorised"),
    ],
)
def test_each_reason_has_its_own_words(url: str, key_ref: str | None, unset: bool, code: str) -> None:
    found = why(url, key_ref=key_ref, unset=unset)
    assert found.code == code
    assert "?" not in found.message


@pytest.mark.parametrize(
    ("managed_by", "hint"),
    [
        (None, "export LAB_KEY=…"),
        ("foreground", "export LAB_KEY=… && kill 7 && sleep 1 && hived serve"),
        ("client", "export LAB_KEY=… && kill 7 && sleep 1 && hived serve"),
        ("systemd", "hived service install --with-environment"),
        ("launchd", "hived service install --with-environment"),
    ],
)
def test_hived_is_given_the_variable_by_whoever_looks_after_it(managed_by: str | None, hint: str) -> None:
    assert why(unset=True, managed_by=managed_by).hint == hint
