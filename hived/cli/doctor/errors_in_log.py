"""The last errors that the daemon wrote into its log, from the file or from the journal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from datetime import datetime

import msgspec

from hived.cli.doctor.findings import Finding, ok, warn
from hived.cli.rendering import duration
from hived.machine.commands import run_bounded
from hived.machine.log_tail import read_tail
from hived_client.doors.paths import Places

RECENT = 24 * 3600.0
"""Seconds for which an error is worth a line."""


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One error."""

    event: str
    why: str = ""
    at: float | None = None
    """Seconds since the epoch."""


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says."""

    source: str
    """The file, or ``the journal``; empty: there is none."""
    errors: tuple[Logged, ...] = ()
    now: float = 0.0


def read_errors(places: Places, *, in_journal: bool, unit: str) -> LogFacts:
    """Read the errors of the last day. Blocks, and is bounded."""
    if in_journal:
        words = (
            "journalctl",
            "--user",
            "-u",
            unit,
            "-p",
            "err",
            "-n",
            "20",
            "--since=-24h",
            "-o",
            "json",
            "--no-pager",
        )
        done = run_bounded(words, seconds=2.0)
        if done is not None and done.code == 0:
            return LogFacts(source="the journal", errors=tuple(errors_in_journal(done.out)), now=time.time())
    path = f"{places.logs}/hived.log"
    if not os.path.exists(path):
        return LogFacts(source="", now=time.time())
    return LogFacts(source=path, errors=tuple(errors_in(read_tail(path))), now=time.time())


def errors_in(text: str) -> Iterable[Logged]:
    """Yield the errors among the daemon's own lines of JSON. Pure."""
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(said, dict) or said.get("level") not in ("error", "critical"):
            continue
        # The last line of a trace is the error itself.
        trace = str(said.get("exception") or "").strip().splitlines()
        why = str(said.get("why") or said.get("error") or (trace[-1] if trace else ""))
        yield Logged(event=str(said.get("event", "?"))[:100], why=why[:200], at=_time(said.get("timestamp")))


def errors_in_journal(text: str) -> Iterable[Logged]:
    """Yield the errors among the journal's lines of JSON. Pure."""
    for line in text.splitlines():
        try:
            said = json.loads(line)
            at = int(said["__REALTIME_TIMESTAMP"]) / 1e6
            event, _, why = str(said["MESSAGE"]).partition("\n")[0].partition(" ")
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        yield Logged(event=event[:100], why=why[:200], at=at)


def check_errors(facts: LogFacts) -> list[Finding]:
    """Judge them: only those of the last day count."""
    if not facts.source:
        return [ok("hived.log", "it has written no log here")]
    recent = [each for each in facts.errors if each.at is None or facts.now - each.at < RECENT]
    if not recent:
        return [ok("hived.log", f"no error in {facts.source} in the last day")]
    last = recent[-1]
    when = f", {duration(max(0.0, facts.now - last.at))} ago" if last.at is not None else ""
    why = f": {last.why}" if last.why else ""
    many = "an error" if len(recent) == 1 else f"{len(recent)} errors, the last"
    return [warn("hived.log", f"{many} in {facts.source}{when}: {last.event}{why}", "hived logs")]


def _time(stamp: object) -> float | None:
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return None
