"""The last errors that the daemon wrote into its log, wherever that is."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from hived.cli.doctor.findings import Finding, note, ok, warn
from hived.cli.logs.entries import Entry, harmless, of_daemon, of_journal
from hived.cli.logs.reading import journal_words, last_lines, why_not
from hived.cli.logs.sources import Journal, Source
from hived.cli.rendering import duration
from hived.machine.commands import run_bounded

RECENT = 24 * 3600.0
"""Seconds for which an error is worth a line."""
LINES = 2000
"""Lines of a file that are searched."""
PATIENCE = 2.0
"""Seconds that the journal may take."""


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says."""

    source: str
    """The file, or the journal."""
    why: str = ""
    """Why it cannot be read."""
    mend: str = ""
    """What helps."""
    errors: tuple[Entry, ...] = ()
    now: float = 0.0


def read_errors(source: Source) -> LogFacts:
    """Read the last errors. Blocks, and is bounded."""
    if isinstance(source, Journal):
        where = f"the journal of {source.unit}"
        words = [*journal_words(source, 20), "--priority=err", "--since=-24h"]
        done = run_bounded(words, seconds=PATIENCE)
        if done is None or done.code != 0:
            why, mend = why_not(done.err) if done is not None else ("journalctl cannot be run", "")
            late = f"it took longer than {PATIENCE:g} s"
            return LogFacts(source=where, why=late if done is not None and done.is_late else why, mend=mend)
        found: Iterable[Entry] = map(of_journal, done.out.splitlines())
        return LogFacts(source=where, errors=tuple(found), now=time.time())
    try:
        found = map(of_daemon, last_lines(source.path, LINES)[0])
    except OSError as error:
        return LogFacts(source=source.path, why=error.strerror or str(error))
    bad = tuple(entry for entry in found if entry.level in ("error", "critical"))
    return LogFacts(source=source.path, errors=bad, now=time.time())


def check_errors(facts: LogFacts) -> list[Finding]:
    """Judge them: only those of the last day count. Pure."""
    if facts.why:
        said = f"the log cannot be read from {facts.source}: {facts.why}"
        return [note("hived.log", said, facts.mend or "hived logs")]
    recent = [each for each in facts.errors if each.at is None or facts.now - each.at < RECENT]
    if not recent:
        return [ok("hived.log", f"no error in {facts.source} in the last day")]
    last = recent[-1]
    when = f", {duration(max(0.0, facts.now - last.at))} ago" if last.at is not None else ""
    many = "an error" if len(recent) == 1 else f"{len(recent)} errors, the last"
    said = f"{last.event}  {_why(last)}".strip()
    return [warn("hived.log", f"{many} in {facts.source}{when}: {said}", "hived logs")]


def _why(entry: Entry) -> str:
    """Return what tells most of an error: the last line of a trace is the error itself."""
    lines = [line.strip() for line in harmless(entry.text).splitlines() if line.strip()]
    first, last = (lines[0], lines[-1]) if lines else ("", "")
    first = last if first.startswith("Traceback") else first
    return (first if first == last else f"{first} … {last}")[:300]
