"""From one World to the next: what a look means, what is kept of before, and when the number moves."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.decisions.outcomes import (
    Circumstances,
    Heard,
    Locked,
    NoAnswer,
    Observation,
    Outcome,
    Silence,
    Stranger,
)
from hived.decisions.transitions import (
    complain,
    configure,
    expect,
    introduce,
    observe,
    problems,
    remember,
    shelve,
)
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import (
    CALLABLE,
    SLOTS,
    Configuration,
    Daemon,
    Endpoint,
    Installation,
    Model,
    ModelState,
    Process,
    Source,
    State,
    World,
)
from tests.client import worlds

replace = msgspec.structs.replace

MODELS = (Model(name="m", state="loaded", loaded_context=512, file="/m.gguf"),)
OTHERS = (Model(name="gpt"),)
PROCESS = Process(pid=7, command=("x",), log="/l", name="llamacpp", provider="llamacpp", model="m")
HEARD = Heard(state="ready", version="b1", mode="single", models=MODELS)
URL = "http://127.0.0.1:8080"


def lab(state: State = "unknown", source: Source = "configuration", **more: object) -> Endpoint:
    known: dict[str, object] = {"locality": "device", "slot": 3} | more
    return Endpoint(name="lab", provider="llamacpp", url=URL, source=source, state=state, **known)  # type: ignore[arg-type]


def world(*endpoints: Endpoint, generation: int = 7) -> World:
    return World(generation=generation, endpoints=endpoints)


def look(before: World, outcome: Outcome, at: object = 100.0, **circumstances: object) -> World:
    assert isinstance(at, float)
    now = Circumstances(at=at, **circumstances)  # type: ignore[arg-type]
    return observe(before, Observation(endpoint="lab", at=at, outcome=outcome, circumstances=now))


def after(before: Endpoint, outcome: Outcome, **circumstances: object) -> Endpoint:
    return look(world(before), outcome, **circumstances).endpoints[0]


def no(kind: Silence, why: str = "") -> NoAnswer:
    return NoAnswer(kind=kind, why=why)


OUTCOMES: list[tuple[Outcome, Source, State, str | None]] = [
    (HEARD, "default", "ready", None),
    (HEARD, "configuration", "ready", None),
    (Heard(state="busy"), "configuration", "busy", None),
    (Heard(state="sleeping"), "configuration", "sleeping", None),
    (Heard(state="loading"), "configuration", "loading", "server.loading"),
    (Locked(), "configuration", "unauthorised", "server.unauthorised"),
    (Locked(), "default", "unauthorised", "server.unauthorised"),
    (Stranger(), "default", "wrong_server", "server.wrong"),
    (Stranger(), "configuration", "wrong_server", "server.wrong"),
    (Stranger(models=OTHERS), "default", "wrong_server", "server.wrong"),
    (Stranger(models=OTHERS), "configuration", "ready", None),
    (Stranger(models=OTHERS), "environment", "ready", None),
    (Stranger(models=OTHERS), "started", "ready", None),
    (Stranger(models=()), "configuration", "ready", None),
    (no("refused"), "default", "down", "server.down"),
    (no("refused"), "configuration", "down", "server.down"),
    (no("silent"), "configuration", "unreachable", "server.silent"),
    (no("unreachable"), "configuration", "unreachable", "server.unreachable"),
    (no("dns"), "configuration", "unreachable", "server.dns"),
    (no("broken"), "configuration", "failed", "server.malformed"),
    (no("redirect"), "configuration", "wrong_server", "server.redirects"),
    (no("redirect"), "default", "wrong_server", "server.redirects"),
]


@pytest.mark.parametrize(("outcome", "source", "state", "code"), OUTCOMES)
def test_an_outcome_means_the_same_whatever_was_before(
    outcome: Outcome, source: Source, state: State, code: str | None
) -> None:
    stale = fault("server.failed", why="of before")
    for before in worlds.STATES:
        found = after(lab(before, source, models=MODELS, since=1.0, reason=stale), outcome)
        assert (found.state, found.reason.code if found.reason else None) == (state, code), before
        assert (found.name, found.url, found.source, found.slot) == ("lab", URL, source, 3)
        assert found.since == (1.0 if before == state else 100.0), before
        assert (found.models_at is None) is (found.models is None or state in CALLABLE), before


@pytest.mark.parametrize(("outcome", "source", "state", "code"), OUTCOMES)
def test_the_same_look_twice_moves_nothing(
    outcome: Outcome, source: Source, state: State, code: str | None
) -> None:
    once = look(world(lab(source=source)), outcome, 100.0)
    assert once.generation == 8
    assert look(once, outcome, 200.0, latency=9.0) is once


def test_a_look_at_an_endpoint_that_is_gone_changes_nothing() -> None:
    before = world(replace(lab(), name="another"))
    assert look(before, HEARD) is before


def test_a_confirmation_without_models_keeps_them() -> None:
    before = look(world(lab()), HEARD)
    assert look(before, Heard(state="ready")) is before


@pytest.mark.parametrize(
    ("outcome", "state"), [(no("refused"), "unloaded"), (no("silent"), "loaded"), (no("broken"), "loaded")]
)
def test_a_server_that_is_not_there_has_loaded_nothing(outcome: Outcome, state: str) -> None:
    (model,) = after(lab("ready", models=MODELS), outcome).models or ()
    assert (model.state, model.file) == (state, "/m.gguf")
    assert (model.loaded_context is None) is (state == "unloaded")


def test_models_are_dated_when_they_stop_being_looked_at_and_the_date_stays() -> None:
    ready = look(world(lab()), HEARD, 100.0)
    down = look(ready, no("refused"), 200.0)
    silent = look(down, no("silent"), 300.0)
    assert [w.endpoints[0].models_at for w in (ready, down, silent)] == [None, 200.0, 200.0]
    assert [w.endpoints[0].since for w in (ready, down, silent)] == [100.0, 200.0, 300.0]
    again = look(silent, HEARD, 400.0).endpoints[0]
    assert (again.models_at, again.since) == (None, 400.0)


@pytest.mark.parametrize(
    ("circumstances", "state", "code"),
    [
        ({"process_alive": True, "starting_until": 101.0}, "starting", "server.starting"),
        ({"process_alive": True, "starting_until": 100.0}, "down", "server.down"),
        ({"process_alive": False, "last_words": "no memory"}, "down", "server.ended"),
        ({"process_alive": None, "starting_until": 101.0}, "down", "server.down"),
    ],
)
def test_a_refusal_is_read_with_what_is_known_of_the_process(
    circumstances: dict[str, object], state: State, code: str
) -> None:
    found = after(lab("starting", "started", process=PROCESS), no("refused"), **circumstances)
    assert found.reason is not None
    assert (found.state, found.reason.code) == (state, code)
    if code == "server.ended":
        assert "no memory" in found.reason.message
        assert found.reason.hint == PROCESS.start()


def test_a_process_that_will_listen_there_is_starting_since_it_began() -> None:
    found = after(lab("down", since=50.0), no("refused"), launching_since=90.0)
    assert (found.state, found.since) == ("starting", 90.0)
    assert found.reason is not None
    assert found.reason.fields["since"] == 90.0
    again = after(found, no("refused"), launching_since=90.01)
    assert again == found


def test_what_is_not_ready_says_since_when_and_nothing_that_moves() -> None:
    first = look(world(lab()), Heard(state="loading"), 100.0)
    assert first.endpoints[0].reason is not None
    assert first.endpoints[0].reason.fields["since"] == 100.0
    assert look(first, Heard(state="loading"), 101.0) is first


@pytest.mark.parametrize("state", ["loading", "downloading"])
def test_a_model_that_moves_has_the_date_of_the_look_that_saw_it_begin(state: ModelState) -> None:
    def progress(share: float, then: ModelState = state) -> Heard:
        return Heard(state="ready", models=(Model(name="m", state=then, progress=share), *OTHERS))

    first = look(world(lab()), progress(0.1), 100.0)
    assert look(first, progress(0.1), 150.0) is first
    second = look(first, progress(0.2), 200.0)
    loaded = look(second, progress(1.0, "loaded"), 300.0)
    again = look(loaded, progress(0.0), 400.0)
    dates = [w.endpoints[0].models[0].since for w in (first, second, loaded, again) if w.endpoints[0].models]
    assert dates == [100.0, 100.0, None, 400.0]


UNIT = Installation(found=True, path="/o", owner="system unit ollama.service", start="start it")


def test_what_is_installed_is_told_while_it_is_down_and_survives_looks_that_know_nothing() -> None:
    down = look(world(lab()), no("refused"), 100.0, installation=UNIT)
    assert down.endpoints[0].installation == UNIT
    assert look(down, no("refused"), 200.0) is down
    assert look(down, HEARD, 300.0).endpoints[0].installation is None
    assert remember(down).endpoints[0].installation is None


def test_what_hands_connections_on_may_be_anywhere_and_people_are_told() -> None:
    for outcome in (HEARD, Locked()):
        found = after(lab(locality="device"), outcome, forwarder="ssh")
        assert found.locality is None
        assert [warning.code for warning in found.warnings] == ["server.forwarded"]
        assert "ssh" in found.warnings[0].message
        gone = after(found, outcome)
        assert (gone.locality, gone.warnings) == ("device", ())


def test_an_ended_process_is_ended_whatever_else_answers_nothing() -> None:
    for kind in Silence.__args__:  # type: ignore[attr-defined]
        assert after(lab(process=PROCESS), no(kind), process_alive=False).state == "down"


def test_a_gateway_at_a_given_address_is_used_with_a_warning_and_is_nowhere_in_particular() -> None:
    found = after(
        lab("ready", models=MODELS, version="b1", mode="single"), Stranger(seems=" (x)", models=OTHERS)
    )
    assert (found.state, found.locality, found.models) == ("ready", None, OTHERS)
    assert (found.version, found.mode) == (None, None)
    assert [warning.code for warning in found.warnings] == ["server.other_dialect"]


@pytest.mark.parametrize(
    ("outcome", "models"),
    [(HEARD, MODELS), (Heard(state="loading"), None), (Locked(), None)],
)
def test_what_a_gateway_said_is_forgotten_when_llamacpp_is_back(
    outcome: Outcome, models: tuple[Model, ...] | None
) -> None:
    gateway = after(lab(), Stranger(models=OTHERS))
    back = after(gateway, outcome)
    assert (back.locality, back.warnings, back.models) == ("device", (), models)


def test_a_gateway_that_is_away_is_not_taken_for_a_server_of_this_device() -> None:
    away = after(after(lab(), Stranger(models=OTHERS)), no("refused"))
    assert (away.state, away.locality) == ("down", None)


def test_a_stranger_on_a_guessed_port_is_told_nothing_of() -> None:
    found = after(
        lab("ready", "default", models=MODELS), Stranger(seems=" (it seems to be vLLM)", models=OTHERS)
    )
    assert (found.state, found.models, found.locality) == ("wrong_server", None, "device")
    assert found.reason is not None
    assert "vLLM" in found.reason.message


@pytest.mark.parametrize("source", ["default", "configuration"])
def test_what_seems_to_be_what_it_should_be_is_no_stranger_but_broken(source: Source) -> None:
    found = after(lab("ready", source, models=MODELS), Stranger(seems=" (it seems to be llama.cpp)"))
    assert found.state == "failed"
    assert found.reason is not None
    assert found.reason.message.endswith("it is llama.cpp, and does not answer as that does.")


def test_an_endpoint_of_an_unknown_provider_is_still_spoken_of() -> None:
    odd = replace(lab(), provider="unheard_of")
    assert after(odd, no("refused")).reason == fault(
        "server.down", **(after(odd, no("refused")).reason or fault("internal")).fields
    )


# What there should be.


def other(name: str, port: int = 1, process: Process | None = None) -> Endpoint:
    url = f"http://127.0.0.1:{port}"
    return Endpoint(name=name, provider="llamacpp", url=url, source="configuration", process=process)


def test_an_endpoint_that_stays_where_it_was_keeps_what_is_known_of_it() -> None:
    known = look(expect(world(), [other("lab")]), HEARD)
    same = expect(known, [replace(other("lab"), source="environment", origin="X", key_ref="K")])
    (found,) = same.endpoints
    assert (found.state, found.models, found.slot) == ("ready", MODELS, 0)
    assert (found.source, found.origin, found.key_ref) == ("environment", "X", "K")
    assert expect(same, same.endpoints) is same


@pytest.mark.parametrize(
    "moved",
    [
        other("lab", 2),
        replace(other("lab"), provider="vllm"),
        other("lab", process=replace(PROCESS, pid=8)),
    ],
)
def test_an_endpoint_that_moved_is_known_no_more(moved: Endpoint) -> None:
    known = look(expect(world(), [other("lab", process=PROCESS)]), HEARD)
    (found,) = expect(known, [moved]).endpoints
    assert (found.state, found.models, found.since) == ("unknown", None, None)


def test_a_process_found_or_lost_at_the_same_place_changes_no_knowledge() -> None:
    known = look(expect(world(), [other("lab")]), HEARD)
    with_process = expect(known, [other("lab", process=PROCESS)])
    assert (with_process.endpoints[0].state, with_process.endpoints[0].process) == ("ready", PROCESS)
    assert expect(with_process, [other("lab")]).endpoints[0].state == "ready"


def test_rows_are_stable_and_never_shared() -> None:
    three = expect(world(), [other("a", 1), other("b", 2), other("c", 3)])
    assert [e.slot for e in three.endpoints] == [0, 1, 2]
    turned = expect(three, [other("d", 4), other("c", 3), other("a", 1), other("e", 5)])
    assert [(e.name, e.slot) for e in turned.endpoints] == [("d", 1), ("c", 2), ("a", 0), ("e", 3)]


def test_beyond_the_last_row_there_is_none() -> None:
    many = [other(f"e{n}", n + 1) for n in range(SLOTS + 6)]
    crowded = expect(world(), many)
    assert [e.slot for e in crowded.endpoints] == [*range(SLOTS), *[-1] * 6]
    relieved = expect(crowded, many[6:])
    assert sorted(e.slot for e in relieved.endpoints) == list(range(SLOTS))
    assert [e.slot for e in relieved.endpoints[: SLOTS - 6]] == list(range(6, SLOTS))


few = st.lists(
    st.builds(other, st.sampled_from("abcdef"), st.integers(1, 3)), max_size=5, unique_by=lambda e: e.name
)


@given(st.lists(few, max_size=6))
def test_whatever_is_expected_no_two_share_a_row_and_who_stays_keeps_it(steps: list[list[Endpoint]]) -> None:
    now = world()
    for step in steps:
        before, now = now, expect(now, step)
        assert [(e.name, e.url) for e in now.endpoints] == [(e.name, e.url) for e in step]
        slots = [e.slot for e in now.endpoints]
        assert len(set(slots)) == len(slots)
        assert all(0 <= slot < SLOTS for slot in slots)
        rows = {(e.name, e.url): e.slot for e in before.endpoints}
        assert all(rows.get((e.name, e.url), e.slot) == e.slot for e in now.endpoints)
        assert now.generation == before.generation + (now is not before)


@given(worlds.worlds, worlds.worlds)
def test_taking_in_the_same_twice_is_taking_it_in_once(before: World, wanted: World) -> None:
    once = expect(replace(before, problems=problems(before)), wanted.endpoints)
    assert expect(once, once.endpoints) is once


# What is remembered.


def test_what_is_remembered_are_models_and_no_states() -> None:
    daemon = Daemon(version="1", pid=1, started_at=1.0, managed_by="client", socket="/s", id="i", boot="b")
    ready = look(introduce(expect(world(), [other("lab")]), daemon), Stranger(models=OTHERS))
    kept = remember(replace(ready, endpoints=(replace(ready.endpoints[0], models_at=42.0),)))
    (found,) = kept.endpoints
    assert (found.state, found.reason, found.since, found.warnings, found.slot) == (
        "unknown",
        None,
        None,
        (),
        -1,
    )
    assert (found.models, found.models_at, found.locality) == (OTHERS, 42.0, None)
    assert (kept.daemon, kept.problems) == (None, ())
    down = look(expect(kept, [other("lab")]), no("refused"), 100.0).endpoints[0]
    assert (down.models, down.models_at, down.slot) == (OTHERS, 42.0, 0)


# What a person should know.

FAILED = Model(name="bad", state="failed", fault=fault("model.failed", endpoint="lab", model="bad"))


@pytest.mark.parametrize(
    ("endpoint", "codes"),
    [
        (lab("down", reason=fault("server.down")), ["server.down"]),
        (lab("down", "environment", reason=fault("server.down")), ["server.down"]),
        (lab("down", "default", reason=fault("server.down")), []),
        (lab("wrong_server", "default", reason=fault("server.wrong")), []),
        (lab("loading", reason=fault("server.loading")), []),
        (lab("starting", "started", reason=fault("server.starting")), []),
        (lab("ready", warnings=(fault("server.other_dialect"),)), ["server.other_dialect"]),
        (lab("ready", "default", models=(FAILED, *MODELS)), ["model.failed"]),
        (lab("ready", models=(replace(FAILED, state="loaded"),)), []),
        (lab("ready", models=MODELS), []),
    ],
)
def test_problems_are_of_what_somebody_asked_for(endpoint: Endpoint, codes: list[str]) -> None:
    assert [problem.code for problem in problems(world(endpoint))] == codes


def test_the_configuration_is_taken_in_when_it_says_something_else() -> None:
    broken = fault("configuration.broken", path="/c", line=1, column=1, why="x")
    first = configure(world(), Configuration(path="/c", state="ok", loaded_at=1.0))
    assert first.generation == 8
    assert configure(first, Configuration(path="/c", state="ok", loaded_at=2.0)) is first
    second = configure(first, Configuration(path="/c", state="broken", error=broken, loaded_at=3.0))
    assert (second.generation, second.problems) == (9, (broken,))


outcomes = st.sampled_from([outcome for outcome, *_ in OUTCOMES])


@given(worlds.endpoints, outcomes, st.floats(0, 2e9), st.none() | st.booleans())
def test_no_look_at_any_endpoint_ever_fails_or_loses_it(
    before: Endpoint, outcome: Outcome, at: float, alive: bool | None
) -> None:
    now = Circumstances(at=at, process_alive=alive)
    found = observe(
        world(before), Observation(endpoint=before.name, at=at, outcome=outcome, circumstances=now)
    ).endpoints[0]
    assert (found.name, found.url, found.slot, found.process) == (
        before.name,
        before.url,
        before.slot,
        before.process,
    )
    assert found.state != "unknown"
    assert found.since is not None
    assert (found.reason is None) is (found.state in CALLABLE)


def test_what_the_daemon_cannot_do_is_a_problem_until_it_can() -> None:
    daemon = Daemon(version="1", pid=1, started_at=1.0, managed_by="client", socket="/s", id="i", boot="b")
    trouble = (fault("disk.full", path="/full"),)
    before = introduce(World(generation=1), daemon)
    after = complain(before, trouble)
    assert after.problems == trouble
    assert after.generation == before.generation + 1
    assert complain(after, trouble) is after
    assert complain(after, ()).problems == ()
    assert complain(World(generation=1), trouble).problems == ()


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://gpu-box:8080", "gpu-box"), ("http://gpu-box", "gpu-box"), ("http://[fe80::1]:80", "fe80::1")],
)
def test_a_name_that_cannot_be_resolved_is_named_without_its_port(url: str, host: str) -> None:
    endpoint = Endpoint(name="a", provider="ollama", url=url, source="configuration")
    seen = Observation(
        endpoint="a", at=1.0, outcome=NoAnswer(kind="dns"), circumstances=Circumstances(at=1.0)
    )
    reason = observe(World(generation=1, endpoints=(endpoint,)), seen).endpoints[0].reason
    assert reason is not None
    assert (reason.code, reason.fields["host"]) == ("server.dns", host)


def down_with(model: Model) -> Endpoint:
    return Endpoint(
        name="ollama", provider="ollama", url=URL, source="default", state="down", models=(model,)
    )


def test_what_a_server_said_of_a_model_is_kept_beside_what_its_files_say() -> None:
    said = Model(name="m", digest="1", state="unloaded", context=8192, capabilities=("completion", "tools"))
    known = down_with(said)
    on_disk = (Model(name="m", digest="1", state="unloaded", size=7), Model(name="n", digest="2"))
    after = shelve(World(generation=1, endpoints=(known,)), known.name, on_disk, 5.0).endpoints[0]
    assert after.models is not None
    assert (after.models[0].context, after.models[0].capabilities, after.models[0].size) == (
        8192,
        ("completion", "tools"),
        7,
    )
    assert after.models[1] == on_disk[1]


def test_another_model_of_the_same_name_is_another_model() -> None:
    said = Model(name="m", digest="1", context=8192)
    known = down_with(said)
    pulled = (Model(name="m", digest="2"),)
    after = shelve(World(generation=1, endpoints=(known,)), known.name, pulled, 5.0).endpoints[0]
    assert after.models == pulled
