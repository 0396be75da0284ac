"""What a plug-in's probe does wrong is a server that failed, said once, and never more than that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import structlog.testing

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome, Stranger
from hived.providers.guarded import LONGEST_LOOK, GuardedProbe, checked, guarded_shelf
from hived_client.vocabulary.world import Endpoint, Model
from tests.daemon.virtual_time import virtual

HERE = Endpoint(name="toy", provider="toy", url="http://127.0.0.1:1", source="default")
READY = Heard(state="ready", version="1", models=(Model(name="m"),))


class Scripted:
    provider = "toy"

    def __init__(self, does: Callable[[], Any]) -> None:
        self.does = does

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        found = self.does()
        if isinstance(found, float):
            await anyio.sleep(found)
        return found  # type: ignore[no-any-return]

    def has_push(self, endpoint: Endpoint) -> bool:
        return self.does()  # type: ignore[no-any-return]

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        self.does()


def raises(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


async def look(does: Callable[[], Any]) -> Outcome:
    return await GuardedProbe(Scripted(does), "hived-toy").look(HERE, thorough=True)


@pytest.mark.anyio
async def test_what_is_right_passes_as_it_is() -> None:
    for outcome in (
        READY,
        Locked(version="1"),
        Stranger(),
        NoAnswer(kind="refused", why="connection refused"),
    ):
        assert await look(itertools.repeat(outcome).__next__) == outcome


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("does", "why"),
    [
        (raises(ZeroDivisionError("sk-secret")), "its plug-in hived-toy raised ZeroDivisionError"),
        (raises(TimeoutError()), "its plug-in hived-toy raised TimeoutError"),
        (raises(SystemExit(3)), "its plug-in hived-toy raised SystemExit"),
        (lambda: None, "its plug-in hived-toy returned NoneType instead of an outcome"),
        (lambda: {"state": "ready"}, "its plug-in hived-toy returned dict instead of an outcome"),
        (lambda: Heard(state="splendid"), "returned a Heard with something wrong in it"),  # type: ignore[arg-type]
        (lambda: Heard(state="ready", models=("m",)), "returned a Heard with something wrong in it"),  # type: ignore[arg-type]
        (lambda: Heard(state="ready", version=object()), "something wrong in it"),  # type: ignore[arg-type]
        (lambda: Heard(state="ready", models=(Model(name=7),)), "something wrong in it"),  # type: ignore[arg-type]
        (lambda: Heard(state="ready", models=(Model(name="\ud800"),)), "something wrong in it"),
        (lambda: NoAnswer(kind="bored"), "returned a NoAnswer with something wrong in it"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_wrong_is_a_server_that_failed(does: Callable[[], Any], why: str) -> None:
    outcome = await look(does)
    assert isinstance(outcome, NoAnswer)
    assert outcome.kind == "failed"
    assert why in outcome.why
    assert "secret" not in outcome.why


@pytest.mark.parametrize("anyio_backend", [virtual("asyncio"), virtual("trio")], ids=["asyncio", "trio"])
@pytest.mark.anyio
async def test_a_look_that_does_not_end_is_ended() -> None:
    began = anyio.current_time()
    outcome = await look(lambda: 86_400.0)
    assert outcome == NoAnswer(kind="silent", why="no answer within 10 s")
    assert anyio.current_time() - began == pytest.approx(LONGEST_LOOK)


def test_names_and_numbers_are_held_to_what_any_servers_are() -> None:
    wild = Model(
        name="m",
        aliases=("ok", "\x1b[2J"),
        progress=math.nan,
        offload=7.0,
        size=-1,
        context=0,
        quantization="x" * 101,
        capabilities=("tools", "\u202e"),
    )
    found = checked(
        Heard(state="ready", version="1\n2", models=(wild, Model(name="\x1b[2J"), Model(name="m")))
    )
    assert found == Heard(state="ready", models=(Model(name="m", aliases=("ok",), capabilities=("tools",)),))


@pytest.mark.anyio
async def test_a_mistake_is_logged_once_without_its_words_and_again_after_it_was_mended() -> None:
    probe = Scripted(raises(ZeroDivisionError("sk-secret")))
    guarded = GuardedProbe(probe, "hived-toy")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await guarded.look(HERE, thorough=True)
        assert [line["event"] for line in logs] == ["plugin.failed"]
        assert "test_guarded.py" in logs[0]["at"][-1]
        assert "secret" not in str(logs)
        probe.does = lambda: READY
        await guarded.look(HERE, thorough=True)
        probe.does = raises(ZeroDivisionError())
        await guarded.look(HERE, thorough=True)
    assert len(logs) == 2


@pytest.mark.anyio
async def test_push_that_fails_is_no_push() -> None:
    guarded = GuardedProbe(Scripted(raises(RuntimeError("x"))), "hived-toy")
    assert guarded.has_push(HERE) is False
    await guarded.push(HERE, lambda: None)
    assert GuardedProbe(Scripted(lambda: "yes"), "hived-toy").has_push(HERE) is False
    assert GuardedProbe(Scripted(lambda: True), "hived-toy").has_push(HERE) is True


def test_a_shelf_that_fails_is_empty() -> None:
    assert guarded_shelf(raises(OSError("no")), "hived-toy")({}) == ()  # type: ignore[arg-type]
    assert guarded_shelf(lambda environment: None, "hived-toy")({}) == ()  # type: ignore[arg-type, return-value]
    assert guarded_shelf(lambda environment: ("m",), "hived-toy")({}) == ()  # type: ignore[arg-type, return-value]
    models = (Model(name="m"), Model(name="m"), Model(name=""))
    assert guarded_shelf(lambda environment: models, "hived-toy")({}) == (Model(name="m"),)
