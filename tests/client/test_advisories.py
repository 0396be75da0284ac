"""Which versions have a known hole."""

from __future__ import annotations

import re

import msgspec
import pytest

from hived_client.resolution import kind_or_common
from hived_client.vocabulary.advisories import ADVISORIES, advisories, release_of, vulnerable
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.world import CALLABLE, State
from tests.client.worlds import STATES, endpoint

RELEASES = [
    ("0.17.1", (0, 17, 1)),
    ("v0.17.1", (0, 17, 1)),
    ("0.11", (0, 11, 0)),
    ("0.14.1+cu128", (0, 14, 1)),
    ("0.17.1-rc0", (0, 17, 1)),
    ("0.14.1rc2", (0, 14, 1)),
    ("0.14.0.post1", None),
    ("0.14.1.dev12+g0123", None),
    ("0.0.0", None),
    ("b6789-abcdef", None),
    ("1.2.3.4", None),
    ("0.17.1 or so", None),
    ("", None),
    (None, None),
    ("9" * 400, None),
    ("١.٢.٣", None),
]


@pytest.mark.parametrize(("version", "release"), RELEASES)
def test_a_version_is_its_release_number_or_nothing(version: str | None, release: object) -> None:
    assert release_of(version) == release


HOLES = [
    ("ollama", "0.17.0", ["CVE-2026-7482"]),
    ("ollama", "0.17.1", []),
    ("ollama", "0.1.28", ["CVE-2024-37032", "CVE-2024-45436", "CVE-2026-7482", "CVE-2024-28224"]),
    ("ollama", "0.34.2", ["CVE-2026-103663"]),
    ("ollama", "0.34.1", []),
    ("ollama", "0.35.0", []),
    ("vllm", "0.8.2", ["CVE-2026-24779"]),
    ("vllm", "0.14.0", ["CVE-2026-22778", "CVE-2026-24779"]),
    ("vllm", "0.14.1", []),
    ("llamacpp", "0.1.0", []),
]


@pytest.mark.parametrize(("provider", "version", "cves"), HOLES)
def test_the_holes_of_a_version(provider: str, version: str, cves: list[str]) -> None:
    assert [each.cve for each in advisories(provider, version)] == cves


@pytest.mark.parametrize("state", STATES)
def test_only_a_server_that_can_be_called_is_told_of(state: State) -> None:
    old = msgspec.structs.replace(endpoint("lab", "vllm", "x", state=state), version="0.10.0")
    found = vulnerable(old, kind_or_common("vllm", ()))
    assert (found is not None) is (state in CALLABLE)
    if found is not None:
        assert found.hint == "pip install --upgrade vllm"
        assert "CVE-2026-22778, CVE-2026-24779" in found.message


def test_every_row_is_well_formed() -> None:
    for each in ADVISORIES:
        assert re.fullmatch(r"CVE-20\d\d-\d{4,}", each.cve)
        assert each.since < each.fixed_in
        kind = kind_named(each.provider)
        assert kind is not None
        assert kind.upgrade
    assert len({each.cve for each in ADVISORIES}) == len(ADVISORIES)
