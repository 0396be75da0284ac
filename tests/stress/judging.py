"""Judge what a crowd was told, and say how well it fared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.stress.crowd import Crowd
from tests.stress.figures import Tell, spread
from tests.stress.truth import Answer, Fits, Lost, Timeline, judge

HANG = 5.0
"""Seconds that no question may take: it has 0.6 s, may need to connect to a server once more
without the daemon, and two cores may be shared by sixty processes. What hangs, hangs for ever or until the
next kill; the longest that was seen is in the table."""

EARLIER = 5.0
"""Seconds before the facts of an answer that may have made them late: a look waits for the one before it."""
AS_MUCH_AGAIN = 3.0
"""How much later a fact may be for each second that was lost: daemon, server and client may each
have waited for its turn."""

TIMEOUT = 0.6
"""Seconds that each question of a crowd has."""

OF_TIME = frozenset({"deadline", "server.silent", "server.unreachable", "daemon.unresponsive"})
"""What is said of whoever did not answer, or take a connection, in time: right where the time has passed. It
passes for clients, too, on a machine with more to do than it can."""

KINDS = ("blocking", "shared", "asyncio", "trio")


def wrong_answers(
    answers: Sequence[Answer],
    fits: Mapping[str, Fits],
    daemon: Timeline,
    *,
    bound: float,
    after: float,
    lost: Lost,
) -> list[str]:
    """Return what is wrong with them, a line each.

    ``bound`` is how old the facts in an answer may be; a question for a new look allows none. ``after``: an
    answer may say that no daemon answers up to so many seconds after it was so. A daemon, or a
    server, that did not answer within the question's own time did not, whatever it was doing. What the
    machine has ``lost`` before an answer counts for no bound.
    """
    wrong: list[str] = []
    for answer in answers:
        age = 0.0 if answer.mode == "fresh" else bound
        age += AS_MUCH_AGAIN * lost.seconds(answer.asked - age - EARLIER, answer.answered)
        away = daemon.states(answer.asked - after, answer.answered) - {"runs"}
        is_late = answer.seconds >= TIMEOUT and bool(OF_TIME & {answer.said, *answer.warnings})
        if is_late and answer.said != "yes":
            said = ""
        elif answer.is_hedged:
            leads = fits[answer.question].detail
            said = "" if away or is_late else "it says that no daemon answers, and one did"
            if answer.said == "yes" and answer.detail != leads:
                said = f"a yes that leads to {answer.detail}"
        else:
            said = judge(answer, fits[answer.question], bound=age + (after if away else 0.0))
        if answer.seconds > HANG + AS_MUCH_AGAIN * lost.seconds(answer.asked, answer.answered):
            said = f"{said or answer.said}, and it took {answer.seconds:.1f} s"
        if said:
            asked = f"{answer.asked:.2f}, {answer.seconds:.2f} s, {answer.client} {answer.mode}"
            wrong.append(f"{asked} {answer.question}: {said}: {answer.detail}")
    return wrong


def some(wrong: Sequence[str]) -> str:
    """Return how many answers were wrong, and the first of them."""
    return "\n".join([f"{len(wrong)} wrong answers", *wrong[:30]])


def tell_of_answers(tell: Tell, crowd: Crowd) -> None:
    """Note how many there were, what they said and how long they took."""
    answers = crowd.answers
    said = Counter("yes, hedged" if a.is_hedged and a.said == "yes" else a.said for a in answers)
    tell("answers", f"{len(answers)}: " + ", ".join(f"{count} {code}" for code, count in said.most_common()))
    for kind in KINDS:
        mine = [answer.seconds for answer in answers if answer.client == kind]
        if mine:
            tell(f"seconds of a question, {kind}", spread(mine))
    for told in crowd.told:
        ends = ", ".join(f"{count} {code}" for code, count in told.ends.items()) or "none"
        tell("subscriptions", f"{told.subscriptions}, {told.events} events, ended: {ends}")


def tell_of_lateness(tell: Tell, answers: Sequence[Answer], fits: Mapping[str, Fits]) -> None:
    """Note how old the facts in the answers were that did not look again."""
    late: list[float] = []
    for answer in answers:
        right = fits[answer.question]
        states = right.said.get(answer.said)
        age = right.timeline.lateness(states, answer.asked, answer.answered) if states is not None else None
        if answer.mode == "file" and age is not None and not answer.is_hedged:
            late.append(age)
    old = [age for age in late if age > 0.0]
    tell("answers that were no longer true", f"{len(old)} of {len(late)}; by {spread(old)}")
