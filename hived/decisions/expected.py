"""Which endpoints there should be: what the user gave, what hived started, and default ports. Pure.

The first that claims an address keeps it, in that order, so that a server is never watched twice. Other
names that were given to the same address are its aliases, and call it as well as its name does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hived.decisions.addresses import place
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import KINDS, OPENAI_COMPATIBLE, ProviderKind, kind_of_prefix
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.world import SLOTS, Endpoint, Process, Source

Place = tuple[str, int, str]
"""What two addresses of one server have in common: host, port and path."""

OURS = "providers."
"""How the origin of an address begins that was written for hived, and not for Hive."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An address that somebody gave."""

    name: str
    provider: str
    url: str
    source: Source
    origin: str
    listens: str = ""
    """The address as it was written, where that is one to listen at and not one to call."""
    key_ref: str | None = None
    process: Process | None = None


def expected(
    given: Iterable[Given], *, watched: Sequence[str], guess: bool, kinds: tuple[ProviderKind, ...] = ()
) -> tuple[Endpoint, ...]:
    """Return the endpoints to watch, at most as many as the beat file has rows.

    ``watched`` are the providers whose default ports are looked at, where ``guess`` allows it.
    """
    firsts: dict[Place, Given] = {}
    others: dict[Place, list[Given]] = {}
    for each in (*given, *(_defaults(watched, kinds) if guess else ())):
        where = place(each.url)
        if where in firsts:
            others.setdefault(where, []).append(each)
        elif len(firsts) < SLOTS:
            firsts[where] = each
    names: dict[Place, str] = {}
    taken: set[str] = set()
    for where, each in firsts.items():
        names[where] = _free_name(each.name, where[1], taken)
        taken.add(names[where].casefold())
    endpoints: list[Endpoint] = []
    for where, each in firsts.items():
        aliases = _aliases(each, others.get(where, ()), taken, kinds)
        taken |= {alias.casefold() for alias in aliases}
        endpoints.append(
            Endpoint(
                name=names[where],
                aliases=aliases,
                provider=each.provider,
                url=each.url,
                source=each.source,
                origin=each.origin,
                locality=locality_of(each.url),
                key_ref=_key_of(each, others.get(where, ())),
                process=(process := each.process or _process_of(others.get(where, ()))),
                state="starting" if process is not None else "unknown",
            )
        )
    return tuple(endpoints)


def conflicts(given: Iterable[Given], path: str) -> tuple[Fault, ...]:
    """Return what cannot be watched as it was given: for whoever wrote it into the configuration at ``path``.

    A second name of the same server is no conflict, and neither is what Hive's own sections say of it:
    there ``openai`` may mean any server.
    """
    firsts: dict[Place, Given] = {}
    found: list[Fault] = []
    over: Given | None = None
    for each in given:
        first = firsts.setdefault(place(each.url), each)
        if first is each:
            over = over or (each if len(firsts) > SLOTS else None)
        elif each.provider != first.provider and each.origin.startswith(OURS):
            found.append(
                fault(
                    "configuration.duplicate", path=path, where=each.origin, first=first.origin, url=first.url
                )
            )
    if over is not None:
        found.append(
            fault("configuration.too_many", path=path, count=len(firsts), most=SLOTS, where=over.origin)
        )
    return tuple(found)


def _process_of(others: Iterable[Given]) -> Process | None:
    """Return the process that hived started at an address which somebody else named first."""
    return next((each.process for each in others if each.process is not None), None)


def _key_of(first: Given, others: Iterable[Given]) -> str | None:
    """Return the variable of the key: the first that is named for this server, under whatever name.

    One that is named for another kind of server at this address is for that kind alone; what is only said
    to speak OpenAI's dialect, as Hive's own sections do, is of any kind.
    """
    kinds = (first.provider, OPENAI_COMPATIBLE.name)
    return next((e.key_ref for e in (first, *others) if e.key_ref is not None and e.provider in kinds), None)


def _aliases(
    first: Given, others: Iterable[Given], taken: set[str], kinds: tuple[ProviderKind, ...]
) -> tuple[str, ...]:
    """Return the other names of a server; a provider's prefix is none, since it means all of its servers."""
    found: dict[str, str] = {}
    for each in others:
        folded = each.name.casefold()
        if each.provider == first.provider and folded not in taken and kind_of_prefix(folded, kinds) is None:
            found.setdefault(folded, each.name)
    return tuple(found.values())


def _defaults(watched: Sequence[str], kinds: tuple[ProviderKind, ...]) -> Iterable[Given]:
    for kind in (*KINDS, *kinds):
        if kind.name not in watched:
            continue
        for port in kind.ports:
            yield Given(
                name=kind.name,
                provider=kind.name,
                url=f"http://127.0.0.1:{port}",
                source="default",
                origin=f"default port of {kind.title}",
            )


def _free_name(wanted: str, port: int, taken: set[str]) -> str:
    """Return a name that is not taken: the wanted one, else with its port, else with a number too."""
    candidates = [wanted, f"{wanted}-{port}", *(f"{wanted}-{port}-{n}" for n in range(2, SLOTS + 2))]
    return next(name for name in candidates if name.casefold() not in taken)
