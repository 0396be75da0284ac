"""What the line of a log means that says why a server ended while it started: a row of the catalogue. Pure.

The words are those of the dynamic linker, of CUDA, of Hugging Face's library and of Python's argparse, so
one table serves every kind; what only one server says is read by its own recipe first.
"""

from __future__ import annotations

import os
import re

from hived_client.vocabulary.faults import Fault, Value, fault

_CODES = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for code, pattern in (
        (
            "start.driver",
            r"driver version is insufficient|no kernel image is available|forward compatibility",
        ),
        ("start.driver", r"failed to infer device type|no cuda gpus are available"),
        ("start.library", r"loading shared libraries|shared object file|undefined symbol|library not loaded"),
        ("start.no_memory", r"out ?of ?memory|\boom\b|unable to allocate|failed to allocate|bad_alloc"),
        ("start.no_memory", r"not enough memory|cannot allocate memory|cache blocks|free memory on device"),
        ("start.no_memory", r"available memory on node|kv cache"),
        ("start.unknown_model", r"repository ?not ?found"),
        ("start.gated", r"gated|is restricted|40[13] client error|invalid user token"),
        ("start.architecture", r"unknown model architecture|recognize this architecture"),
        ("start.architecture", r"architectures?\b.*not supported"),
        ("start.option", r"unrecognized arguments|invalid argument|invalid choice|expected one argument"),
        ("start.option", r"\.py: error: "),
        ("start.unknown_model", r"valid model identifier|cached snapshot folder|repo id must be"),
        ("start.unknown_model", r"invalid repository id or local directory"),
    )
)


def log_of(path: str) -> dict[str, Value]:
    """Return the fields with which a hint shows a log: its path, and the server that ``hived logs`` takes."""
    name = os.path.basename(path)
    return {"log": path, "server": name.removesuffix(".log") if name.endswith(".log") else None}


def fault_of(why: str, **known: Value) -> Fault:
    """Return the fault that a reason is; ``start.ended`` where the table does not know it.

    ``known``: ``title``, ``log_of`` its log, and what the hints want (``restart``, ``install``, …).
    """
    code = next((code for pattern, code in _CODES if pattern.search(why)), "start.ended")
    return fault(code, why=f": {why.rstrip('.!')}" if why else "", **known)
