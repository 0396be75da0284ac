"""Which endpoints there should be: what the user gave, what hived started, and default ports. Pure.

The first that claims an address keeps it, in that order, so that a server is never watched twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hived.decisions.addresses import locality_of, place
from hived_client.vocabulary.kinds import KINDS, ProviderKind
from hived_client.vocabulary.world import SLOTS, Endpoint, Process, Source


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An address that somebody gave."""

    name: str
    provider: str
    url: str
    source: Source
    origin: str
    key_ref: str | None = None
    process: Process | None = None


def expected(
    given: Iterable[Given], *, watched: Sequence[str], guess: bool, kinds: tuple[ProviderKind, ...] = ()
) -> tuple[Endpoint, ...]:
    """Return the endpoints to watch, at most as many as the beat file has rows.

    ``watched`` are the providers whose default ports are looked at, where ``guess`` allows it.
    """
    endpoints: list[Endpoint] = []
    places: set[tuple[str, int, str]] = set()
    names: set[str] = set()
    for each in (*given, *(_defaults(watched, kinds) if guess else ())):
        where = place(each.url)
        if where in places or len(endpoints) == SLOTS:
            continue
        name = _free_name(each.name, where[1], names)
        places.add(where)
        names.add(name.casefold())
        endpoints.append(
            Endpoint(
                name=name,
                provider=each.provider,
                url=each.url,
                source=each.source,
                origin=each.origin,
                locality=locality_of(each.url),
                key_ref=each.key_ref,
                process=each.process,
                state="starting" if each.process is not None else "unknown",
            )
        )
    return tuple(endpoints)


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
