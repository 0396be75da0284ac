"""What becomes of a server that hived started and that ended by itself. Pure.

It is started again, later each time, and not for ever: one that cannot live would only fill its log and
warm the room. What ended because somebody wanted it to stays ended: after ``hived stop``, and where the
server went in good order (exit status 0) or on a signal that asks for that (SIGTERM, SIGINT, SIGHUP), which
is how a person or a logout ends it. One that broke may tidy up and leave with status 0 too; its log tells the
two apart. SIGKILL asks for nothing: it is also how the kernel ends what takes too much memory. Of a
server that ended while nobody could see how, an accident is assumed.
"""

from __future__ import annotations

import msgspec

FIRST = 1.0
"""Seconds before the first start again; each further one waits twice as long."""

LONGEST = 60.0
"""Seconds before a start again, at most."""

MOST = 5
"""Starts again, one after another, before hived gives up."""

STEADY = 60.0
"""Seconds for which a server must have answered for the count to begin anew."""

_ASKED = frozenset({0, -15, -2, -1, 128 + 15, 128 + 2, 128 + 1})
"""Exit statuses of a server that was asked to end: negative is a signal, 128 + n a shell's word for one."""


class Again(msgspec.Struct, frozen=True):
    """Start it again after ``delay`` seconds; this is start number ``count`` in a row."""

    delay: float
    count: int


class GaveUp(msgspec.Struct, frozen=True):
    """It was started ``count`` times in a row, which is enough."""

    count: int


class Stays(msgspec.Struct, frozen=True):
    """It stays ended, as it was meant to."""


After = Again | GaveUp | Stays


def after_end(*, keep: bool, code: int | None, broke: bool, count: int, healthy: float) -> After:
    """Say what becomes of a server that ended.

    ``keep``: whether it is to be kept running at all. ``code``: its exit status as Python has it (negative:
    the signal), ``None`` where nobody saw it. ``broke``: whether its log says that it broke, which tells what
    the status 0 means. ``count``: starts again in a row before this one. ``healthy``: seconds for which it
    had answered.
    """
    if not keep or (code in _ASKED and not (broke and code == 0)):
        return Stays()
    count = 0 if healthy >= STEADY else count
    if count >= MOST:
        return GaveUp(count)
    return Again(min(LONGEST, FIRST * 2.0**count), count + 1)
