"""What the watchdog is fed by: that the parts which have something to do get on with it."""

from __future__ import annotations

from hived.daemon.progress import PATIENCE, Duty, Progress


class Part:
    """A part of a daemon."""

    def __init__(self, *, due: bool = True) -> None:
        self.turns = 0
        self.due = due

    def duty(self, name: str = "part") -> Duty:
        return Duty(name, lambda: self.turns, lambda: self.due)


def test_a_part_that_turns_is_never_stuck() -> None:
    part = Part()
    progress = Progress([part.duty()])
    for now in range(100):
        part.turns += 1
        assert progress.stuck(now * PATIENCE) == ()


def test_a_part_that_has_something_to_do_and_does_not_turn_is_stuck_after_its_patience() -> None:
    part, other = Part(), Part()
    progress = Progress([part.duty("part"), other.duty("other")])
    assert progress.stuck(0.0) == ()
    other.turns += 1
    assert progress.stuck(PATIENCE) == ()
    assert progress.stuck(PATIENCE + 0.1) == ("part",)
    part.turns += 1
    assert progress.stuck(PATIENCE + 0.2) == ()


def test_a_part_without_anything_to_do_may_rest_for_ever_and_has_its_patience_afterwards() -> None:
    part = Part(due=False)
    progress = Progress([part.duty()])
    assert progress.stuck(0.0) == progress.stuck(1e6) == ()
    part.due = True
    assert progress.stuck(1e6 + PATIENCE) == ()
    assert progress.stuck(1e6 + PATIENCE + 0.1) == ("part",)
