"""What a log of llama.cpp's says about the end of its server. Pure."""

from __future__ import annotations

import re

from hived.machine.last_lines import REASON_LENGTH, plain_lines, telling_line


def why_it_ended(text: str, *, started: bool = False) -> str:
    """Find the line of a log that says why the server ended; empty where there is none.

    ``started``: of one that had served, the last line alone tells nothing. At most 300 characters,
    without control characters.
    """
    lines = [line for raw in plain_lines(text) if (line := " ".join(_PREFIX.sub("", raw).split()))]
    told = telling_line(lines, _TELLING)
    return told or (lines[-1][:REASON_LENGTH] if lines and not started else "")


_NO_MEMORY = r"out of memory|\boom\b|failed to allocate|unable to allocate|bad_alloc|not enough memory"
_TELLING = tuple(
    re.compile(pattern, re.IGNORECASE)
    # The first that occurs is the reason; what stands further down often is its consequence.
    for pattern in (
        r"error while loading shared libraries|Library not loaded",
        r"couldn't bind HTTP server socket|^hived-llamacpp: port ",
        _NO_MEMORY,
        r"error loading model|unknown model architecture|failed to apply lora adapter",
        r"^hived-llamacpp: ",
        r"failed to (load|open) (the )?(GGUF|model)",
        r"^error: |invalid argument",
        r"^(\w+\.)*\w*(Error|Exception)\b",
        r"driver version is insufficient|no kernel image is available",  # else it goes on without the card
        r"GGML_ASSERT|: fatal error$|Segmentation fault|terminate called",
    )
)
_PREFIX = re.compile(r"^[\d.]+ [A-Z] (\w{2,4} +)?(\w+(\(\))?: +)?(?=\S)")
"""llama.cpp's time, level, module and function before a line."""
