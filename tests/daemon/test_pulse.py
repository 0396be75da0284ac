"""The beat, the watchdog and the sleep of the machine, as one pulse."""

from __future__ import annotations

from hived.daemon.clock import Clock
from hived.daemon.progress import PATIENCE, Duty, Progress
from hived.daemon.pulse import SLEPT, Pulse


class Hand(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.awake = self.asleep = 0.0

    def since_boot_ns(self) -> int:
        return int((self.awake + self.asleep) * 1e9)

    def monotonic_ns(self) -> int:
        return int(self.awake * 1e9)


class Told:
    """Counts what a pulse does."""

    def __init__(self) -> None:
        self.beats = self.resumes = 0
        self.fed: list[float] = []

    def alive(self, now: float) -> None:
        self.fed.append(now)

    def beat(self) -> None:
        self.beats += 1

    def resumed(self) -> None:
        self.resumes += 1


def pulse(told: Told, clock: Clock, *duties: Duty) -> Pulse:
    return Pulse(Progress(duties), told, clock, beat=told.beat, resumed=told.resumed)


def test_each_turn_beats_and_feeds_the_watchdog() -> None:
    told = Told()
    one = pulse(told, Hand())
    for now in range(3):
        one.take(float(now))
    assert (told.beats, told.fed, told.resumes) == (3, [0.0, 1.0, 2.0], 0)


def test_what_is_stuck_goes_on_beating_and_starves_the_watchdog_until_it_turns_again() -> None:
    turns = [0]
    told = Told()
    one = pulse(told, Hand(), Duty("part", lambda: turns[0], lambda: True))
    for now in (0.0, PATIENCE, PATIENCE + 1, PATIENCE + 2):
        one.take(now)
    assert told.fed == [0.0, PATIENCE]
    assert "stuck: part" in repr(one)
    turns[0] += 1
    one.take(PATIENCE + 3)
    assert told.fed[-1] == PATIENCE + 3
    assert told.beats == 5


def test_a_sleep_is_noticed_once_and_time_awake_is_none() -> None:
    clock, told = Hand(), Told()
    one = pulse(told, clock)
    for awake, asleep, resumes in [(10.0, 0.0, 0), (0.5, SLEPT / 2, 0), (0.5, 3600.0, 1), (0.5, 0.0, 1)]:
        clock.awake += awake
        clock.asleep += asleep
        one.take(clock.awake)
        assert told.resumes == resumes
