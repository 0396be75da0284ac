"""A server that says nothing in the middle of a turn, and no daemon that looks at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from hived_client.agent import calls, chat
from hived_client.agent.calls import Calls
from hived_client.agent.words import Request
from hived_client.doors.aio import AsyncClient
from hived_client.doors.beat import STOPPED
from hived_client.doors.paths import places
from hived_client.errors import CallFailed
from hived_client.vocabulary.world import Model
from tests.client.agent.test_chat import STREAM, event
from tests.client.publishing import publish
from tests.client.worlds import endpoint, world
from tests.servers.loopback import HttpLoopback, Reply
from tests.servers.loopback import Request as Asked

pytestmark = pytest.mark.anyio

HELLO = Request(messages=[{"role": "user", "content": "Hello"}], max_tokens=64)
JSON = (("content-type", "application/json"), ("content-length", "2"))


class Pausing(HttpLoopback):
    """Says a word and then nothing, until ``go`` is set. ``looks``: small questions that it was asked."""

    def __init__(self, *, is_held: bool) -> None:
        super().__init__()
        self.go = threading.Event()
        self.looks = 0
        self._is_held = is_held

    def answer(self, request: Asked) -> Reply:
        if request.method == "POST":
            return Reply(headers=STREAM, body=self._words())
        self.looks += 1
        if self._is_held:
            self.go.wait(20.0)
        elif self.looks > 1:
            self.go.set()
        return Reply(headers=JSON, body=b"{}")

    def _words(self) -> Iterator[bytes]:
        yield event(choices=[{"delta": {"content": "Hello"}}])
        self.go.wait(20.0)
        yield event(choices=[{"delta": {"content": "!"}, "finish_reason": "stop"}])
        yield b"data: [DONE]\n\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MIND", 0.02)
    monkeypatch.setattr(chat, "GLANCE", 0.2)
    monkeypatch.setattr(calls, "PATIENCE", 0.05)


@contextmanager
def pausing(
    environment: dict[str, str], *, is_held: bool, provider: str = "vllm"
) -> Iterator[tuple[Pausing, Calls]]:
    with Pausing(is_held=is_held) as server:
        last_known = world(endpoint("lab", provider, "m", url=server.url))
        publish(places(environment), last_known, flags=STOPPED)
        try:
            yield server, Calls("lab/m", hived=AsyncClient(environment=environment))
        finally:
            server.go.set()


async def test_a_server_that_is_stopped_is_given_up_in_seconds(environment: dict[str, str]) -> None:
    with pausing(environment, is_held=True) as (server, found):
        async with found:
            with anyio.fail_after(10.0), pytest.raises(CallFailed) as failed:
                await found.complete(HELLO)
    assert failed.value.code == "server.silent"
    assert failed.value.hint == "hived doctor"
    assert server.url in failed.value.message


async def test_a_llamacpp_whose_threads_all_wait_in_its_queue_is_waited_for(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pausing(environment, is_held=True, provider="llamacpp") as (server, found):
        async with found:
            with anyio.move_on_after(1.0) as waited:
                await found.complete(HELLO)
            assert waited.cancelled_caught
            assert server.looks == 0
            monkeypatch.setattr(calls, "QUEUED", 0.05)
            with anyio.fail_after(10.0), pytest.raises(CallFailed) as failed:
                await found.complete(HELLO)
    assert failed.value.code == "server.silent"


async def test_a_server_that_works_on_a_long_prompt_is_waited_for(environment: dict[str, str]) -> None:
    with pausing(environment, is_held=False) as (server, found):
        async with found:
            with anyio.fail_after(10.0):
                reply = await found.complete(HELLO)
    assert reply.text == "Hello!"
    assert server.looks > 1


@pytest.mark.parametrize("provider", ["lm_studio", "openai_compatible"])
async def test_no_context_is_unsure_that_nobody_asked_for(provider: str, environment: dict[str, str]) -> None:
    model = Model(name="m", state="unloaded")
    publish(places(environment), world(endpoint("lab", provider, model)))
    hived = AsyncClient(environment=environment)
    asked = await hived.resolve("lab/m", context=1536, direct=True)
    assert [each.code for each in asked.warnings] == ["model.unloaded", "context.unsure"]
    async with Calls("lab/m", hived=hived) as found:
        await found.target(HELLO)
    assert list(found.warnings) == ["model.unloaded"]
