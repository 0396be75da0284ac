"""Whatever answers at an address, no probe believes it, raises, or takes longer than its time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import anyio
import pytest

from hived.decisions.outcomes import Heard, NoAnswer, Outcome, Stranger
from hived.providers.base import Probe
from hived.providers.http import Http
from hived.providers.lm_studio import LmStudio
from hived.providers.openai_compatible import OpenAiCompatible
from hived.providers.vllm import COUNTED, QUIET, Vllm
from hived_client.vocabulary.world import Model
from tests.providers.looking import HOSTILE, KEY, PATIENCE, at
from tests.servers.loopback import Loopback
from tests.servers.strangers import AnswersEverything, Redirects

pytestmark = pytest.mark.anyio

KNOWN: dict[str, object] = {"state": "ready", "version": "1", "models": (Model(name="m"),)}
PROBES: tuple[tuple[Callable[[Http, Mapping[str, str]], Probe], tuple[str, ...]], ...] = (
    (Vllm, (COUNTED, QUIET)),
    (LmStudio, ("v1", "v0", "openai")),
    (OpenAiCompatible, ()),
)
"""Each probe with the modes in which it may believe a server to be."""


async def test_no_stranger_is_believed_and_none_takes_longer_than_its_time() -> None:
    http = Http()
    believed: list[str] = []
    slow: list[str] = []
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(AnswersEverything())
        servers: list[Loopback] = [stack.enter_context(make()) for make in HOSTILE]
        servers.append(stack.enter_context(Redirects(target.url)))

        async def ask(probe: Probe, server: Loopback, belief: dict[str, object]) -> None:
            began = anyio.current_time()
            endpoint = at(probe.provider, server.url, key_ref="LAB_KEY", **belief)
            outcome: Outcome = await probe.look(endpoint, thorough=not belief)
            if not isinstance(outcome, Stranger | NoAnswer):
                believed.append(f"{probe.provider}: {type(server).__name__}")
                assert isinstance(outcome, Heard)
            if anyio.current_time() - began > PATIENCE:
                slow.append(f"{probe.provider}: {server!r}")

        async with anyio.create_task_group() as tasks:
            for make, modes in PROBES:
                for belief in ({}, *(KNOWN | {"mode": mode} for mode in modes)):
                    for server in servers:
                        tasks.start_soon(ask, make(http, {"LAB_KEY": KEY}), server, belief)
        assert target.connections == 0
    await http.aclose()
    # The one gateway among them speaks the common dialect, and that is all that this probe asks for.
    assert (believed, slow) == (["openai_compatible: OpenAiCompatible"], [])
