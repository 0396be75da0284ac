"""Versions of servers with a known security hole, as data.

Each row was checked against its public record; what has no fixed version there is not in the table, since
nothing could be advised. Versions are compared by their release numbers only: a development version, a build
number (``b6789-…``) or a version that says nothing (``0.0.0``) is judged not at all.
"""

from __future__ import annotations

import re

import msgspec

from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import CALLABLE, Endpoint

Release = tuple[int, int, int]


class Advisory(msgspec.Struct, frozen=True):
    """One hole: versions from ``since`` on, and before ``fixed_in``, have it."""

    provider: str
    cve: str
    since: Release
    fixed_in: Release
    allows: str
    """What it lets whoever reaches the server do; goes on after ``lets whoever reaches it``."""


ADVISORIES: tuple[Advisory, ...] = (
    Advisory("ollama", "CVE-2026-103663", (0, 34, 2), (0, 35, 0), "write files and run code (/api/pull)"),
    Advisory("ollama", "CVE-2024-37032", (0, 0, 1), (0, 1, 34), "write files and run code (/api/pull)"),
    Advisory("ollama", "CVE-2024-45436", (0, 0, 1), (0, 1, 47), "write files with a ZIP archive"),
    Advisory("ollama", "CVE-2026-7482", (0, 0, 1), (0, 17, 1), "read its memory, prompts among it"),
    Advisory("ollama", "CVE-2024-28224", (0, 0, 1), (0, 1, 29), "use it from any web page (DNS rebinding)"),
    Advisory("vllm", "CVE-2026-22778", (0, 8, 3), (0, 14, 1), "run code, if it serves a video model"),
    Advisory("vllm", "CVE-2026-24779", (0, 0, 1), (0, 14, 1), "have it fetch addresses of its own network"),
)
"""The gravest of a provider first."""

_RELEASE = r"(?as)v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?![\d.])(.*)"
"""Compiled when it is first needed: most processes ask about a server that has no hole."""


def release_of(version: str | None) -> Release | None:
    """Return the release number of a version: ``0.14.1+cu128`` is (0, 14, 1); ``None`` where it has none."""
    found = re.fullmatch(_RELEASE, version or "")
    if found is None or "dev" in found[4].casefold() or (found[4] and found[4][0] not in "+-rab"):
        return None
    numbers = int(found[1]), int(found[2]), int(found[3] or 0)
    return numbers if any(numbers) else None


def advisories(provider: str, version: str | None) -> tuple[Advisory, ...]:
    """Return the holes that a version is known to have."""
    rows = [each for each in ADVISORIES if each.provider == provider]
    release = release_of(version) if rows else None
    return tuple(each for each in rows if release is not None and each.since <= release < each.fixed_in)


def vulnerable(endpoint: Endpoint, kind: ProviderKind) -> Fault | None:
    """Return the fault of a server that can be called and whose version has a hole."""
    if endpoint.version is None or endpoint.state not in CALLABLE:
        return None
    found = advisories(endpoint.provider, endpoint.version)
    if not found:
        return None
    return fault(
        "server.vulnerable",
        title=kind.title,
        version=endpoint.version,
        url=endpoint.url,
        cves=", ".join(each.cve for each in found),
        allows=found[0].allows,
        upgrade=kind.upgrade or None,
    )
