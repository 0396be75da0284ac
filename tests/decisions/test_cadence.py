"""When to look next: seldom at rest, quickly while something changes, and never without an end."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.decisions.cadence import (
    AT_REST,
    CHANGING,
    CHANGING_LATER,
    FARTHEST,
    JITTER,
    KNOCK,
    PATIENCE,
    Plan,
    backoff,
    plan,
    requests_at_rest,
)
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import CALLABLE, Endpoint, Source, State
from tests.client import worlds

NEAR, FAR = "http://127.0.0.1:8080", "http://10.0.0.7:8080"
FOREIGN = (fault("server.other_dialect"),)


def endpoint(state: State, url: str = NEAR, source: Source = "configuration", **more: object) -> Endpoint:
    return Endpoint(name="lab", provider="llamacpp", url=url, source=source, state=state, **more)  # type: ignore[arg-type]


def planned(
    of: Endpoint, *, failures: int = 0, now: float = 1000.0, watched: bool = False, chance: float = 0.5
) -> Plan:
    return plan(of, failures=failures, now=now, watched=watched, random=lambda: chance)


@pytest.mark.parametrize(
    ("of", "watched", "failures", "look", "knock"),
    [
        (endpoint("ready"), False, 0, AT_REST, KNOCK),
        (endpoint("ready"), True, 0, AT_REST, None),
        (endpoint("ready", FAR), False, 0, AT_REST, None),
        (endpoint("busy"), False, 0, AT_REST, KNOCK),
        (msgspec.structs.replace(endpoint("ready"), provider="vllm"), False, 0, 2 * AT_REST, KNOCK),
        (endpoint("sleeping"), True, 0, AT_REST, None),
        (endpoint("unauthorised"), False, 0, 2 * AT_REST, KNOCK),
        (endpoint("ready", key_ref="K", mode="router"), True, 0, 2 * AT_REST, None),
        (endpoint("ready", key_ref="K", mode="single"), True, 0, AT_REST, None),
        (endpoint("sleeping", key_ref="K", mode="single"), True, 0, 2 * AT_REST, None),
        (endpoint("ready", warnings=FOREIGN), False, 0, 2 * AT_REST, KNOCK),
        (endpoint("wrong_server", source="default"), False, 0, None, KNOCK),
        (endpoint("wrong_server"), False, 0, FARTHEST, KNOCK),
        (endpoint("wrong_server", FAR), False, 0, FARTHEST, None),
        (endpoint("down"), False, 99, None, KNOCK),
        (endpoint("down", FAR), False, 1, None, 2.0),
        (endpoint("down", FAR), False, 3, None, 8.0),
        (endpoint("down", FAR), False, 99, None, FARTHEST),
        (endpoint("unreachable"), False, 1, 2.0, None),
        (endpoint("unreachable"), False, 99, AT_REST, None),
        (endpoint("failed", FAR), False, 99, FARTHEST, None),
        (endpoint("unknown"), False, 0, 2.0, None),
        (endpoint("loading", since=1000.0), False, 0, CHANGING, None),
        (endpoint("loading", since=1000.0 - PATIENCE), False, 0, CHANGING_LATER, None),
        (endpoint("loading"), False, 0, CHANGING, None),
        (endpoint("loading", since=1000.0 + 86400.0), False, 0, CHANGING_LATER, None),
        (endpoint("starting", since=995.0), False, 7, CHANGING, None),
    ],
)
def test_every_state_has_its_plan(
    of: Endpoint, watched: bool, failures: int, look: float | None, knock: float | None
) -> None:
    assert planned(of, watched=watched, failures=failures) == Plan(look=look, knock=knock)


def test_a_gateway_on_this_device_is_knocked_at_although_its_locality_is_unknown() -> None:
    assert planned(endpoint("ready", warnings=FOREIGN, locality=None)).knock == KNOCK


any_plan = st.builds(
    plan,
    worlds.endpoints.map(lambda e: e if e.url else endpoint(e.state)),
    failures=st.integers(0, 10**9),
    now=st.floats(0, 4e9),
    watched=st.booleans(),
    random=st.floats(0, 1).map(lambda chance: lambda: chance),
)


@given(any_plan)
def test_every_plan_comes_to_an_end_soon(found: Plan) -> None:
    waits = [wait for wait in (found.look, found.knock) if wait is not None]
    assert waits, "nothing would ever happen again"
    assert all(CHANGING <= wait <= FARTHEST * (1 + JITTER) for wait in waits)
    assert found.cadence <= min(waits)


@given(
    st.sampled_from(sorted(CALLABLE | {"unauthorised"})),
    st.sampled_from([NEAR, FAR]),
    st.booleans(),
    st.floats(0, 1),
    st.sampled_from([None, "KEY"]),
    st.sampled_from(["single", "router"]),
    st.sampled_from([(), FOREIGN]),
)
def test_at_rest_there_are_at_most_four_requests_a_minute(
    state: State, url: str, watched: bool, chance: float, key: str | None, mode: str, warnings: tuple[()]
) -> None:
    of = endpoint(state, url, key_ref=key, mode=mode, warnings=warnings)
    look = planned(of, watched=watched, chance=chance).look
    assert look is not None
    assert requests_at_rest(of) * 60.0 / look <= 4.0


@given(st.sampled_from([endpoint("down"), endpoint("failed", FAR)]), st.integers(0, 40), st.floats(0, 1))
def test_the_jitter_is_within_its_bounds(of: Endpoint, failures: int, chance: float) -> None:
    varied, middle = planned(of, failures=failures, chance=chance), planned(of, failures=failures)
    for one, other in ((varied.look, middle.look), (varied.knock, middle.knock)):
        assert (one is None) is (other is None)
        if one is not None and other is not None:
            assert (1 - JITTER) * other - 1e-9 <= one <= (1 + JITTER) * other + 1e-9


def test_the_backoff_doubles_and_is_bounded_for_ever() -> None:
    assert [backoff(n, 2.0, 60.0) for n in range(8)] == [2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert backoff(10**9, 2.0, 60.0) == 60.0
    assert all(one <= other for one, other in pairwise(backoff(n, 0.5, 1e9) for n in range(40)))
