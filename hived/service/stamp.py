"""The mark that every installed file carries: which version wrote it, from which template. Pure.

A newer version, or another template, means that the file is to be written again. Comparing what is installed
with what would be written now says how the two differ.
"""

from __future__ import annotations

import difflib
import hashlib
import re

import msgspec

from hived.service.templates import read_template
from hived_client._version import __version__
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.services import Supervision

_STAMP = re.compile(r"hived (?P<version>[0-9A-Za-z.+!-]{1,40}) template (?P<digest>[0-9a-f]{16})")

SHOWN = 3
"""Lines of a difference that are told in a sentence."""


class Stamp(msgspec.Struct, frozen=True):
    """Who wrote a file."""

    version: str
    template: str
    """First 16 hex digits of the template's SHA-256."""

    def __str__(self) -> str:
        return f"hived {self.version} template {self.template}"


def own_stamp(supervision: Supervision) -> Stamp:
    """Return the stamp that this version writes."""
    return Stamp(__version__, hashlib.sha256(read_template(supervision).encode()).hexdigest()[:16])


def read_stamp(text: str) -> Stamp | None:
    """Find the stamp in an installed file; ``None`` for one that we did not write."""
    found = _STAMP.search(text)
    return Stamp(found["version"], found["digest"]) if found is not None else None


def drift(path: str, text: str, supervision: Supervision) -> Fault | None:
    """Say how an installed file differs from what this version writes, by its stamp alone."""
    stamp, ours = read_stamp(text), own_stamp(supervision)
    if stamp == ours:
        return None
    if stamp is None:
        why = "it was not written by hived service install"
    elif stamp.version != ours.version:
        why = f"hived {stamp.version} wrote it, and this is {ours.version}"
    else:
        why = "it was made from another template"
    return fault("service.drift", path=path, why=why)


def differences(installed: str, wanted: str) -> tuple[str, ...]:
    """Return the lines that differ, ``-`` before what is installed and ``+`` before what would be."""
    lines = difflib.unified_diff(installed.splitlines(), wanted.splitlines(), n=0, lineterm="")
    return tuple(line for line in list(lines)[2:] if not line.startswith("@@"))
