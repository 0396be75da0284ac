"""The World on one screen: the daemon, each server with what it has loaded, and last what is wrong.

Plain lines, for a terminal of any width and for a pipe (width 0: nothing is cut). Colour only repeats what
the words say. What may be out of date says so in words, above everything that it is about.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterable, Mapping

import msgspec

from hived.cli.columns import columns, cut, padded, widest
from hived.cli.model_lines import group, model_lines, widths_of, with_models
from hived.cli.rendering import coloured, duration, where
from hived.cli.running import shown
from hived.decisions.machine_line import summary as hardware_summary
from hived.decisions.servers_word import known_hardware
from hived_client.doors.beat import Seen
from hived_client.doors.files import Known
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import kind_named
from hived_client.vocabulary.requests import Requests
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, World

_PLAIN_ABSENCE = frozenset(
    {"server.down", "server.not_installed", "server.maybe_on_host", "server.not_seen_yet"}
)
"""Reasons for which it is enough to say that a server which nobody asked for was not found."""

_RUNS = ("fresh", "lagging", "stale")
"""Verdicts with which there is a daemon."""


class Screen(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown, in the two parts that share a screen which is too small for both."""

    body: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """Return all of it."""
        return [*self.body, *(["", *self.problems] if self.problems else ())]


def status_lines(known: Known, width: int, *, everything: bool = False) -> list[str]:
    """Return the World on one screen; ``everything``: with each model that is not loaded."""
    return screen(known, width, everything=everything).lines


def screen(
    known: Known,
    width: int,
    *,
    requests: Mapping[str, Requests] | None = None,
    everything: bool = False,
) -> Screen:
    """Return the World on a screen of so many columns; 0: no limit.

    ``requests``: what servers said just now that they work on, by the names of endpoints.
    """
    world = known.world
    body = [_headline(known, width)]
    if known.problem is not None:
        body.append(f"snapshot   {shown(known.problem.message)}")
        body += [f"{'':10} → {shown(known.problem.hint)}"] if known.problem.hint else []
    if world.configuration is not None:
        body.append(
            cut(f"{'config':10} {_home(world.configuration.path)}  {world.configuration.state}", width)
        )
    hardware = hardware_line(world)
    if hardware is not None:
        body.append(cut(f"{'hardware':10} {shown(hardware)}", width))
    body += _out_of_date(known)
    body.append("")
    body += _servers(known, width, requests or {}, everything=everything)
    if not world.endpoints and known.verdict not in _RUNS:
        body.append("nothing is known yet; hived looks for servers once it runs")
    rows = [row for problem in (*known.notes, *world.problems) for row in _problem_lines(problem, width)]
    if body[-1] == "":
        body.pop()
    return Screen(body=tuple(body), problems=(coloured("problems", "failed"), *rows) if rows else ())


def hardware_line(world: World) -> str | None:
    """Return what this machine is, in one line; ``None`` where the World does not know."""
    hardware = known_hardware(world)
    return hardware_summary(hardware) if hardware is not None else None


def _servers(
    known: Known, width: int, requests: Mapping[str, Requests], *, everything: bool
) -> Iterable[str]:
    world = known.world
    listed = [endpoint for endpoint in world.endpoints if not _is_absent_guess(endpoint)]
    name_width = max(10, widest(shown(endpoint.name) for endpoint in listed))
    state_width = max(8, widest(_state(known, endpoint) for endpoint in listed))
    url_width = widest(_address(endpoint.url) for endpoint in listed)
    groups = {
        endpoint.name: group(
            endpoint.models or (), up=endpoint.state not in ("down", "unknown"), everything=everything
        )
        for endpoint in listed
    }
    widths = widths_of(groups.values(), width)
    for endpoint in listed:
        facts = _facts(known, endpoint, requests.get(endpoint.name))
        begin = f"{padded(shown(endpoint.name), name_width)} {padded(_state(known, endpoint), state_width)}"
        line = _as_many(begin, [padded(_address(endpoint.url), url_width), *facts], width).rstrip()
        yield _coloured(line, name_width + 1, endpoint.state, gone=known.verdict not in _RUNS)
        if endpoint.reason is not None and endpoint.source in GUESSED:
            yield cut(f"{'':{name_width}} {shown(endpoint.reason.message)}", width)
        yield from model_lines(groups[endpoint.name], widths, width, gone=known.verdict not in _RUNS)
    yield from _not_found(world, name_width, width, everything=everything)


def _headline(known: Known, width: int) -> str:
    daemon = known.world.daemon
    if known.verdict not in _RUNS or daemon is None:
        last = f"; last known generation {known.world.generation}" if known.world.generation else ""
        word = "running, but its snapshot cannot be read" if known.verdict in _RUNS else "not running"
        return f"{'hived':10} {coloured(word, 'down')}{last}"
    lasting = _whole(time.time() - daemon.started_at)
    word = {"fresh": "running", "lagging": "busy", "stale": "unresponsive"}[known.verdict]
    facts = [f"version {shown(daemon.version)}", f"pid {daemon.pid}", f"generation {known.world.generation}"]
    line = _as_many(f"{'hived':10} {word} {lasting}", facts, width)
    return line.replace(word, coloured(word, known.verdict), 1)


def _out_of_date(known: Known) -> Iterable[str]:
    """Say above the servers that what is said of them may not hold any more."""
    if known.verdict == "fresh" or not known.world.endpoints:
        return
    age = "" if known.age is None else f", {_whole(known.age)} ago"
    word = {
        "lagging": f"hived is late: the following is what it said last{age}",
        "stale": f"hived does not answer: the following is what it said last{age}",
    }.get(
        known.verdict, "hived does not run: the following was so when it last ran, and may be otherwise now"
    )
    yield coloured(f"{'!':10} {word}", known.verdict)


def _state(known: Known, endpoint: Endpoint) -> str:
    """Return the state of an endpoint; without a daemon nobody knows it, only what it was."""
    return (
        endpoint.state if known.verdict in _RUNS or endpoint.state == "unknown" else f"was {endpoint.state}"
    )


def _coloured(line: str, at: int, state: str, *, gone: bool) -> str:
    word = f"was {state}" if gone and state != "unknown" else state
    return line[:at] + line[at:].replace(word, coloured(word, "unknown" if gone else state), 1)


def _facts(known: Known, endpoint: Endpoint, requests: Requests | None) -> Iterable[str]:
    """Yield what is told of a server beside its state and address, the most telling first."""
    seen = known.seen.get(endpoint.name)
    if requests is not None:
        yield _requests(requests)
    if endpoint.state in ("starting", "loading") and endpoint.since is not None:
        yield f"for {_whole(time.time() - endpoint.since)}"
        stage = endpoint.reason.fields.get("stage") if endpoint.reason is not None else None
        if isinstance(stage, str) and stage:
            yield shown(stage.removeprefix(": "))
    if seen is not None and seen.at is not None:
        yield _seen(seen)
    if endpoint.locality != "device":
        yield where(endpoint.locality)
    if endpoint.version is not None:
        yield shown(endpoint.version)
    if endpoint.aliases:
        yield f"also called {shown(', '.join(endpoint.aliases))}"
    if endpoint.source in ("configuration", "environment"):
        yield f"from {shown(endpoint.origin)}"
    elif endpoint.source == "started":
        yield "started by hived"
    if seen is not None and seen.latency and endpoint.state in CALLABLE:
        yield f"answers in {duration(seen.latency)}"


def _requests(requests: Requests) -> str:
    if requests.running is None:
        return f"{requests.waiting} waiting"
    waiting = f", {requests.waiting} waiting" if requests.waiting else ""
    return f"{requests.running} running{waiting}"


def _seen(seen: Seen) -> str:
    """Say when a server was last seen, and more loudly where that is longer ago than it should be."""
    age = time.time() - (seen.at or 0.0)
    return f"not seen for {_whole(age)}" if age > 2 * seen.cadence + 2.0 else f"seen {_whole(age)} ago"


def _whole(age: float) -> str:
    """Return an age in whole seconds: more would flicker, and say no more."""
    return duration(float(round(age))) if age >= 9.5 else f"{max(0, round(age))} s"


def _not_found(world: World, column: int, width: int, *, everything: bool) -> Iterable[str]:
    """Return a line for each provider that nobody asked for and that is not there, with what is on disk.

    Of one that is somewhere else, it is no news that it is not at its default port too.
    """
    by_provider: dict[tuple[str, bool], list[Endpoint]] = {}
    elsewhere = {each.provider for each in world.endpoints if not _is_absent_guess(each)}
    for endpoint in world.endpoints:
        if _is_absent_guess(endpoint):
            seen = endpoint.state != "unknown"
            by_provider.setdefault((endpoint.provider, seen), []).append(endpoint)
    for (provider, seen), absent in by_provider.items():
        kind = kind_named(provider, world.kinds)
        title = shown(kind.title if kind else provider)
        places = ", ".join(_address(endpoint.url) for endpoint in absent)
        word = "was not found" if seen else "has not been looked for yet"
        line = f"{padded(shown(provider), column)} {title} {word} at {places}"
        why = next((e.reason for e in absent if e.reason and e.reason.code not in _PLAIN_ABSENCE), None)
        if why is not None:
            line = f"{padded(shown(provider), column)} {shown(why.message).removesuffix('.')}"
        models = [model for endpoint in absent for model in endpoint.models or ()]
        if provider in elsewhere and why is None and not models and not everything:
            continue
        yield with_models(line + ";", models, "on disk", width) if models else cut(line, width)


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


def _address(url: str) -> str:
    return shown(url.removeprefix("http://"))


def _home(path: str) -> str:
    home = os.path.expanduser("~")
    return shown(f"~{path[len(home) :]}" if path.startswith(f"{home}/") else path)


def _as_many(begin: str, facts: Iterable[str], width: int) -> str:
    """Return a line with as many facts as fit; the first come first, and no fact is cut in the middle."""
    line = begin
    for fact in facts:
        if width > 0 and columns(line) + 2 + columns(fact) > width:
            continue
        line += f"  {fact}"
    return cut(line, width)
