"""How far a model of a llama.cpp router is, as the router's events tell it. Pure.

An event is ``{"model", "event", "data"}``. One of a load has ``data.progress`` with ``stages``, which of
them is ``current``, and a ``value`` from 0 to 1 within it. One of a download has for each file's URL how
many bytes are ``done`` of the ``total``, in ``data.progress`` or, in older ones, in ``data``.
"""

from __future__ import annotations

import msgspec

from hived.providers.fields import MOST_ITEMS, count, inner, is_object, share, text

_decode = msgspec.json.Decoder().decode


def note_progress(known: dict[str, float], data: bytes) -> None:
    """Take in one event: put in how far its model is, a share from 0 to 1, or take that out.

    An event that makes no sense changes nothing.
    """
    try:
        event = _decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return
    model = text(inner(event, "model"))
    if model is None:
        return
    found = _share(event)
    if found is None:
        known.pop(model, None)
    elif model in known or len(known) < MOST_ITEMS:
        known[model] = found


def _share(event: object) -> float | None:
    """Return how far an event says that its model is, in whole hundredths."""
    if inner(event, "event") == "download_progress":
        inside = inner(event, "data", "progress")
        found = _downloaded(inside if inside is not None else inner(event, "data"))
    else:
        found = _loaded(inner(event, "data", "progress"))
    return None if found is None else round(found, 2)


def _loaded(progress: object) -> float | None:
    """Each stage counts alike: how long one will take is not told."""
    value, stages = share(inner(progress, "value")), inner(progress, "stages")
    if value is None or not isinstance(stages, list) or inner(progress, "current") not in stages:
        return value
    return (stages.index(inner(progress, "current")) + value) / len(stages)


def _downloaded(files: object) -> float | None:
    if not is_object(files):
        return None
    totals = [
        (inner(file, "done"), count(inner(file, "total"))) for file in files.values() if is_object(file)
    ]
    done = sum(d for d, total in totals if total and isinstance(d, int | float) and 0 <= d <= total)
    whole = sum(total for _, total in totals if total)
    return done / whole if whole else None
