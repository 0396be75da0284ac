"""What of this machine is news, when it is looked at, and which models waste a card."""

from __future__ import annotations

import msgspec
import pytest

from hived.decisions.changes import changes
from hived.decisions.hardware import LAST_RETRY, LOADING, WATCHED, is_news, next_look, retry_after
from hived.decisions.transitions import equip, problems
from hived.machine.hardware.understanding import understand
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.hardware import Gpu, Hardware
from hived_client.vocabulary.world import Locality, Model, World
from tests.client.worlds import endpoint, world
from tests.machine.hardware.machines import linux, nvml, nvml_card, plain

replace = msgspec.structs.replace
GIB = 1 << 30


def machine(free: int = 24000, **more: object) -> Hardware:
    """A machine with one card."""
    card = nvml_card("NVIDIA GeForce RTX 3090", "00000000:01:00.0", 24576, free, compute=[8, 6], **more)
    return understand(linux(plain(), {}, nvml(card)))


NONE = understand(linux(plain()))


@pytest.mark.parametrize(
    ("watched", "loading", "retry", "expected"),
    [
        (False, False, None, None),
        (False, True, None, None),
        (True, False, None, WATCHED),
        (True, True, None, LOADING),
        (False, False, 12.0, 12.0),
        (True, False, 12.0, 12.0),
        (True, False, 100.0, WATCHED),
        (False, False, -3.0, 0.0),
    ],
)
def test_it_is_looked_at_while_watched_and_what_failed_in_its_time(
    watched: bool, loading: bool, retry: float | None, expected: float | None
) -> None:
    assert next_look(watched=watched, loading=loading, retry=retry) == expected


def test_what_failed_is_put_off_ever_longer_up_to_an_hour() -> None:
    waits = [retry_after(failures) for failures in range(1, 20)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (30.0, LAST_RETRY)


def test_memory_is_news_by_the_twentieth_part() -> None:
    before = machine()
    assert is_news(None, before)
    assert not is_news(before, before)
    assert not is_news(before, machine(free=23500))
    assert is_news(before, machine(free=20000))
    assert not is_news(before, machine(temperature=80, busy=99))
    assert is_news(before, machine(throttled=0x20))
    assert is_news(before, NONE)
    assert is_news(before, replace(before, gpus=None))


def test_only_another_machine_is_told_of() -> None:
    one = World(generation=1)
    two = equip(one, machine())
    assert [(change.event, change.before, change.after) for change in changes(one, two, 0.0)] == [
        ("hardware.changed", None, "CUDA")
    ]
    moved = equip(two, machine(free=1000))
    assert moved.generation == two.generation + 1
    assert changes(two, moved, 0.0) == ()
    gone = equip(moved, NONE)
    assert [(change.before, change.after) for change in changes(moved, gone, 0.0)] == [("CUDA", "CPU")]
    assert equip(gone, replace(NONE, observed_at=7.0)) is gone


@pytest.mark.parametrize(
    ("model", "locality", "is_told"),
    [
        (Model(name="m", state="loaded", offload=0.0, device="cpu"), "device", True),
        (Model(name="m", state="loaded", device="cpu"), "device", True),
        (Model(name="m", state="loaded", offload=0.5), "device", False),
        (Model(name="m", state="loaded", offload=1.0), "device", False),
        (Model(name="m", state="loaded"), "device", False),
        (Model(name="m", state="unloaded", offload=0.0), "device", False),
        (Model(name="m", state="loaded", offload=0.0), "lan", False),
        (Model(name="m", state="loaded", offload=0.0, locality="internet"), "device", False),
    ],
)
def test_a_model_on_the_processor_is_told_of_where_a_card_here_could_have_it(
    model: Model, locality: Locality, is_told: bool
) -> None:
    one = world(endpoint("lab", "ollama", model, locality=locality))
    with_card = equip(one, machine())
    found = [each for each in problems(with_card) if each.code == "model.on_cpu"]
    assert bool(found) == is_told
    if found:
        assert "'lab/m'" in found[0].message
        assert "NVIDIA GeForce RTX 3090" in found[0].message
        assert found[0].hint == "ollama ps"
    assert not [each for each in problems(equip(one, NONE)) if each.code == "model.on_cpu"]


def test_what_is_wrong_with_a_card_is_a_problem_of_the_world() -> None:
    broken = understand(
        linux(
            plain(),
            {},
            nvml({"name": "NVIDIA X", "pci": "0000:01:00.0", "errors": {"memory": "GPU_IS_LOST"}}),
        )
    )
    assert [each.code for each in equip(World(generation=1), broken).problems] == ["gpu.driver"]


@pytest.mark.parametrize(
    ("offload", "locality", "cards", "said"),
    [
        (1.0, "device", 1, []),
        (0.4, None, 1, []),
        (0.0, "device", 1, ["gpu.permission"]),
        (None, "device", 1, ["gpu.permission"]),
        (1.0, "lan", 1, ["gpu.permission"]),  # the card of another machine
        (1.0, "device", 2, ["gpu.permission"]),  # which of the two it is, nobody knows
    ],
)
def test_a_model_on_the_only_card_refutes_that_none_runs_there(
    offload: float | None, locality: Locality | None, cards: int, said: list[str]
) -> None:
    denied = fault("gpu.permission", path="/dev/kfd", user="me")
    card = Gpu(name="Radeon RX 7900 XTX", vendor="amd", usable=False, fault=denied)
    closed = replace(NONE, gpus=(card,) * cards, problems=(denied,))
    model = Model(name="m", state="loaded", offload=offload, locality=locality)
    one = world(endpoint("ollama", "ollama", model))
    assert [each.code for each in problems(equip(one, closed)) if each.code == "gpu.permission"] == said
