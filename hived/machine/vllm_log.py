"""What a log of vLLM's says: how far a start is, and why one ended. Pure.

vLLM writes the lines of three processes into one log, each after a prefix like ``(EngineCore pid=12)``, and
a failure as the traceback of each of them in turn: the line that tells why is the first that matches the
most special pattern, and "See root cause above" is none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hived.machine.last_lines import REASON_LENGTH, plain_lines, telling_line
from hived.machine.recipes import Stage

_PREFIX = re.compile(
    r"^(\([\w.-]+ pid=\d+\) *)?"
    r"((?P<level>[A-Z]+) +\d\d-\d\d \d\d:\d\d:\d\d +\[[^\]]*\] *)?"
    r"(?P<value>Value error, )?"
)
_QUIET = frozenset(("DEBUG", "INFO", "WARNING"))
"""Levels of lines that tell no end: how much memory is free, for one, is told at every start."""
_EXCEPTION = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt): (?!\d+ validation error)\S")
_AFTER = re.compile(
    r"\. (Supported architectures|To allow overriding|To enable repo look-ups|This could be|See https).*$"
    r"| *\[type=.*$"
)
"""What follows a reason and tells no more of it."""
_TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"loading shared libraries|cannot open shared object file|undefined symbol|Library not loaded",
        r"driver version is insufficient|no kernel image is available|forward compatibility was attempted",
        r"Failed to infer device type|No CUDA GPUs are available",
        r"[Aa]ddress already in use",
        r"Repository Not Found",
        r"Cannot access gated repo|access a gated repo\.|Access to model .* is restricted",
        r"40[13] Client Error|Invalid user token",
        r"out of memory|OutOfMemoryError|Free memory on device|No available memory for the cache blocks",
        r"larger than the (maximum number of tokens|available KV cache)|estimated maximum model length",
        r"Available memory on node .* on startup is less|Not enough memory|Cannot allocate memory|bad_alloc",
        r"is greater than the derived max_model_len",
        r"does not recognize this architecture|[Mm]odel architectures? .* (is|are) not supported",
        r"unrecognized arguments|: error: |invalid choice|expected one argument",
        r"is not a valid model identifier",
        r"cached snapshot folder|Repo id must be",
        r"Cannot find any model weights|couldn't connect to|Invalid repository ID or local directory",
    )
)


_STAGES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Resolved architecture", "reading its configuration"),
        (r"Initializing a V\d+ LLM engine", "starting its engine"),
        (
            r"Fetching \d+ files|[Dd]ownloading|\.safetensors: +\d+%|Time spent downloading weights",
            "downloading",
        ),
        (r"Starting to load model|Loading safetensors|Loading .*checkpoint shards", "loading weights"),
        (r"Loading weights took|Model loading took", "preparing the engine"),
        (
            r"Starting torch\.compile|Dynamo bytecode transform|Compiling a graph|load the compiled graph",
            "compiling",
        ),
        (
            r"Available KV cache memory|GPU KV cache size|CPU KV cache size|Maximum concurrency",
            "making its cache",
        ),
        (r"Capturing (CUDA|CPU)? ?graphs?|Graph capturing", "capturing graphs"),
        (r"[Ww]arming up|init engine", "warming up"),
        (r"Starting vLLM (API )?server|Started server process", "opening its port"),
    )
)
_ENGINE_DIED = re.compile(r"EngineDeadError|engine core exited unexpectedly")
_SHARE = re.compile(r"(\d{1,3})%(?: Completed)?(?: *\|)")


def stage_of(text: str) -> Stage | None:
    """Say how far the start is that a log tells of; ``None`` where it does not say yet."""
    found: Stage | None = None
    for line in plain_lines(text.replace("\r", "\n")):
        for pattern, words in _STAGES:
            if pattern.search(line):
                share = _SHARE.search(line)
                part = int(share[1]) / 100 if share is not None and int(share[1]) <= 100 else None
                found = Stage(words=words, share=part)
                break
    return found


def why_it_ended(text: str, *, started: bool = False) -> str:
    """Find the line that says why the server ended; empty where there is none.

    ``started``: of one that had served, the last line alone tells nothing.
    """
    lines = [_Line.of(raw) for raw in plain_lines(text)]
    grave = [line.words for line in lines if line.words and line.level not in _QUIET]
    told = telling_line(grave, _TELLING)
    if told:
        return told
    causes = [line.words for line in lines if line.is_cause]
    if causes:
        return causes[0][:REASON_LENGTH]  # the first is the cause; those after it are what it led to
    if broke_down(text):
        return "its engine ended"  # and took its reason with it: it was killed
    return lines[-1].words[:REASON_LENGTH] if lines and not started else ""


def broke_down(text: str) -> bool:
    """Tell whether the server lost its engine: it then tidies up and ends with status 0 (seen with 0.32)."""
    return _ENGINE_DIED.search(text) is not None


class _Line(NamedTuple):
    words: str
    level: str
    is_cause: bool

    @classmethod
    def of(cls, raw: str) -> _Line:
        found = _PREFIX.match(raw)
        assert found is not None  # every part of it may be missing
        words, level = _AFTER.sub("", raw[found.end() :]).strip(), found["level"] or ""
        is_error = found["value"] is not None or _EXCEPTION.match(words) is not None
        return cls(words, level, is_error and level not in _QUIET and "root cause" not in words)
