"""How a question is answered, step by step, with no I/O of its own but looking at the files.

``ask`` is a generator: it yields what it needs done (ask the daemon, connect to a server, start the
daemon) and is sent what came of it. The blocking client and the anyio client perform the same steps,
so that there is one rule of belief:

- the daemon lives and the facts are young: the file's yes is the answer;
- a no, or old facts: the daemon is asked, which looks again before it says no;
- the daemon does not answer in time: the file's answer, with a warning;
- no daemon: the last known facts, or the table of defaults, after one connection of our own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Set
from typing import Any

import msgspec

from hived_client.doors.files import Files, View, accepts
from hived_client.doors.wire import ResolveParams
from hived_client.errors import HivedError, NotReady, Refused, Unavailable
from hived_client.resolution import (
    Answer,
    Question,
    Refusal,
    Target,
    WorldCatalogue,
    alternatives,
    answer,
    bind,
    fault_fields,
    kind_at,
    kind_or_common,
    prefixes,
    refusal_of_state,
    target_for,
)
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import (
    ProviderKind,
    address,
    commands_at,
    kind_named,
    kind_of_prefix,
    root_url,
)
from hived_client.vocabulary.names import find, parse
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint, Model, State, World


class Ask(msgspec.Struct, frozen=True):
    """Send this to the daemon; the result is a ``Resolved``. ``HivedError`` is thrown back in."""

    params: ResolveParams
    timeout: float


class Connect(msgspec.Struct, frozen=True):
    """Open a TCP connection and close it; the result is ``None`` or why it failed."""

    host: str
    port: int
    timeout: float


class Ensure(msgspec.Struct, frozen=True):
    """Start the daemon if it does not run."""

    timeout: float


class Start(msgspec.Struct, frozen=True):
    """Have the daemon start a server of this device, and wait until it answers."""

    endpoint: str
    timeout: float
    model: str
    """The model that it is for, as it was asked for."""


Step = Ask | Connect | Ensure | Start


class Resolved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the daemon answers to ``resolve``."""

    generation: int
    target: Target | None = None
    refusal: Refusal | None = None
    age: float | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a question is to be answered."""

    fresh: bool = False
    """Look at the server again, whatever is known."""
    verify: bool = False
    """Connect to the server once before saying yes."""
    start: bool = False
    """Start the daemon if it does not run, and the model's server if that is on this device."""
    direct: bool = False
    """The caller goes to the server itself, whatever proxy its environment names."""
    timeout: float = 0.25
    """Seconds for the question."""
    patience: float = 120.0
    """Seconds for everything, where something had to be started."""


QUESTION = 0.25
"""Seconds that a question may take where the caller gives no number."""
STARTING = 120.0
"""The same where servers may be started."""
MOMENT = 0.05
"""Seconds that the last step has, where those before it took all the time."""


def bounded(timeout: float) -> float:
    """Return seconds that can be waited: not a NaN, not less than nothing, not for ever."""
    return min(timeout, 86_400.0) if timeout > 0 else 0.001


def options_of(*, fresh: bool, verify: bool, start: bool, direct: bool, timeout: float | None) -> Options:
    """Return the options of a call. Without a number a question waits shortly, and for a start long."""
    return Options(
        fresh=fresh,
        verify=verify,
        start=start,
        direct=direct,
        timeout=QUESTION if timeout is None else bounded(timeout),
        patience=STARTING if timeout is None else bounded(timeout),
    )


class _Asking(msgspec.Struct, frozen=True):
    """A question while it is answered. All its steps together have the time until the deadline."""

    question: Question
    options: Options
    environment: Mapping[str, str]
    clock: Callable[[], float]
    deadline: float

    @property
    def left(self) -> float:
        """Seconds that are left; a moment at least, for an answer that comes just at the end."""
        return max(self.deadline - self.clock(), MOMENT)

    @property
    def timeout(self) -> float:
        """Seconds for the next question to the daemon or connection to a server."""
        return min(self.options.timeout, self.left)


def ask(
    files: Files,
    question: Question,
    options: Options,
    environment: Mapping[str, str],
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Step, Any, Target]:
    """Answer a question. Returns a Target or raises ``NotReady`` or ``Unavailable``.

    All steps together are given ``options.timeout`` (with ``start``, ``options.patience``) by the clock; one
    that comes when nothing is left of it still has a moment.
    """
    view = files.look()
    seconds = options.patience if options.start else options.timeout
    asking = _Asking(question, options, environment, clock, clock() + seconds)
    if options.start and not view.running:
        yield Ensure(asking.left)
        view = files.look()
    if view.running:
        found, age, notes = yield from _from_daemon(files, view, asking)
    else:
        found, age, notes = yield from _from_memory(view, asking)
    if isinstance(found, Refusal) and _is_open_to(found.fault, environment):
        found, age, notes = yield from _from_memory(view, asking, opened=found.endpoint)
    if options.start and isinstance(found, Refusal) and (name := _startable(files.look(), found)):
        try:
            wanted = parse(question.model, (), view.snapshot.kinds if view.snapshot is not None else ())
            yield Start(name, asking.left, wanted.model if wanted is not None else question.model)
        except Refused as error:
            raise NotReady(error.fault, found.alternatives) from error
        view = files.look()
        found, age, notes = yield from _from_daemon(files, view, _with_patience(asking))
    if isinstance(found, Refusal):
        raise NotReady(_timed(found.fault), found.alternatives)
    if options.verify:
        kinds = view.snapshot.kinds if view.snapshot is not None else ()
        yield from _verify(found, asking, kind_or_common(found.provider, kinds))
    target = bind(found, environment)
    is_theirs = options.direct or target.locality == "internet"
    taken = None if is_theirs else _hijacked(target.api_base, environment)
    if taken is not None and question.private is not False:
        raise NotReady(taken)  # whoever runs the proxy would read it
    notes = notes if taken is None else (*notes, taken)
    return msgspec.structs.replace(
        target,
        age=age,
        warnings=(*target.warnings, *notes),
        # An answer is kept and given again: what one caller does with its own must not reach the next.
        extra=dict(target.extra),
        facts=dict(target.facts),
    )


def _with_patience(asking: _Asking) -> _Asking:
    """Take all the time that is left for one question: its server was started for it."""
    options = msgspec.structs.replace(asking.options, timeout=asking.options.patience)
    return msgspec.structs.replace(asking, options=options)


def _startable(view: View, refusal: Refusal) -> str | None:
    """Name the endpoint that a no is about, where the daemon could be asked to start its server.

    Only what does not answer yet, on this device: what is being started is waited for. Whether it is
    installed, whose it is and what it needs is the daemon's to say: it looks again before it starts anything.
    """
    endpoint = _known_endpoint(view, refusal.endpoint) if view.running else None
    if endpoint is None or endpoint.locality != "device":
        return None
    return endpoint.name if endpoint.state in ("down", "starting", "loading") else None


def _timed(problem: Fault) -> Fault:
    """Say how long what passes by itself has lasted, and about how long it will."""
    if "since" not in problem.fields and "progress" not in problem.fields:
        return problem
    from hived_client.vocabulary.lasting import lasting

    return lasting(problem, time.time())


_Found = tuple[Answer, float | None, tuple[Fault, ...]]


def _from_daemon(files: Files, view: View, asking: _Asking) -> Generator[Step, Any, _Found]:
    question, options = asking.question, asking.options
    from_file = view.snapshot.answer(question) if view.snapshot is not None else None
    if isinstance(from_file, Target) and not options.fresh:
        seen = view.seen(from_file.endpoint)
        if seen.is_young(view.now):
            return from_file, seen.age(view.now), ()
    try:
        seconds = asking.timeout
        resolved: Resolved = yield Ask(
            ResolveParams(question=question, fresh=options.fresh, timeout=seconds), seconds
        )
    except (Unavailable, Refused) as error:
        return (yield from _unanswered(files, view, asking, from_file, error))
    found = resolved.target or resolved.refusal
    if found is None:
        raise Unavailable(fault("protocol.broken", why="an answer is neither yes nor no"))
    if isinstance(found, Refusal) and found.fault.code in _UNWATCHED:
        return (yield from _from_memory(view, asking))
    return found, resolved.age, ()


def _unanswered(
    files: Files, view: View, asking: _Asking, from_file: Answer | None, error: HivedError
) -> Generator[Step, Any, _Found]:
    """There seemed to be a daemon, and it did not answer: say what can be said without it, or raise."""
    broke = error.code == "protocol.broken"
    if error.code == "daemon.not_running" or (broke and not accepts(view.places.socket)):
        # It ended after its last beat, or while it was asked: the same as no daemon.
        if asking.options.start:
            yield Ensure(asking.left)
            options = msgspec.structs.replace(asking.options, start=False)
            again = msgspec.structs.replace(asking, options=options)
            return (yield from _from_daemon(files, files.look(), again))
        gone = msgspec.structs.replace(view, verdict="absent")
        return (yield from _from_memory(gone, asking))
    if error.code in ("params.invalid", "question.invalid"):
        raise error
    if broke and not isinstance(from_file, Target):
        # It ended while it was asked, and another is there already, which has not looked yet.
        found, age, notes = yield from _from_memory(view, asking)
        return found, age, (*notes, fault("daemon.unresponsive", why=error.message))
    if from_file is None:
        raise Unavailable(error.fault) from error
    if isinstance(from_file, Refusal):
        yield from _confirm(view, from_file, asking, error)
        return from_file, None, ()
    if asking.question.private is not False and not view.is_young(from_file.endpoint):
        return _unwatched(from_file, "hived does not answer", "hived doctor"), None, ()
    return _despite(view, from_file, error)


def _confirm(view: View, found: Refusal, asking: _Asking, error: HivedError) -> Generator[Step, Any, None]:
    """The daemon is there and did not answer: let a no of the file pass if it still holds, else raise.

    Unlike a yes, a no carries no warning. What was down is knocked at. Anything else is believed while it is
    young; where a new look was wanted only if that takes long, as looking at what does not answer does.
    """
    endpoint = _known_endpoint(view, found.endpoint)
    if endpoint is None:
        return
    if endpoint.state == "down":
        host, port = address(endpoint.url)
        why = yield Connect(host, port, asking.timeout)
        holds = why is not None
    else:
        hangs = endpoint.state in ("unreachable", "starting", "loading")
        holds = view.is_young(endpoint.name) and (hangs or not asking.options.fresh)
    if not holds:
        raise Unavailable(error.fault) from error


def _known_endpoint(view: View, name: str | None) -> Endpoint | None:
    world = view.snapshot.world() if view.snapshot is not None else None
    return next((each for each in world.endpoints if each.name == name), None) if world is not None else None


def _despite(view: View, found: Target, error: HivedError) -> _Found:
    """The daemon is there and did not answer: say what the file says, and that it is only that."""
    age = view.age(found.endpoint)
    silent = error.code == "daemon.unresponsive"
    notes = [error.fault if silent else fault("daemon.unresponsive", why=error.message.rstrip("."))]
    if age is not None and not view.is_young(found.endpoint):
        notes.append(fault("facts.old", endpoint=found.endpoint, age=age))
    return found, age, tuple(notes)


def _from_memory(view: View, asking: _Asking, *, opened: str | None = None) -> Generator[Step, Any, _Found]:
    """Answer without a daemon that knows: last known facts or defaults, and one connection of our own.

    ``opened``: the endpoint of which alone the daemon does not know, for want of a key that the caller has.
    Without a daemon that may be any.
    """
    question = asking.question
    absent = () if view.running else (fault("daemon.absent"),)
    world = view.snapshot.world() if view.snapshot is not None else World(generation=0)
    if opened is None:
        shut = {e.name for e in world.endpoints if e.reason and _is_open_to(e.reason, asking.environment)}
        world = _hopeful(_opened(world, shut))
    else:
        world = _opened(world, {opened})
    catalogue = WorldCatalogue(world)
    found = answer(catalogue, question)
    notes = absent
    if isinstance(found, Refusal) and found.fault.code in _UNVERIFIED:
        unverified = _unverified(catalogue, question)
        if unverified is not None:
            found, notes = unverified[0], (*absent, unverified[1])
    if isinstance(found, Refusal):
        return found, None, notes
    if question.private is not False and (opened is None or not view.running):
        # Where the daemon runs it has not looked there: it has only just begun, or does not watch it.
        if view.running:
            return _unwatched(found, "hived has not looked there", "hived status"), None, ()
        return _unwatched(found, "hived is not running", "hived serve"), None, ()
    host, port = address(found.api_base)
    why = yield Connect(host, port, asking.timeout)
    if why is not None:
        return _not_there(catalogue, question, found, why), None, notes
    # Something accepts there. What it is, nobody has looked.
    found = msgspec.structs.replace(found, state="unknown")
    return found, None if view.running else view.age(found.endpoint), notes


def _unwatched(found: Target, why: str, mend: str) -> Refusal:
    """Refuse a private question: a tunnel may have been opened there since, and nobody looks."""
    return Refusal(
        fault=fault("model.unwatched", model=found.name, why=why, mend=mend), endpoint=found.endpoint
    )


_UNWATCHED = frozenset({"server.unwatched"})
_UNVERIFIED = _UNWATCHED | frozenset(
    {"model.unknown", "model.elsewhere", "model.unverified", "provider.nowhere", "server.not_seen_yet"}
)


def _is_open_to(problem: Fault, environment: Mapping[str, str]) -> bool:
    """Tell whether a server is closed to the daemon alone: the key is not set there, and it is here."""
    variable = problem.fields.get("variable") if problem.code == "server.key_unset" else None
    return isinstance(variable, str) and bool(environment.get(variable))


def _opened(world: World, names: Set[str]) -> World:
    """Take endpoints that are closed to the daemon for open, and nothing else for other than it is."""
    endpoints = [
        msgspec.structs.replace(e, state="ready" if e.models else "unknown", reason=None)
        if e.name in names and e.state == "unauthorised"
        else e
        for e in world.endpoints
    ]
    return msgspec.structs.replace(world, endpoints=tuple(endpoints))


def _hopeful(world: World) -> World:
    """Take what was down, or was being loaded, for ready: without a daemon only a connection tells."""
    return msgspec.structs.replace(world, endpoints=tuple(map(_hopeful_endpoint, world.endpoints)))


def _hopeful_endpoint(endpoint: Endpoint) -> Endpoint:
    if endpoint.state in ("wrong_server", "unauthorised"):
        return endpoint
    models = endpoint.models and tuple(
        msgspec.structs.replace(model, state=None, progress=None, fault=None)
        if model.state in ("loading", "downloading", "failed")
        else model
        for model in endpoint.models
    )
    if endpoint.state in CALLABLE:
        return msgspec.structs.replace(endpoint, models=models)
    state: State = "unknown" if models is None else "ready"
    return msgspec.structs.replace(endpoint, models=models, state=state, reason=None)


def _unverified(catalogue: WorldCatalogue, question: Question) -> tuple[Answer, Fault] | None:
    """Build a call to a model that nobody has seen, at a known or default address."""
    name = parse(question.model, prefixes(catalogue), catalogue.kinds)
    if name is None:
        return None
    prefix = name.prefix.casefold()
    kind = name.kind or kind_of_prefix(prefix, catalogue.kinds)
    endpoints = [catalogue.endpoint(head.name) for head in catalogue.heads]
    mine = [e for e in endpoints if _goes_by(e, prefix) or (kind and e.provider == kind.name)]
    mine.sort(key=lambda e: (e.source in GUESSED, e.state not in CALLABLE))
    if mine:
        endpoint = mine[0]
        kind = kind_named(endpoint.provider, catalogue.kinds) or kind
        note = fault("model.unverified", endpoint=endpoint.name, model=name.model)
    elif kind is not None and kind.ports:
        url = f"http://127.0.0.1:{kind.ports[0]}"
        endpoint = Endpoint(name=kind.name, provider=kind.name, url=url, source="default", locality="device")
        note = fault("facts.none", endpoint=kind.title)
    else:
        return None
    if kind is None or endpoint.state in ("wrong_server", "unauthorised") or not root_url(endpoint.url):
        return None
    model = Model(name=name.model)
    if question.private is not False:
        # Nobody knows where a model that was never seen would run: privacy fails closed.
        remote = fault("model.remote", model=name.model, locality="place unknown")
        return Refusal(fault=remote, endpoint=endpoint.name), note
    return target_for(endpoint, model, question, kind), note


def _goes_by(endpoint: Endpoint, folded: str) -> bool:
    return folded in (name.casefold() for name in (endpoint.name, *endpoint.aliases))


def _not_there(catalogue: WorldCatalogue, question: Question, found: Target, why: str) -> Refusal:
    names = {head.name for head in catalogue.heads}
    if found.endpoint in names:
        endpoint = catalogue.endpoint(found.endpoint)
    else:
        endpoint = Endpoint(
            name=found.endpoint,
            provider=found.provider,
            url=found.api_base.removesuffix("/v1"),
            source="default",
        )
    kind = kind_at(endpoint, catalogue.kinds)
    if why == REFUSED:
        down = msgspec.structs.replace(endpoint, state="down", reason=None)
        problem = refusal_of_state(down, kind, find(endpoint.models, found.name, endpoint.provider))
    else:
        problem = fault("server.unreachable", **(fault_fields(endpoint, kind) | {"why": why}))
    callable_now = alternatives(catalogue, question, found.name)
    others = tuple(other for other in callable_now if not other.startswith(f"{found.endpoint}/"))
    return Refusal(fault=problem, alternatives=others, endpoint=found.endpoint)


_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_VARIABLES = frozenset({*_PROXIES, *(name.upper() for name in _PROXIES)})
_ENCODED = frozenset(name.encode() for name in _VARIABLES)
_RELEVANT = (*sorted(_ENCODED), b"no_proxy", b"NO_PROXY", b"REQUEST_METHOD")
_ENVIRON = type(os.environ) if os.supports_bytes_environ else None
"""The type whose table has bytes for keys; where there is none, names are looked up one by one."""
_JUDGED: dict[tuple[object, ...], Fault | None] = {}
_MOST_JUDGED = 256


def _hijacked(url: str, environment: Mapping[str, str]) -> Fault | None:
    """Say whether a proxy takes the call: in half a microsecond where none is set, and in two where one is.

    ``os.environ`` encodes a name for every look-up and raises inside for one that is not there, which would
    cost as much as all the rest of an answer: its table is asked directly where it is the one we know.
    """
    table = getattr(environment, "_data", None) if type(environment) is _ENVIRON else None
    if type(table) is not dict:
        if not any(name in environment for name in _VARIABLES):
            return None
        return _judge_proxies(url, environment)
    if table.keys().isdisjoint(_ENCODED):
        return None
    key = (url, len(table), *map(table.get, _RELEVANT))
    if key not in _JUDGED:
        if len(_JUDGED) >= _MOST_JUDGED:
            _JUDGED.clear()
        _JUDGED[key] = found = _judge_proxies(url, environment)
        return found
    return _JUDGED.get(key)


def _judge_proxies(url: str, environment: Mapping[str, str]) -> Fault | None:
    from hived_client.doors.proxies import hijacked  # only whoever has a proxy pays for it

    return hijacked(url, environment)


REFUSED = "connection refused"
NO_NAME = "it is not the name of a host"


def _verify(target: Target, asking: _Asking, kind: ProviderKind) -> Generator[Step, Any, None]:
    host, port = address(target.api_base)
    why = yield Connect(host, port, asking.timeout)
    if why is not None:
        url = target.api_base.removesuffix(kind.api_path)
        kind = commands_at(kind, url, target.locality)
        code = "server.down" if why == REFUSED else "server.unreachable"
        raise NotReady(
            fault(code, title=kind.title, url=url, endpoint=target.endpoint, start=kind.start, why=why)
        )
