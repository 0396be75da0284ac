"""What somebody who asks for a server means: which kind, where, and with what. Reads, and does nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from hived.daemon.servers import Servers, again, lives
from hived.decisions.addresses import host_and_port, place
from hived.machine.recipes import Recipe, Wanted
from hived.machine.records import Started, is_name
from hived_client.doors.wire import StartParams
from hived_client.errors import Refused
from hived_client.vocabulary.faults import fault, quoted, wrong_start
from hived_client.vocabulary.kinds import LLAMACPP, ProviderKind, kind_of_prefix
from hived_client.vocabulary.localities import locality_of
from hived_client.vocabulary.names import find
from hived_client.vocabulary.world import GUESSED, Endpoint, World


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A start that can be tried."""

    recipe: Recipe
    endpoint: Endpoint | None
    """The endpoint that it is for, as it was when it was asked; ``None``: a new one."""
    wanted: Wanted
    name: str = ""
    """What the server is to be called, where there is no endpoint of that name."""
    keep: bool = True
    timeout: float = 600.0

    @property
    def title(self) -> str:
        return self.recipe.kind.title

    @property
    def url(self) -> str | None:
        """Where it will answer, where that is known before it is started."""
        port = self.wanted.port
        if self.wanted.url is not None and not port:
            return self.wanted.url
        if port:
            host = host_and_port(self.wanted.url)[0] if self.wanted.url is not None else "127.0.0.1"
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        ports = self.recipe.kind.ports
        return f"http://127.0.0.1:{ports[0]}" if self.recipe.single and ports else None


def read_order(
    params: StartParams,
    world: World,
    servers: Servers,
    recipes: Mapping[str, Recipe],
    *,
    name: str = "",
    apart: bool = False,
) -> Order:
    """Return what is meant. Raises ``Refused`` for what no server could be started with.

    ``name``: what a new server is to be called. ``apart``: it has no address, whatever else has that name.
    """
    _check(params)
    named = None if apart else endpoint_named(params.provider, world)
    kind = kind_of_prefix(params.provider, world.kinds)
    recipe = recipes.get(kind.name if kind is not None else named.provider if named is not None else "")
    if recipe is None:
        known = ", ".join(sorted(recipes))
        raise Refused(fault("start.unsupported", provider=params.provider, known=known))
    endpoint = _meant(recipe, named, world, by_kind=kind is not None)
    start = f"hived start {recipe.kind.name}"
    for field, option in _OPTIONS.items():
        if getattr(params, field) and field not in recipe.takes:
            raise Refused(fault("start.not_taken", option=option, title=recipe.kind.title, start=start))
    if endpoint is not None and (
        locality_of(endpoint.url) != "device" or not endpoint.url.startswith("http://")
    ):
        raise Refused(
            fault("start.elsewhere", title=recipe.kind.title, url=endpoint.url, endpoint=endpoint.name)
        )
    wanted = Wanted(
        url=endpoint.url if endpoint is not None else None,
        model=params.model or None,
        port=params.port,
        context=params.context,
        alias=params.alias,
        arguments=params.arguments,
    )
    before = servers.of(endpoint) if endpoint is not None else servers.named(params.provider)
    if "model" in recipe.takes and wanted.model is None and before is not None and before.wanted is not None:
        wanted = _as_before(wanted, before)
    if "model" in recipe.takes and wanted.model is None and params.serving is not None:
        wanted = _from_disk(wanted, recipe.kind, world, params.serving)
    return Order(
        recipe=recipe,
        endpoint=endpoint,
        wanted=wanted,
        name=name if named is None and not recipe.single and is_name(name) else "",
        keep=params.restart,
        timeout=params.timeout,
    )


def _from_disk(wanted: Wanted, kind: ProviderKind, world: World, called: str) -> Wanted:
    """Return what serves a model of this device's disk, under the name that it is called by.

    Raises ``Refused`` for one that is not there: it may be many gigabytes, and nobody asked for those.
    """
    shelves = (find(e.models, called, kind.name) for e in world.endpoints if e.provider == kind.name)
    found = next((model for model in shelves if model is not None), None)
    file = found.file if found is not None and kind is LLAMACPP else None
    if found is None or (kind is LLAMACPP and file is None):
        start = kind.start if kind is LLAMACPP else f"hived start {kind.name} --model {quoted(called)}"
        raise Refused(fault("start.no_model", title=kind.title, start=start))
    alias = None if "," in found.name else found.name  # llama.cpp would make two names of it
    return msgspec.structs.replace(wanted, model=file or found.name, alias=wanted.alias or alias)


def _as_before(wanted: Wanted, record: Started) -> Wanted:
    """Return what is asked for now, and what was asked for before where it says nothing."""
    was = again(record)
    return msgspec.structs.replace(
        was,
        port=was.port if wanted.port is None else wanted.port,
        context=wanted.context or was.context,
        alias=wanted.alias or was.alias,
        arguments=wanted.arguments or was.arguments,
    )


def is_same(record: Started, order: Order) -> bool:
    """Tell whether a server of ours that runs is the one that is asked for."""
    if record.provider != order.recipe.kind.name or not lives(record):
        return False
    if order.recipe.single:
        return order.url is not None and place(record.url) == place(order.url)
    was = record.wanted or Wanted()
    return (
        record.model == (order.wanted.model or "")
        and order.wanted.port in (None, 0, host_and_port(record.url)[1])
        and order.wanted.context in (None, record.context)
        and order.wanted.alias in (None, record.alias)
        and order.wanted.arguments in ((), was.arguments)
    )


_OPTIONS = {"model": "--model", "context": "--ctx-size", "alias": "--alias", "arguments": "What follows --"}


def endpoint_named(name: str, world: World) -> Endpoint | None:
    """Return the endpoint of a name or an alias, in any case."""
    folded = name.casefold()
    found = [e for e in world.endpoints if folded in (n.casefold() for n in (e.name, *e.aliases))]
    return found[0] if found else None


def _meant(recipe: Recipe, named: Endpoint | None, world: World, *, by_kind: bool) -> Endpoint | None:
    """Return the endpoint that a start is for.

    Of a kind of which one is enough it is the one of that name, else the first: given before guessed. Of
    the others a provider's own name asks for one more, beside whatever runs, unless an address of this
    device was given for it.
    """
    if named is not None and named.provider != recipe.kind.name:
        named = None
    if recipe.single:
        return named or next((e for e in world.endpoints if e.provider == recipe.kind.name), None)
    if named is None or named.source in GUESSED:
        return None
    return None if by_kind and locality_of(named.url) != "device" else named


def _check(params: StartParams) -> None:
    alias = params.alias
    wrong = {
        "timeout is not a number": math.isnan(params.timeout),
        "port is not 0 to 65535": params.port is not None and not 0 <= params.port <= 65_535,
        "context is not 1 to 2**31": params.context is not None and not 1 <= params.context < 2**31,
        "alias is not a name": alias is not None and (not alias.isprintable() or alias[:1] in ("-", "")),
        "model is not a path": "\0" in (params.model or ""),
        "an argument is not text": any("\0" in word for word in params.arguments),
    }
    for why in (why for why, is_wrong in wrong.items() if is_wrong):
        raise Refused(wrong_start(why))
