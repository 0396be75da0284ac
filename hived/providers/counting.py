"""How many requests a server works on, where it tells: asked only while somebody watches.

Counted are gauges of a page of metrics in Prometheus' text format, one per engine or process. Facts: vLLM
has ``vllm:num_requests_running`` and ``_waiting``, unless it was started with ``--disable-log-stats``;
llama.cpp has ``llamacpp:requests_processing`` and ``_deferred``, only with ``--metrics``, and to read them
neither wakes a sleeping server nor resets its timer (to read ``/slots`` does both, so nobody reads that).
Ollama and LM Studio tell nothing.
"""

from __future__ import annotations

import math
import re
from typing import Protocol, runtime_checkable

from hived_client.vocabulary.requests import Requests
from hived_client.vocabulary.world import Endpoint

_SAMPLE = rb"^%b(?:\{[^\n]{0,2000}\})? ([0-9.eE+]{1,32})\r?$"


@runtime_checkable
class Counting(Protocol):
    """A probe whose servers can tell how many requests they work on. Not every probe is one."""

    async def count_requests(self, endpoint: Endpoint) -> Requests | None:
        """Ask the server; ``None`` where it does not tell. Raises ``Unusable``; safe to cancel.

        Must not wake, load or keep awake anything.
        """
        ...


def gauge(page: bytes, name: str) -> int | None:
    """Return the sum of a gauge over its labels, a count; ``None`` where the page does not have it."""
    found = re.findall(_SAMPLE % re.escape(name.encode()), page, re.MULTILINE)
    total = 0.0
    for written in found:
        try:
            value = float(written)
        except ValueError:
            return None
        total += value
    return int(total) if found and math.isfinite(total) and 0 <= total < 1e6 else None


def requests_of(page: bytes, running: str, waiting: str) -> Requests | None:
    """Return both counts of a page of metrics; ``None`` where it has neither."""
    found = Requests(running=gauge(page, running), waiting=gauge(page, waiting))
    return None if found.running is None and found.waiting is None else found
