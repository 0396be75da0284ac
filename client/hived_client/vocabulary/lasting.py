"""What is said of a server or a model that is not ready yet: for how long, how far, how long still. Pure.

The World holds only what does not move by itself (since when, and the share that is done), so that it
changes with real progress alone. The sentence is finished by whoever says it, with a clock.
"""

from __future__ import annotations

import msgspec

from hived_client.vocabulary.faults import Fault

LEAST_SHARE = 0.02
"""Share that must be done before it says anything about the rest."""
LEAST_TIME = 1.0
"""Seconds that must have passed before they do."""


def lasting(problem: Fault, now: float) -> Fault:
    """Return the fault with its time in words and in its fields, where the fields say since when it is.

    ``now``: seconds since the epoch. Adds ``seconds`` (how long it has lasted) and, where ``progress``
    (0 to 1) is known, ``rest`` (an estimate of the seconds that are left, from the speed so far).
    """
    since, share = problem.fields.get("since"), problem.fields.get("progress")
    seconds = (
        max(0.0, now - since) if isinstance(since, int | float) and not isinstance(since, bool) else None
    )
    done = share if isinstance(share, int | float) and 0.0 <= share <= 1.0 else None
    if seconds is None and done is None:
        return problem
    rest = remaining(seconds, done)
    words = [f"{done:.0%}".replace("%", " %")] if done is not None else []
    if rest is not None:
        words.append(f"about {_span(rest)} more")
    elif seconds is not None and seconds >= LEAST_TIME:
        words.append(f"for {_span(seconds)} so far")
    known = {"seconds": seconds, "rest": rest}
    fields = problem.fields | {name: value for name, value in known.items() if value is not None}
    message = f"{problem.message.removesuffix('.')} ({', '.join(words)})." if words else problem.message
    return msgspec.structs.replace(problem, message=message, fields=fields)


def remaining(seconds: float | None, share: float | None) -> float | None:
    """Estimate the seconds that are left from those that passed and the share that is done by now.

    As if the rest went as fast as what is done. ``None`` where it is too early to say.
    """
    if seconds is None or share is None or seconds < LEAST_TIME or not LEAST_SHARE <= share <= 1.0:
        return None
    return seconds * (1.0 - share) / share


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
