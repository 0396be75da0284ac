"""What of this machine's facts is news, and when to look at what moves. Pure."""

from __future__ import annotations

import msgspec

from hived.decisions.cadence import backoff
from hived_client.vocabulary.hardware import Gpu, Hardware, Link, Probe

replace = msgspec.structs.replace

WATCHED = 15.0
"""Seconds between two looks at what moves while somebody watches."""
LOADING = 1.0
"""The same while a model is being loaded, which is when memory moves."""
WATCHING = 10.0
"""Seconds for which somebody who asked counts as watching."""
YOUNG = 1.0
"""Seconds for which a look serves everybody who asks."""

FIRST_RETRY, LAST_RETRY = 30.0, 3600.0
"""Seconds until a probe that did not answer is asked again, at first and at most."""

NOTICEABLE = 0.05
"""Share of a memory by which what is free must have changed to be news."""

SILENT = frozenset({"late", "stuck"})
"""States of a probe that did not answer, and is asked again by itself. One that failed did answer."""


def next_look(*, watched: bool, loading: bool, retry: float | None) -> float | None:
    """Return the seconds until the next look at what moves; ``None``: only when somebody asks.

    ``retry``: the seconds until a probe that failed is due again.
    """
    looks = [LOADING if loading else WATCHED] if watched else []
    if retry is not None:
        looks.append(max(0.0, retry))
    return min(looks, default=None)


def retry_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return backoff(failures, FIRST_RETRY, LAST_RETRY)


def is_news(before: Hardware | None, after: Hardware) -> bool:
    """Tell whether anybody should be told of the difference: memory moves all the time, by a little."""
    if before is None or at_rest(before) != at_rest(after):
        return True
    sizes = [(before.memory.available, after.memory.available, after.memory.usable)]
    sizes += [
        (old.free, new.free, new.memory) for old, new in zip(before.gpus or (), after.gpus or (), strict=True)
    ]
    charges = [each.power.charge if each.power else None for each in (before, after)]
    return any(map(_is_noticeable, *zip(*sizes, strict=True))) or _is_noticeable(charges[0], charges[1], 1.0)


def _is_noticeable(before: float | None, after: float | None, whole: float | None) -> bool:
    if before is None or after is None or not whole:
        return before != after
    return abs(after - before) >= NOTICEABLE * whole


def at_rest(hardware: Hardware) -> Hardware:
    """Return it without what moves, and without dates: equal for a machine that did not change."""
    return replace(
        hardware,
        cpu=replace(hardware.cpu, observed_at=None),
        memory=replace(hardware.memory, available=None, observed_at=None),
        system=replace(hardware.system, observed_at=None),
        power=replace(hardware.power, charge=None, observed_at=None) if hardware.power else None,
        gpus=tuple(map(_gpu_at_rest, hardware.gpus)) if hardware.gpus is not None else None,
        probes=tuple(Probe(name=each.name, state=each.state) for each in hardware.probes),
        observed_at=None,
        moved_at=None,
    )


def _gpu_at_rest(gpu: Gpu) -> Gpu:
    link = gpu.link
    return replace(
        gpu,
        free=None,
        processes=None,
        busy=None,
        temperature=None,
        link=replace(link, generation=None, width=None) if link else Link(),
        observed_at=None,
    )
