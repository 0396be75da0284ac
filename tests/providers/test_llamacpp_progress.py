"""How far a model is: the recorded stream of a real router, and events that make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hived.providers.llamacpp_progress import note_progress

RECORDED = Path(__file__).parents[1] / "servers" / "transcripts" / "llamacpp_router_sse.txt"


def after(*events: object, known: dict[str, float] | None = None) -> dict[str, float]:
    found = dict(known or {})
    for event in events:
        note_progress(found, event if isinstance(event, bytes) else json.dumps(event).encode())
    return found


def test_the_recorded_stream_tells_of_each_load_and_leaves_nothing_behind() -> None:
    known: dict[str, float] = {}
    seen: list[dict[str, float]] = []
    for line in RECORDED.read_bytes().splitlines():
        if line.startswith(b"data:"):
            note_progress(known, line.removeprefix(b"data:"))
            if known not in seen[-1:]:
                seen.append(dict(known))
    a, b = ([{}, {name: 0.0}, {name: 1.0}] for name in ("tiny-a", "tiny-b"))
    assert seen == [*a, *b, {}, {"tiny-b": 0.0}, {}]  # the last one failed


def loading(value: object, stages: object = ("a", "b"), current: object = "a") -> dict[str, object]:
    return {
        "model": "m",
        "event": "status_change",
        "data": {"status": "loading", "progress": {"stages": stages, "current": current, "value": value}},
    }


def downloading(progress: object, *, inside: bool = True) -> dict[str, object]:
    data = {"progress": progress} if inside else progress
    return {"model": "m", "event": "download_progress", "data": data}


@pytest.mark.parametrize(
    ("event", "share"),
    [
        (loading(0.5), 0.25),
        (loading(0.5, current="b"), 0.75),
        (loading(0.5, current="c"), 0.5),
        (loading(0.5, stages=None), 0.5),
        (loading(0.5, stages=[]), 0.5),
        (loading(7), None),
        (loading("x"), None),
        (loading(True), None),
        (downloading({"u": {"done": 1, "total": 4}}), 0.25),
        (downloading({"u": {"done": 1, "total": 4}}, inside=False), 0.25),
        (downloading({"u": {"done": 3, "total": 4}, "v": {"done": 0, "total": 4}}), 0.38),
        (downloading({"u": {"done": 3, "total": 0}}), None),
        (downloading({"u": {"done": -3, "total": 4}}), 0.0),
        (downloading({"u": {"done": 30, "total": 4}}), 0.0),
        (downloading({"u": 5}), None),
        (downloading([1]), None),
        ({"model": "m", "event": "status_change", "data": {"status": "loaded"}}, None),
        ({"model": "m", "event": "model_remove", "data": None}, None),
        ({"model": "m", "event": "download_finished"}, None),
    ],
)
def test_an_event_is_a_share_or_the_end_of_one(event: object, share: float | None) -> None:
    assert after(event, known={"m": 0.1, "o": 0.2}) == ({"m": share} if share is not None else {}) | {
        "o": 0.2
    }


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"[1",
        b"[" * 100_000,
        b"\xff",
        b"NaN",
        [],
        {"event": "download_progress"},
        {"model": "m\x1b[2J", "event": "download_progress", "data": {"u": {"done": 1, "total": 4}}},
        {"model": 5},
        {"model": "*", "event": "models_reload", "data": None},
    ],
)
def test_an_event_that_makes_no_sense_changes_nothing(event: object) -> None:
    assert after(event, known={"m": 0.1}) == {"m": 0.1}
