"""Look before leaping: what is at the place where a server is to be started, by a look of this moment.

What is made of it is decided in `hived.decisions.starting`; nothing is started here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator

import anyio
import anyio.to_thread

from hived.daemon.orders import Order
from hived.daemon.store import Store
from hived.decisions.addresses import host_and_port, place
from hived.decisions.starting import Ground, before_start
from hived.machine.owners import owner_of_port, user_name
from hived.machine.ports import PortRefused, is_port_free
from hived.machine.start_faults import log_of
from hived_client.errors import StartFailed
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.world import CALLABLE, Endpoint, Installation, World

LOOK_PATIENCE = 5.0
"""Seconds for a look at the place before a start."""


class Lookout:
    """Looks at the places of servers."""

    def __init__(
        self,
        store: Store,
        look: Callable[[Iterable[str]], Awaitable[None]],
        installation: Callable[[str], Awaitable[Installation | None]],
    ) -> None:
        """``look`` has endpoints looked at now; ``installation`` says what this device has of a kind."""
        self._store = store
        self._look = look
        self._installation = installation

    def __repr__(self) -> str:
        return f"<Lookout over {len(self._store.world.endpoints)} endpoints>"

    def at(self, url: str) -> Endpoint | None:
        """Return the endpoint at an address, as it is known."""
        return endpoint_at(url, self._store.world)

    async def looked_at(self, url: str) -> Endpoint | None:
        """Return the endpoint at an address after a fresh look, bounded."""
        endpoint = self.at(url)
        if endpoint is None:
            return None
        with anyio.move_on_after(LOOK_PATIENCE):
            await self._look([endpoint.name])
        return self.at(url)

    async def look_first(self, order: Order) -> Endpoint | None:
        """Return what is there and can be taken; ``None`` where a start can be tried.

        Raises ``StartFailed`` with what forbids a start there.
        """
        if order.recipe.only_one:
            found = await self._one_of(order, _is_kind_here)
            if found is not None:
                return found  # wherever it serves: to start it elsewhere would take it from whoever uses it
        if order.url is None:  # any free port will do, unless a server has that very model already
            return await self._one_of(order, _is_wanted)
        endpoint = await self.looked_at(order.url)
        if endpoint is not None and endpoint.provider != order.recipe.kind.name:
            endpoint = None
        leap = before_start(order.recipe.kind, await self._ground(order, order.url, endpoint))
        if isinstance(leap, Fault):
            raise StartFailed(leap)
        return endpoint if leap != "begin" else None

    async def _one_of(self, order: Order, fits: Callable[[Endpoint, Order], bool]) -> Endpoint | None:
        """Return a server that fits, and still does after a look."""
        known = next((e for e in self._store.world.endpoints if fits(e, order)), None)
        found = await self.looked_at(known.url) if known is not None else None
        return found if found is not None and fits(found, order) else None

    async def _ground(self, order: Order, url: str, endpoint: Endpoint | None) -> Ground:
        is_single = order.recipe.single
        host, port = host_and_port(url)
        taken, holder = await anyio.to_thread.run_sync(_at_port, host, port, abandon_on_cancel=True)
        return Ground(
            url=url,
            port=port,
            state=endpoint.state if endpoint is not None else None,
            serves=is_single or (endpoint is not None and (_is_coming(endpoint) or serves(endpoint, order))),
            taken=taken,
            holder=holder,
            installation=await self._installation(order.recipe.kind.name) if is_single else None,
        )


def endpoint_at(url: str, world: World) -> Endpoint | None:
    """Return the endpoint at an address, as it is known."""
    where = place(url)
    return next((endpoint for endpoint in world.endpoints if place(endpoint.url) == where), None)


@contextlib.contextmanager
def machine_may_refuse(order: Order, log: str) -> Iterator[None]:
    """Tell what this machine refuses to whoever starts (a name without an address, no descriptor left).

    Nothing else may come of it: one start that cannot be tried is no end of all that is watched.
    """
    try:
        yield
    except PortRefused as error:
        kind = order.recipe.kind
        usual = kind.ports[0] if order.recipe.single and kind.ports else 0
        restart = order.wanted.command(kind.name, port=usual)
        user = user_name(os.getuid())
        raise StartFailed(fault("start.port_refused", port=error.port, user=user, restart=restart)) from error
    except OSError as error:
        title = order.title
        is_elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        if is_elsewhere and order.url is not None:
            name = order.endpoint.name if order.endpoint is not None else None
            problem = fault("start.elsewhere", title=title, url=order.url, endpoint=name)
        else:
            problem = fault("start.ended", title=title, why=f": {error.strerror or error}", **log_of(log))
        raise StartFailed(problem) from error


def serves(endpoint: Endpoint, order: Order) -> bool:
    """Tell whether what is there has the model that is asked for, or any, where none is named."""
    wanted = order.wanted
    if order.recipe.single or wanted.model is None:
        return True
    found = [m for m in endpoint.models or () if wanted.model in (m.name, m.file, *m.aliases)]
    if wanted.context is not None:
        found = [m for m in found if (m.loaded_context or 0) >= wanted.context]
    return any(wanted.alias in (None, m.name, *m.aliases) for m in found)


def _is_coming(endpoint: Endpoint) -> bool:
    """Tell whether somebody else starts it just now: which model it will have, it says once it answers."""
    return endpoint.state in ("starting", "loading") and endpoint.process is None


def _is_kind_here(endpoint: Endpoint, order: Order) -> bool:
    """Tell whether a server of that kind answers on this device."""
    return (
        endpoint.provider == order.recipe.kind.name
        and endpoint.locality == "device"
        and endpoint.state in CALLABLE
    )


def _is_wanted(endpoint: Endpoint, order: Order) -> bool:
    """Tell whether a server of this device has the model that is asked for, whatever port it has.

    With arguments of one's own it would not be the same; nobody can see what it was started with.
    """
    return (
        _is_kind_here(endpoint, order)
        and order.wanted.model is not None
        and not order.wanted.arguments
        and serves(endpoint, order)
    )


def _at_port(host: str, port: int) -> tuple[bool, str]:
    """Say whether a port is taken, and by whom where that is seen. Blocks."""
    if is_port_free(host, port):
        return False, ""
    owner = owner_of_port(host, port)
    return True, owner.words if owner is not None else ""
