"""What people and programs are shown: plain text that fits a terminal and a pipe, and stable JSON."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from hived.cli.running import shown, shown_json
from hived_client.doors.files import Known
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.lasting import remaining
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Model, World

_COLOURS = {
    "ready": "32",
    "busy": "32",
    "sleeping": "36",
    "starting": "33",
    "loading": "33",
    "unknown": "33",
    "lagging": "33",
    "fresh": "32",
}
_BAD = "31"

_PLAIN_ABSENCE = frozenset(
    {"server.down", "server.not_installed", "server.maybe_on_host", "server.not_seen_yet"}
)
"""Reasons for which it is enough to say that a server which nobody asked for was not found."""

FEW = 3
"""Models of a server that is down that have a line each; more of them share one."""
NAMED = 5
"""Names on that line at most."""


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


def world_document(known: Known) -> dict[str, object]:
    """Return the World as the contract of ``hived status --json`` has it; unknown is null."""
    world = known.world
    problem = [*([known.problem] if known.problem is not None else []), *known.notes]
    return {
        "generation": world.generation,
        "verdict": known.verdict,
        "age": known.age,
        "daemon": _fields(world.daemon),
        "configuration": _fields(world.configuration),
        "hardware": world.hardware,
        "endpoints": [_endpoint(known, endpoint) for endpoint in world.endpoints],
        "models": [
            _model(known, endpoint, model) for endpoint in world.endpoints for model in endpoint.models or ()
        ],
        "problems": [*problem, *world.problems],
    }


def status_lines(known: Known, width: int) -> list[str]:
    """Return the World on one screen."""
    rows = [_headline(known)]
    if known.problem is not None:
        rows.append(f"snapshot   {shown(known.problem.message)}")
        rows += [f"{'':10} → {shown(known.problem.hint)}"] if known.problem.hint else []
    world = known.world
    if world.configuration is not None:
        rows.append(f"{'config':10} {_home(world.configuration.path)}  {world.configuration.state}")
    listed = [endpoint for endpoint in world.endpoints if not _is_absent_guess(endpoint)]
    name_width = max([10, *(len(endpoint.name) for endpoint in listed)])
    for endpoint in listed:
        rows += _endpoint_lines(known, endpoint, name_width, width)
    rows += _not_found(world, name_width, width)
    if not world.endpoints and known.verdict not in ("fresh", "lagging", "stale"):
        rows.append("nothing is known yet; hived looks for servers once it runs")
    problems = (*known.notes, *world.problems)
    if problems:
        rows.append("")
        rows.append("problems")
        for problem in problems:
            rows += _problem_lines(problem, width)
    return rows


def target_lines(asked: str, target: Target) -> list[str]:
    """Return an answer as text."""
    target = target.shown()
    facts = [target.state, _where(target.locality), _ago(target.age)]
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


def _headline(known: Known) -> str:
    daemon = known.world.daemon
    if known.verdict in ("absent", "foreign", "stopped") or daemon is None:
        last = f"; last known generation {known.world.generation}" if known.world.generation else ""
        word = "running, but its snapshot cannot be read" if _runs(known) else "not running"
        return f"{'hived':10} {coloured(word, 'down')}{last}"
    lasting = duration(max(0.0, time.time() - daemon.started_at))
    word = {"fresh": "running", "lagging": "busy", "stale": "unresponsive"}[known.verdict]
    age = (
        "" if known.age is None or known.verdict == "fresh" else f", last heard of {duration(known.age)} ago"
    )
    return (
        f"{'hived':10} {coloured(word, known.verdict)} {lasting}  version {daemon.version}  pid {daemon.pid}"
        f"  generation {known.world.generation}{age}"
    )


def _runs(known: Known) -> bool:
    return known.verdict in ("fresh", "lagging", "stale")


def _endpoint_lines(known: Known, endpoint: Endpoint, column: int, width: int) -> Iterable[str]:
    seen = known.seen.get(endpoint.name)
    facts = [_address(endpoint.url)]
    if endpoint.aliases:
        facts.append(f"also called {shown(', '.join(endpoint.aliases))}")
    if endpoint.locality != "device":
        facts.append(_where(endpoint.locality))
    if endpoint.source in ("configuration", "environment"):
        facts.append(f"from {shown(endpoint.origin)}")
    elif endpoint.source == "started":
        facts.append("started by hived")
    if endpoint.state in ("starting", "loading") and endpoint.since is not None:
        facts.append(f"for {duration(max(0.0, time.time() - endpoint.since))}")
    if seen is not None and seen.at is not None:
        facts.append(_ago(max(0.0, time.time() - seen.at)))
    if endpoint.version is not None:
        facts.append(shown(endpoint.version))
    if seen is not None and seen.latency and endpoint.state in CALLABLE:
        facts.append(f"answers in {duration(seen.latency)}")
    begin = f"{shown(endpoint.name):{column}} {endpoint.state:11}"
    line = _as_many(begin, facts, width)
    name, rest = line[: column + 1], line[column + 1 :]
    yield name + rest.replace(endpoint.state, coloured(endpoint.state), 1)
    if endpoint.reason is not None and endpoint.source in GUESSED:
        yield _cut(f"{'':{column}} {shown(endpoint.reason.message)}", width)
    models = endpoint.models or ()
    if endpoint.state == "down" and len(models) > FEW:
        yield _with_models(f"{'':{column}}", models, "known", width)
        return
    for model in models[:20]:
        yield _model_line(model, column, width)
    more = len(models) - 20
    if more > 0:
        yield f"{'':{column}} … and {more} more (hived status --json lists all)"


def _model_line(model: Model, column: int, width: int) -> str:
    facts = [
        model.state or "",
        f"{model.progress:.0%}" if model.progress is not None else "",
        _rest(model),
        f"{model.loaded_context:,} tokens" if model.loaded_context is not None else "",
        f"of {model.context:,}" if model.context not in (None, model.loaded_context) else "",
        " ".join(c for c in model.capabilities or () if c != "completion"),
        model.quantization or "",
        size(model.size) if model.size is not None else "",
        "place unknown" if model.unplaced is not None else "",
    ]
    return _as_many(f"{'':{column}} {shown(model.name)}", [shown(fact) for fact in facts if fact], width)


def _rest(model: Model) -> str:
    """Say about how long a download or a load will go on."""
    rest = remaining(None if model.since is None else time.time() - model.since, model.progress)
    return "" if rest is None else f"about {duration(rest)} more"


def _not_found(world: World, column: int, width: int) -> Iterable[str]:
    """Return a line for each provider that nobody asked for and that is not there, with what is on disk."""
    by_provider: dict[tuple[str, bool], list[Endpoint]] = {}
    for endpoint in world.endpoints:
        if _is_absent_guess(endpoint):
            seen = endpoint.state != "unknown"
            by_provider.setdefault((endpoint.provider, seen), []).append(endpoint)
    for (provider, seen), absent in by_provider.items():
        kind = kind_named(provider, world.kinds)
        title = shown(kind.title if kind else provider)
        places = ", ".join(_address(endpoint.url) for endpoint in absent)
        word = "was not found" if seen else "has not been looked for yet"
        line = f"{shown(provider):{column}} {title} {word} at {places}"
        why = next((e.reason for e in absent if e.reason and e.reason.code not in _PLAIN_ABSENCE), None)
        if why is not None:
            line = f"{provider:{column}} {shown(why.message).removesuffix('.')}"
        models = [model for endpoint in absent for model in endpoint.models or ()]
        yield _with_models(line + ";", models, "on disk", width) if models else line


def _with_models(line: str, models: Sequence[Model], where: str, width: int) -> str:
    """Return a line with how many models there are, how big they are, and as many of their names as fit."""
    sizes = [model.size for model in models if model.size is not None]
    whole = f" ({size(sum(sizes))})" if len(sizes) == len(models) else ""
    many = "1 model" if len(models) == 1 else f"{len(models)} models"
    line += f" {many} {where}{whole}"
    names: list[str] = []
    for model in models[:NAMED]:
        longer = [*names, shown(model.name)]
        if width > 0 and len(_listed(line, longer, len(models))) > width:
            break
        names = longer
    return _cut(_listed(line, names, len(models)), width)


def _listed(line: str, names: Sequence[str], of: int) -> str:
    rest = ["…"] if len(names) < of else []
    return f"{line}: {', '.join([*names, *rest])}" if names else line


def _problem_lines(problem: Fault, width: int) -> list[str]:
    """Return a sentence broken between words, and its command whole: it is there to be copied."""
    words = shown(problem.message)
    rows = [f"  {words}"]
    if width > 20:
        rows = textwrap.wrap(
            words, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False
        )
    return [*rows, f"    → {shown(problem.hint)}"] if problem.hint else rows


def _is_absent_guess(endpoint: Endpoint) -> bool:
    answered = endpoint.version is not None or endpoint.state not in ("down", "unknown")
    return endpoint.source in GUESSED and not answered and (endpoint.state == "down" or not endpoint.models)


def _fields(struct: msgspec.Struct | None) -> dict[str, object] | None:
    return None if struct is None else msgspec.structs.asdict(struct)


def _endpoint(known: Known, endpoint: Endpoint) -> dict[str, object]:
    fields = msgspec.structs.asdict(endpoint)
    seen = known.seen.get(endpoint.name)
    for hidden in ("models", "models_at", "slot"):
        del fields[hidden]
    return fields | {
        "observed_at": seen.at if seen else None,
        "latency": seen.latency if seen else None,
        "cadence": seen.cadence if seen else None,
    }


def _model(known: Known, endpoint: Endpoint, model: Model) -> dict[str, object]:
    seen = known.seen.get(endpoint.name)
    fields = msgspec.structs.asdict(model)
    return fields | {
        "provider": endpoint.provider,
        "endpoint": endpoint.name,
        "loaded": None if model.state is None else model.state == "loaded",
        "locality": None if model.unplaced is not None else model.locality or endpoint.locality,
        "observed_at": endpoint.models_at or (seen.at if seen else None),
    }


def _where(locality: str | None) -> str:
    names = {"device": "this device", "lan": "this network", "internet": "the internet"}
    return names.get(locality or "", "place unknown")


def _ago(age: float | None) -> str:
    return "never seen" if age is None else f"seen {duration(age)} ago"


def _address(url: str) -> str:
    return shown(url.removeprefix("http://"))


def _home(path: str) -> str:
    home = os.path.expanduser("~")
    return shown(f"~{path[len(home) :]}" if path.startswith(f"{home}/") else path)


def _as_many(begin: str, facts: Iterable[str], width: int) -> str:
    """Return a line with as many facts as fit; the first come first, and no fact is cut in the middle."""
    line = begin
    for fact in facts:
        if width > 0 and len(line) + 2 + len(fact) > width:
            continue
        line += f"  {fact}"
    return _cut(line, width)


def _cut(line: str, width: int) -> str:
    return line if width <= 0 or len(line) <= width else f"{line[: width - 1]}…"
