"""What subscribers are told: every difference that can be seen, in a stable order, and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from hived.decisions.changes import changes
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Change, Configuration, Endpoint, Model, World
from tests.client import worlds
from tests.client.worlds import endpoint, world

replace = msgspec.structs.replace
DOWN, SILENT = fault("server.down", title="x"), fault("server.silent", title="x")
LAB = endpoint("lab", "llamacpp", Model(name="a", state="loaded", progress=None), "b")


def told(before: World, after: World) -> list[tuple[str | None, ...]]:
    found = changes(before, after, 5.0)
    assert all(change.at == 5.0 for change in found)
    return [(c.event, c.endpoint, c.model, c.before, c.after) for c in found]


def of_lab(**changed: object) -> list[tuple[str | None, ...]]:
    return told(world(LAB), world(replace(LAB, **changed)))


def with_model(model: Model) -> tuple[Model, ...]:
    return (model, Model(name="b", state="loaded"))


@pytest.mark.parametrize(
    ("changed", "events"),
    [
        ({"state": "down", "reason": DOWN}, [("endpoint.state", "lab", None, "ready", "down")]),
        (
            {"url": "http://127.0.0.1:1"},
            [("endpoint.moved", "lab", None, "http://127.0.0.1:8080", "http://127.0.0.1:1")],
        ),
        (
            {"models": with_model(Model(name="a", state="sleeping"))},
            [("model.state", "lab", "a", "loaded", "sleeping")],
        ),
        (
            {"models": with_model(Model(name="a", state="loaded", progress=0.5))},
            [("model.progress", "lab", "a", None, "50%")],
        ),
        (
            {"models": with_model(Model(name="a", state="loaded", size=1))},
            [("model.changed", "lab", "a", None, None)],
        ),
        (
            {"models": (Model(name="c"), Model(name="b", state="loaded"))},
            [("model.removed", "lab", "a", None, None), ("model.added", "lab", "c", None, None)],
        ),
        ({"reason": SILENT}, [("endpoint.changed", "lab", None, None, None)]),
        ({"warnings": (fault("server.other_dialect"),)}, [("endpoint.changed", "lab", None, None, None)]),
        ({"locality": None}, [("endpoint.changed", "lab", None, None, None)]),
        ({"version": "b1"}, [("endpoint.changed", "lab", None, None, None)]),
        ({"key_ref": "K"}, [("endpoint.changed", "lab", None, None, None)]),
        ({"since": 1.0, "models_at": 2.0, "slot": 9}, []),
    ],
)
def test_a_difference_is_told_in_the_words_for_it(
    changed: dict[str, object], events: list[tuple[str | None, ...]]
) -> None:
    assert of_lab(**changed) == events


def test_a_new_version_is_told_once_one_was_known() -> None:
    old = replace(LAB, version="b1")
    assert told(world(old), world(replace(old, version="b2"))) == [
        ("endpoint.version", "lab", None, "b1", "b2")
    ]


def test_endpoints_come_and_go_in_the_order_of_the_world() -> None:
    names = [f"e{n}" for n in range(9)]
    many = world(*(endpoint(name, "llamacpp", "m") for name in names))
    assert told(many, world()) == [("endpoint.removed", name, None, "ready", None) for name in names]
    assert told(world(), many) == [
        event
        for name in names
        for event in (
            ("endpoint.added", name, None, None, "ready"),
            ("model.added", name, "m", None, "loaded"),
        )
    ]


def test_models_go_in_the_order_of_the_listing() -> None:
    names = [f"m{n}" for n in range(9)]
    before = world(endpoint("lab", "llamacpp", *names))
    gone = told(before, world(endpoint("lab", "llamacpp")))
    assert [model for _, _, model, _, _ in gone] == names


def test_a_broken_configuration_is_told_with_what_is_wrong() -> None:
    broken = fault("configuration.broken", path="/c", line=1, column=2, why="x")
    before = replace(world(), configuration=Configuration(path="/c", state="ok"))
    after = replace(world(), configuration=Configuration(path="/c", state="broken", error=broken))
    assert changes(before, after, 1.0) == (
        Change(event="configuration.changed", at=1.0, before="ok", after="broken", reason=broken),
    )


@given(worlds.worlds)
def test_nothing_is_told_of_a_world_that_stayed(same: World) -> None:
    assert changes(same, same, 1.0) == ()
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(same), type=World)
    assert changes(same, again, 1.0) == ()


def seen(endpoint: Endpoint) -> Endpoint:
    """Return what of an endpoint a reader can see: not its dates, nor the order of equal models."""
    models = {model.name: model for model in endpoint.models or ()}
    listed = None if endpoint.models is None else tuple(models[name] for name in sorted(models))
    return replace(endpoint, since=None, models_at=None, slot=-1, models=listed)


@given(worlds.worlds, worlds.worlds)
def test_every_difference_that_can_be_seen_is_told(before: World, after: World) -> None:
    found = changes(before, after, 1.0)
    old, new = ({e.name: seen(e) for e in w.endpoints} for w in (before, after))
    assert {change.endpoint for change in found} - {None} >= {
        name for name in old.keys() | new.keys() if old.get(name) != new.get(name)
    }
    assert [c.endpoint for c in found if c.event == "endpoint.removed"] == [n for n in old if n not in new]
    assert [c.endpoint for c in found if c.event == "endpoint.added"] == [n for n in new if n not in old]
