"""Which code this is: a digest of every file of the two packages, whatever version they carry.

A version in place of another (``git pull``, ``pip install --upgrade`` of a clone) may have the same number. A
daemon takes the digest as it begins, so that whoever asks later can tell whether old code runs on.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator

import hived_client

IGNORED = "__pycache__"


@functools.cache
def own_code() -> str:
    """Return 16 hex digits for the code that lies where this process has it from. Blocks for some files."""
    hived = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return digest(hived, *hived_client.__path__)


def digest(*folders: str) -> str:
    """Return 16 hex digits for the names and the contents of all files in these folders."""
    whole = hashlib.blake2b(digest_size=8)
    for folder in folders:
        for path in _files(folder):
            name = os.fsencode(os.path.relpath(path, folder))
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError:
                continue  # being replaced at this moment: another digest, as it should be
            whole.update(b"%s\0%d\0%s" % (name, len(content), content))
    return whole.hexdigest()


def _files(folder: str) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != IGNORED)
        yield from (os.path.join(where, name) for name in sorted(names))
