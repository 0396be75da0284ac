"""Where this very hived was installed from, and so what installs it again.

Nothing here assumes that an index has it: whoever takes its name there would run their code by our advice.
"""

from __future__ import annotations

import os
import sys

import msgspec

from hived_client.vocabulary.faults import quoted

DISTRIBUTION = "hived-local"
UNKNOWN = "PATH/TO/HIVED"
"""What stands in a command for a place that is not known."""


class _Vcs(msgspec.Struct, frozen=True):
    vcs: str
    commit_id: str


class _Origin(msgspec.Struct, frozen=True):
    """PEP 610: where an installed distribution came from. pip writes none of what it took from an index."""

    url: str
    vcs_info: _Vcs | None = None


def requirement(*, newest: bool = False) -> str:
    """Return what pip is to be told: for this very version, or for the ``newest`` of where it came from."""
    from importlib.metadata import PackageNotFoundError, distribution  # only whoever tells it pays for it

    try:
        ours = distribution(DISTRIBUTION)
        raw = ours.read_text("direct_url.json")
    except PackageNotFoundError:
        return _checkout() or UNKNOWN
    try:
        origin = msgspec.json.decode(raw or "null", type=_Origin | None)
    except msgspec.MsgspecError:
        return UNKNOWN
    if origin is None:
        return DISTRIBUTION if newest else f"{DISTRIBUTION}=={ours.version}"
    if origin.vcs_info is not None:
        commit = "" if newest else f"@{origin.vcs_info.commit_id}"
        return f"{DISTRIBUTION} @ {origin.vcs_info.vcs}+{origin.url}{commit}"
    if origin.url.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(origin.url).path)  # also one that is gone: pip says so
    return f"{DISTRIBUTION} @ {origin.url}"


def install_command(*, upgrade: bool = False) -> str:
    """Return the command that puts hived into this Python, again or for the first time."""
    from importlib.util import find_spec

    python = quoted(sys.executable or "python3")
    words = "install --upgrade" if upgrade else "install"
    wanted = quoted(_without_secret(requirement(newest=True)))
    if find_spec("pip") is None:  # uv makes its environments without
        return f"uv pip {words} --python {python} {wanted}"
    return f"{python} -m pip {words} {wanted}"


def _checkout() -> str | None:
    """Return the folder of a clone out of which this runs."""
    root = os.path.abspath(__file__)
    for _ in range(4):
        root = os.path.dirname(root)
    return root if os.path.exists(f"{root}/pyproject.toml") else None


def _without_secret(requirement: str) -> str:
    """Leave out who logs in, which may be a token by itself; only SSH does so with a name that is none."""
    before, scheme, rest = requirement.partition("://")
    place, slash, path = rest.partition("/")
    login, _, host = place.rpartition("@")
    user = login.partition(":")[0] if before.endswith("ssh") else ""
    return f"{before}{scheme}{user}{'@' if user else ''}{host}{slash}{path}"
