"""Servers that are not there, or not what they should be."""

from __future__ import annotations

import pytest

from hived_client.errors import NotReady
from hived_client.vocabulary.faults import Fault
from tests.daemon.running import Running, configure, llamacpp_at
from tests.faults.provoking import provokes


def refusal(daemon: Running, model: str, **question: object) -> Fault:
    """Return why a model cannot be called, as any program is told."""
    with pytest.raises(NotReady) as no:
        daemon.client.resolve(model, timeout=5.0, **question)  # type: ignore[arg-type]
    return no.value.fault


@provokes("server.down", "the configuration names a port of this device where nothing listens")
def test_nothing_listens(environment: dict[str, str], unused_port: int) -> Fault:
    configure(environment, llamacpp_at(f"http://127.0.0.1:{unused_port}"))
    with Running(environment) as daemon:
        return refusal(daemon, "llamacpp/any")
