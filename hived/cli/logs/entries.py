"""A line of a log: the daemon's JSON, the journal's, or whatever a server wrote; and how it is shown. Pure.

A log is written by others. Nothing of it reaches a terminal that the terminal would obey.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from hived.cli.rendering import coloured
from hived.cli.running import shown

MOST_CHARACTERS = 8192
"""Characters of a line that are shown."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
"""What a terminal would obey: colours, titles, links. Taken out whole, so that no half of one is left."""

_PRIORITIES = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
"""The journal's numbers (syslog(3)) in the words of the daemon."""

_STATES = {"error": "failed", "critical": "failed", "warning": "loading"}
"""Level → the state in whose colour it is shown."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line; as it is in ``hived logs --json``."""

    at: float | None = None
    """Seconds since the epoch."""
    level: str = ""
    event: str = ""
    """What happened, of the daemon's own lines (``server.ended``)."""
    text: str = ""
    """Everything else: the fields of an event, or the whole line where it is none of ours."""


def of_daemon(line: str) -> Entry:
    """Read a line of the daemon's log file; one that is no JSON (a trace of the interpreter) as it is."""
    said = _object(line)
    if said is None or not isinstance(said.get("event"), str):
        return Entry(text=line)
    taken = ("event", "level", "timestamp")
    fields = [_field(name, value) for name, value in said.items() if name not in taken and value is not None]
    return Entry(
        at=_seconds(said.get("timestamp")),
        level=str(said.get("level", "")),
        event=str(said["event"]),
        text=" ".join(fields),
    )


def of_journal(line: str) -> Entry:
    """Read a line of ``journalctl -o json``; a text that is no UTF-8 comes as a list of bytes."""
    said = _object(line)
    if said is None:
        return Entry(text=line)
    message = said.get("MESSAGE")
    if isinstance(message, list):
        message = bytes(each for each in message if isinstance(each, int) and 0 <= each < 256).decode(
            "utf-8", "replace"
        )
    text = message if isinstance(message, str) else ""
    stamp, priority = str(said.get("__REALTIME_TIMESTAMP", "")), str(said.get("PRIORITY", ""))
    event, _, fields = text.partition(" ")
    is_ours = re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", event) is not None
    return Entry(
        at=int(stamp) / 1e6 if stamp.isdecimal() else None,
        level=_PRIORITIES[int(priority)] if priority in tuple("01234567") else "",
        event=event if is_ours else "",
        text=fields if is_ours else text,
    )


def of_server(line: str) -> Entry:
    """Take a line of a server's log: hived knows no more of it."""
    return Entry(text=line)


def safe(entry: Entry, masked: Callable[[str], str]) -> Entry:
    """Return an entry without secrets and without anything that a terminal would obey."""
    return msgspec.structs.replace(
        entry, level=shown(entry.level), event=shown(entry.event)[:100], text=masked(harmless(entry.text))
    )


def harmless(text: str) -> str:
    """Return lines that can be printed: of what was written over itself (a bar of progress) the last."""
    lines = _ESCAPES.sub("", text).split("\n")
    return "\n".join(shown(_last(line).expandtabs()[:MOST_CHARACTERS]) for line in lines)


def lines_of(entry: Entry) -> Iterable[str]:
    """Yield the lines in which an entry is shown; those that go on are set in."""
    first, *rest = entry.text.split("\n")
    if not entry.event:
        clock = f"{_clock(entry.at)}  " if entry.at is not None else ""
        yield f"{clock}{first}"
    else:
        level = coloured(f"{entry.level:8}", _STATES.get(entry.level, "unloaded"))
        yield f"{_clock(entry.at)}  {level} {entry.event}  {first}".rstrip()
    yield from (f"    {line}" for line in rest)


def _last(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def _clock(at: float | None) -> str:
    return " " * 19 if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _field(name: str, value: object) -> str:
    if name == "exception":
        return f"\n{value}"
    if isinstance(value, str):
        return f"{name}={value}" if value and not re.search(r"[\s\"=]", value) else f"{name}={value!r}"
    return f"{name}={json.dumps(value)}"


def _object(line: str) -> dict[str, object] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _seconds(stamp: object) -> float | None:
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
