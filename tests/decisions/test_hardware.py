"""What of this machine is news, when it is looked at, and which models waste a card."""

from __future__ import annotations

import msgspec
import pytest

from hived.decisions.changes import changes
from hived.decisions.hardware import LAST_RETRY, LOADING, WATCHED, is_news, next_look, retry_after
from hived.decisions.transitions import equip
from hived.machine.hardware.understanding import understand
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.world import World
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


def test_what_is_wrong_with_a_card_is_a_problem_of_the_world() -> None:
    broken = understand(
        linux(
            plain(),
            {},
            nvml({"name": "NVIDIA X", "pci": "0000:01:00.0", "errors": {"memory": "GPU_IS_LOST"}}),
        )
    )
    assert [each.code for each in equip(World(generation=1), broken).problems] == ["gpu.driver"]
