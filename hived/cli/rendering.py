"""The words and colours in which every verb speaks: spans of time, sizes, answers, readable JSON."""

from __future__ import annotations

import os
import sys
from itertools import pairwise

import msgspec

from hived.cli.running import shown, shown_json
from hived_client.resolution import Target

_GOOD, _MOVING, _FAINT, _BAD = "32", "35", "2", "31"
"""Colours that can be read on a dark and on a light ground: yellow and cyan cannot on white."""

_COLOURS = {
    "ready": _GOOD,
    "busy": _GOOD,
    "loaded": _GOOD,
    "fresh": _GOOD,
    "starting": _MOVING,
    "loading": _MOVING,
    "downloading": _MOVING,
    "unknown": _MOVING,
    "lagging": _MOVING,
    "sleeping": _FAINT,
    "unloaded": _FAINT,
}


def is_colourful() -> bool:
    """Tell whether stdout is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(word: str, state: str | None = None) -> str:
    """Return a word in the colour of a state, where colour is wanted."""
    if not is_colourful():
        return word
    return f"\x1b[{_COLOURS.get(state or word, _BAD)}m{word}\x1b[0m"


def as_json(value: object) -> str:
    """Return structs as readable JSON."""
    return shown_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def target_lines(asked: str, target: Target) -> list[str]:
    """Return an answer as text."""
    target = target.shown()
    facts = [target.state, where(target.locality), ago(target.age)]
    rows = [
        f"{shown(asked)} can be called",
        f"  model      {shown(target.model)}",
        f"  api_base   {shown(target.api_base)}",
        f"  api_key    {shown(target.api_key or 'none needed')}"
        + (f" (from {shown(target.key_ref)})" if target.key_ref else ""),
        f"  context    {f'{target.context:,} tokens' if target.context is not None else 'unknown'}",
        f"  endpoint   {shown(target.endpoint)} ({', '.join(fact for fact in facts if fact)})",
    ]
    rows += [f"  {shown(name):10} {value}" for name, value in target.extra.items()]
    for warning in target.warnings:
        rows.append(f"  warning    {shown(warning.message)}")
        if warning.hint:
            rows.append(f"             → {shown(warning.hint)}")
    return rows


def duration(seconds: float) -> str:
    """Return a span of time in the two units that matter."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (lower, lower_size) in pairwise(units):
        if seconds >= size:
            rest = int(seconds % size) // lower_size
            return f"{int(seconds) // size} {name}" + (f" {rest} {lower}" if rest else "")
    return f"{seconds:.0f} s"


def size(number: int) -> str:
    """Return bytes in the unit that files are shown in."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit in ("B", "kB") or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def where(locality: str | None) -> str:
    """Return where something runs, in words."""
    names = {"device": "this device", "lan": "this network", "internet": "the internet"}
    return names.get(locality or "", "place unknown")


def ago(age: float | None) -> str:
    """Say when something was last seen."""
    return "never seen" if age is None else f"seen {duration(age)} ago"
