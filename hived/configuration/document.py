"""Decode configuration.json: the sections that hived reads, and no more of them than it reads.

The file is Hive's, and most of it may be nothing to hived. To decode it holds up every thread of the process,
for some hundred milliseconds where it has megabytes; to step over what is not wanted takes a twentieth.
"""

from __future__ import annotations

import json

import msgspec

MOST_ENTRIES = 1000
"""Entries of a section that are read; far fewer servers are watched."""

SECTIONS = ("llm", "worker_llm", "vision_fallback")
"""Hive's own, each about one model."""
TABLES = ("providers", "provider_library")
"""Sections that name many things; the entries past the first thousand are there by name alone."""

_decode = msgspec.json.Decoder().decode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_document(raw: bytes) -> object:
    """Return what hived reads of the document: an object, if it is one. Raises as ``json.loads`` does.

    What is broken is seen wherever it stands; a number that is too long to be one, only where it is read.
    """
    text = raw.decode()
    try:
        sections = _split(raw)
        read = {name: _decode(sections[name]) for name in ("hived", *SECTIONS) if name in sections}
        return read | {name: _table(sections[name]) for name in TABLES if name in sections}
    except (msgspec.MsgspecError, RecursionError):
        # json says where it is broken; and it takes NaN and half a character, as Python writes them.
        document: object = json.loads(text)
        return document


def _table(section: msgspec.Raw) -> object:
    try:
        entries = _split(section)
    except msgspec.ValidationError:
        return _decode(section)  # it is no object
    return {
        name: _decode(entry) if n < MOST_ENTRIES else None for n, (name, entry) in enumerate(entries.items())
    }
