"""A server that is to run whenever hived does, as the configuration has it."""

from __future__ import annotations

import msgspec


class Autostart(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``providers`` with ``autostart``. ``context`` is tokens, ``arguments`` are passed on."""

    name: str
    provider: str
    is_kind: bool = False
    """Whether the entry has no address of its own, so that its kind is started wherever that goes."""
    model: str | None = None
    context: int | None = None
    arguments: tuple[str, ...] = ()
