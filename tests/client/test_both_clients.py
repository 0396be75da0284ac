"""The blocking and the anyio client are one interface: both are asked the same things in the same way."""

from __future__ import annotations

import inspect

import pytest

from hived_client import AsyncClient, Client

KEPT_CONNECTIONS = {"close"}
"""What only the blocking client has: the anyio client keeps no connection that could be closed."""


def offers(client: type) -> dict[str, object]:
    """Return what a client offers to its callers, by name."""
    return {name: value for name, value in vars(client).items() if not name.startswith("_")}


def parameters(client: type, name: str) -> list[inspect.Parameter]:
    found = offers(client)[name]
    asked = found.fget if isinstance(found, property) else found
    assert callable(asked)
    return list(inspect.signature(asked).parameters.values())


def test_both_clients_offer_the_same() -> None:
    assert offers(Client).keys() - KEPT_CONNECTIONS == offers(AsyncClient).keys()


@pytest.mark.parametrize("name", offers(AsyncClient))
def test_both_clients_are_asked_in_the_same_way(name: str) -> None:
    assert parameters(Client, name) == parameters(AsyncClient, name)
    assert isinstance(offers(Client)[name], property) is isinstance(offers(AsyncClient)[name], property)


def test_both_clients_are_made_in_the_same_way() -> None:
    assert inspect.signature(Client.__init__) == inspect.signature(AsyncClient.__init__)
