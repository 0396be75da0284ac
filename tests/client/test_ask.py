"""The rule of belief, step by step and without any I/O but the files."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hived_client.doors.ask import MOMENT, REFUSED, Ask, Connect, Ensure, Options, Resolved, Step, ask
from hived_client.doors.files import Files
from hived_client.doors.paths import Places
from hived_client.doors.since_boot import since_boot_ns
from hived_client.errors import HivedError, NotReady, Refused, StartFailed, Unavailable
from hived_client.resolution import Question, Refusal, Target
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import ProviderKind, address
from hived_client.vocabulary.world import Model, World
from tests.client.publishing import listening, publish, write_beat, write_snapshot, young
from tests.client.worlds import STATES, endpoint, world

LAB = endpoint("lab", "vllm", "x", url="http://127.0.0.1:8000")
WORLD = world(LAB)
SLOW = Unavailable(fault("daemon.unresponsive", why="no answer within 0.25 s"))
GONE = Unavailable(fault("daemon.not_running"))


def given(
    where: Places,
    *script: object,
    model: str = "lab/x",
    private: bool | str = False,
    environment: dict[str, str] | None = None,
    pace: float = 0.0,
    **options: Any,
) -> tuple[Target | HivedError, list[Step]]:
    """Play a question to its end: each step gets the next word of the script.

    Each takes ``pace`` seconds, but no longer than it may.
    """
    steps: list[Step] = []
    words = list(script)
    now = 0.0
    question = Question(model=model, private=private)
    generator = ask(Files(where), question, Options(**options), environment or {}, lambda: now)
    try:
        step = next(generator)
        while True:
            steps.append(step)
            now += min(pace, step.timeout)
            word = words.pop(0)
            if callable(word):
                word = word()
            step = generator.throw(word) if isinstance(word, HivedError) else generator.send(word)
    except StopIteration as end:
        assert words == []
        target: Target = end.value
        return target, steps
    except HivedError as error:
        assert words == []
        return error, steps


def kinds(steps: list[Step]) -> list[str]:
    return [type(step).__name__ for step in steps]


def warned(target: Target | HivedError) -> list[str]:
    assert isinstance(target, Target), target
    return [each.code for each in target.warnings]


THEIRS = Target(model="hosted_vllm/z", api_base="http://theirs/v1", endpoint="lab", provider="vllm", name="z")
YES = Resolved(generation=2, target=THEIRS, age=0.5)
NO = Resolved(
    generation=2,
    refusal=Refusal(fault=fault("model.unknown", endpoint="lab", model="x"), alternatives=("a/b",)),
)


# The daemon lives


def test_a_yes_from_young_facts_is_the_answer_and_nothing_is_asked(where: Places) -> None:
    publish(where, WORLD)
    target, steps = given(where)
    assert isinstance(target, Target)
    assert steps == []
    assert target.api_base == "http://127.0.0.1:8000/v1"
    assert target.age == pytest.approx(0.0, abs=0.5)
    assert target.warnings == ()


def test_a_yes_from_old_facts_is_asked_again(where: Places) -> None:
    publish(where, WORLD, slots=young(1, 60.0))
    target, steps = given(where, YES)
    assert kinds(steps) == ["Ask"]
    assert isinstance(target, Target)
    assert (target.name, target.age) == ("z", 0.5)


def test_a_yes_from_facts_that_this_daemon_has_not_seen_is_asked_again(where: Places) -> None:
    publish(where, WORLD, slots=())
    assert kinds(given(where, YES)[1]) == ["Ask"]


def test_a_no_is_asked_again_and_can_become_a_yes(where: Places) -> None:
    publish(where, WORLD)
    target, steps = given(where, YES, model="lab/z")
    assert kinds(steps) == ["Ask"]
    assert isinstance(target, Target)


def test_a_no_that_stays_one_has_the_daemons_words(where: Places) -> None:
    publish(where, WORLD)
    error, _ = given(where, NO, model="lab/z")
    assert isinstance(error, NotReady)
    assert (error.code, error.alternatives) == ("model.unknown", ("a/b",))


def test_fresh_always_asks_and_says_so(where: Places) -> None:
    publish(where, WORLD)
    _, (step,) = given(where, YES, fresh=True, timeout=0.7)
    assert isinstance(step, Ask)
    assert (step.params.fresh, step.params.timeout, step.timeout) == (True, 0.7, 0.7)


def test_without_a_snapshot_the_daemon_is_asked(where: Places) -> None:
    write_beat(where)
    assert kinds(given(where, YES)[1]) == ["Ask"]
    error, _ = given(where, SLOW)
    assert isinstance(error, Unavailable)


@pytest.mark.parametrize(
    "failure", [SLOW, Unavailable(fault("draining")), Refused(fault("internal", method="resolve"))]
)
def test_a_daemon_that_does_not_answer_leaves_the_file_with_a_warning(
    where: Places, failure: HivedError
) -> None:
    publish(where, WORLD)
    target, steps = given(where, failure, fresh=True)
    assert kinds(steps) == ["Ask"]
    assert warned(target) == ["daemon.unresponsive"]
    assert isinstance(target, Target)
    assert target.warnings[0].message.count("hived does not answer") == 1
    assert not target.warnings[0].message.endswith(".).")


def test_old_facts_of_a_daemon_that_does_not_answer_are_called_old(where: Places) -> None:
    publish(where, WORLD, slots=young(1, 60.0))
    target, _ = given(where, SLOW)
    assert warned(target) == ["daemon.unresponsive", "facts.old"]
    assert isinstance(target, Target)
    assert target.age == pytest.approx(60.0, abs=1.0)


@pytest.mark.parametrize("private", [True, "lan"])
def test_old_facts_of_a_daemon_that_does_not_answer_are_no_answer_to_a_private_question(
    where: Places, private: bool | str
) -> None:
    publish(where, WORLD, slots=young(1, 600.0))
    error, _ = given(where, SLOW, private=private)
    assert isinstance(error, NotReady)
    assert (error.code, error.hint) == ("model.unwatched", "hived doctor")
    publish(where, WORLD, slots=young(1, 1.0))
    assert warned(given(where, SLOW, private=private, fresh=True)[0]) == ["daemon.unresponsive"]


def test_a_no_of_a_daemon_that_does_not_answer_is_the_files_no(where: Places) -> None:
    publish(where, WORLD)
    error, _ = given(where, SLOW, model="lab/z")
    assert isinstance(error, NotReady)
    assert (error.code, error.alternatives) == ("model.unknown", ("lab/x",))


@pytest.mark.parametrize(
    ("state", "fresh", "script", "code"),
    [
        ("down", False, (REFUSED,), "model.server_down"),
        ("down", True, (REFUSED,), "model.server_down"),
        ("down", True, (None,), "daemon.unresponsive"),  # somebody listens there now
        ("wrong_server", False, (), "server.wrong"),
        ("wrong_server", True, (), "daemon.unresponsive"),
        ("unreachable", True, (), "server.unreachable"),  # looking at it takes long, as it would
    ],
)
def test_a_no_of_the_file_that_nobody_confirms_is_said_only_while_it_holds(
    where: Places, state: Any, fresh: bool, script: tuple[object, ...], code: str
) -> None:
    publish(where, world(msgspec.structs.replace(LAB, state=state, reason=None)))
    error, steps = given(where, SLOW, *script, fresh=fresh)
    assert isinstance(error, HivedError)
    assert error.code == code
    assert kinds(steps) == ["Ask", *["Connect"] * len(script)]


def test_a_no_of_the_file_that_is_old_is_not_said(where: Places) -> None:
    unknown = world(msgspec.structs.replace(LAB, state="wrong_server", reason=None))
    publish(where, unknown, slots=young(1, 60.0))
    error, _ = given(where, SLOW)
    assert isinstance(error, Unavailable)
    assert error.code == "daemon.unresponsive"


def test_a_daemon_that_ended_while_it_was_asked_is_no_daemon(where: Places) -> None:
    publish(where, WORLD)
    broken = Unavailable(fault("protocol.broken", why="it was closed"))
    target, steps = given(where, broken, None, model="lab/new")
    assert kinds(steps) == ["Ask", "Connect"]
    assert warned(target) == ["daemon.absent", "model.unverified"]


def test_where_a_daemon_has_only_just_taken_over_nobody_knows_what_is_private(where: Places) -> None:
    publish(where, world(msgspec.structs.replace(LAB, state="down")))
    broken = Unavailable(fault("protocol.broken", why="it was closed"))
    with listening(where.socket):
        error, steps = given(where, broken, private=True)
    assert isinstance(error, HivedError)
    assert (error.code, kinds(steps)) == ("model.unwatched", ["Ask"])


def test_a_refusal_of_a_daemon_without_a_snapshot_is_ours_to_raise(where: Places) -> None:
    write_beat(where)
    error, _ = given(where, Refused(fault("internal", method="resolve")))
    assert isinstance(error, Unavailable)
    assert error.code == "internal"


def test_an_answer_that_is_neither_yes_nor_no_is_broken(where: Places) -> None:
    publish(where, WORLD)
    error, _ = given(where, Resolved(generation=1), fresh=True)
    assert isinstance(error, Unavailable)
    assert error.code == "protocol.broken"


def test_a_daemon_that_ended_after_its_last_beat_is_no_daemon(where: Places) -> None:
    publish(where, WORLD)
    target, steps = given(where, GONE, None, fresh=True)
    assert kinds(steps) == ["Ask", "Connect"]
    assert warned(target) == ["daemon.absent"]
    error, _ = given(where, GONE, REFUSED, fresh=True)
    assert isinstance(error, NotReady)
    assert error.code == "model.server_down"


@pytest.mark.parametrize("code", ["server.unwatched"])
def test_what_the_daemon_does_not_watch_is_tried_at_its_default_address(where: Places, code: str) -> None:
    publish(where, WORLD)
    target, steps = given(
        where, Resolved(generation=1, refusal=Refusal(fault=fault(code))), None, model="ollama/m"
    )
    assert steps[1] == Connect("127.0.0.1", 11434, 0.25)
    assert warned(target) == ["facts.none"]


def test_a_daemon_that_was_told_not_to_guess_is_not_guessed_around(where: Places) -> None:
    publish(where, WORLD)
    nowhere = Refusal(fault=fault("provider.nowhere", title="llama.cpp", start=""))

    error, steps = given(where, Resolved(generation=1, refusal=nowhere), model="llamacpp/m")

    assert isinstance(error, NotReady)
    assert error.code == "provider.nowhere"
    assert kinds(steps) == ["Ask"]


def test_what_the_daemon_finds_wrong_with_the_question_is_said_as_it_is(where: Places) -> None:
    publish(where, WORLD)
    problem = Refused(fault("params.invalid", method="resolve", why="no"))

    error, _ = given(where, problem, fresh=True)

    assert isinstance(error, Refused)
    assert error.code == "params.invalid"


def test_start_starts_a_daemon_whose_last_beat_was_still_young(where: Places) -> None:
    publish(where, WORLD)
    answer = Resolved(generation=2, refusal=Refusal(fault=fault("server.down", title="t", url="u")))

    error, steps = given(where, GONE, None, answer, fresh=True, start=True)

    assert kinds(steps) == ["Ask", "Ensure", "Ask"]
    assert isinstance(error, NotReady)
    assert error.code == "server.down"


def test_what_only_accepts_a_connection_is_not_called_ready(where: Places) -> None:
    write_snapshot(where, WORLD, path=where.last_known)

    target, _ = given(where, None)

    assert isinstance(target, Target)
    assert target.state == "unknown"


# No daemon


def test_without_a_daemon_the_last_known_facts_are_tried_once(where: Places) -> None:
    write_snapshot(where, WORLD, path=where.last_known)
    target, steps = given(where, None, timeout=0.5)
    assert steps == [Connect("127.0.0.1", 8000, 0.5)]
    assert warned(target) == ["daemon.absent"]
    assert isinstance(target, Target)
    assert target.age is None


@pytest.mark.parametrize(
    ("why", "code"), [(REFUSED, "model.server_down"), ("no route", "server.unreachable")]
)
def test_a_server_that_does_not_accept_is_down(where: Places, why: str, code: str) -> None:
    other = endpoint("gpu", "vllm", "x", url="http://gpu:1", slot=1)
    write_snapshot(where, world(LAB, other), path=where.last_known)
    error, _ = given(where, why)
    assert isinstance(error, NotReady)
    assert (error.code, error.alternatives) == (code, ("gpu/x",))
    assert "?" not in error.message


def test_a_server_of_a_kind_that_only_the_daemon_knew_is_down_too(where: Places) -> None:
    write_snapshot(where, world(endpoint("lab", "unheard_of", "x")), path=where.last_known)
    error, _ = given(where, REFUSED)
    assert isinstance(error, NotReady)
    assert (error.code, error.message) == (
        "model.server_down",
        "'x' is there, but unheard_of is not running at http://127.0.0.1:8080.",
    )


@pytest.mark.parametrize("state", STATES)
def test_what_was_down_may_be_up_again_and_a_connection_tells(where: Places, state: Any) -> None:
    old = endpoint("lab", "vllm", "x", state=state, reason=fault("server.down", title="T", url="u"))
    write_snapshot(where, world(old), path=where.last_known)
    if state in ("wrong_server", "unauthorised"):
        error, steps = given(where)
        assert isinstance(error, NotReady)
        assert steps == []
    else:
        assert warned(given(where, None)[0])[-1] == "daemon.absent"


LOCKED = msgspec.structs.replace(
    LAB,
    state="unauthorised",
    key_ref="LAB_KEY",
    reason=fault("server.key_unset", title="vLLM", url="u", variable="LAB_KEY"),
)
CLOSED = Resolved(generation=2, refusal=Refusal(fault=LOCKED.reason or fault("internal"), endpoint="lab"))
KEYED = {"LAB_KEY": "sesame"}


@pytest.mark.parametrize(
    ("models", "private", "warnings"),
    [
        (LAB.models, False, []),
        (LAB.models, True, []),
        (None, False, ["model.unverified"]),
        ((), False, ["model.unverified"]),
        ((Model(name="another"),), False, ["model.unverified"]),
    ],
)
def test_who_has_the_key_that_hived_has_not_is_not_refused_for_that(
    where: Places, models: tuple[Model, ...] | None, private: bool, warnings: list[str]
) -> None:
    publish(where, world(msgspec.structs.replace(LOCKED, models=models)))
    target, steps = given(where, CLOSED, None, environment=KEYED, private=private)
    assert kinds(steps) == ["Ask", "Connect"]
    assert warned(target) == warnings
    assert isinstance(target, Target)
    assert (target.api_key, target.name, target.state) == ("sesame", "x", "unknown")


def test_a_model_behind_a_key_that_nobody_has_seen_is_not_private(where: Places) -> None:
    publish(where, world(msgspec.structs.replace(LOCKED, models=None)))
    error, _ = given(where, CLOSED, environment=KEYED, private=True)
    assert isinstance(error, NotReady)
    assert error.code == "model.remote"


@pytest.mark.parametrize("reason", ["server.unauthorised", "server.key_withheld"])
def test_a_key_that_is_not_taken_or_not_to_be_sent_opens_nothing(where: Places, reason: str) -> None:
    closed = fault(reason, title="vLLM", url="u", variable="LAB_KEY", key_ref="LAB_KEY")
    publish(where, world(msgspec.structs.replace(LOCKED, reason=closed)))
    no = Resolved(generation=2, refusal=Refusal(fault=closed, endpoint="lab"))
    error, steps = given(where, no, environment=KEYED)
    assert isinstance(error, NotReady)
    assert (error.code, kinds(steps)) == (reason, ["Ask"])


def test_who_has_the_key_is_not_refused_when_hived_has_ended_either(where: Places) -> None:
    write_snapshot(where, world(LOCKED), path=where.last_known)
    target, steps = given(where, None, environment=KEYED)
    assert kinds(steps) == ["Connect"]
    assert warned(target) == ["daemon.absent"]


def test_who_has_the_key_does_not_know_either_where_the_model_of_a_daemon_that_has_just_ended_runs(
    where: Places,
) -> None:
    publish(where, world(LOCKED))
    error, steps = given(where, GONE, environment=KEYED, private=True)
    assert isinstance(error, NotReady)
    assert (error.code, kinds(steps)) == ("model.unwatched", ["Ask"])


@pytest.mark.parametrize("state", ["loading", "downloading", "failed"])
def test_what_a_dead_daemon_last_saw_of_a_load_does_not_last_for_ever(where: Places, state: Any) -> None:
    old = endpoint("lab", "vllm", "x", state="ready")
    models = tuple(msgspec.structs.replace(model, state=state, progress=0.5) for model in old.models or ())
    write_snapshot(where, world(msgspec.structs.replace(old, models=models)), path=where.last_known)

    assert warned(given(where, None)[0])[-1] == "daemon.absent"


DEFAULTS = [
    ("ollama/m", "ollama_chat/m", "http://127.0.0.1:11434", 11434),
    ("vllm/m", "hosted_vllm/m", "http://127.0.0.1:8000/v1", 8000),
    ("lm_studio/m", "lm_studio/m", "http://127.0.0.1:1234/v1", 1234),
    ("llamacpp/m", "openai/m", "http://127.0.0.1:8080/v1", 8080),
]


@pytest.mark.parametrize(("written", "model", "base", "port"), DEFAULTS)
def test_with_nothing_known_the_default_address_is_tried(
    where: Places, written: str, model: str, base: str, port: int
) -> None:
    target, steps = given(where, None, model=written)
    assert steps == [Connect("127.0.0.1", port, 0.25)]
    assert isinstance(target, Target)
    assert (target.model, target.api_base) == (model, base)
    assert warned(target) == ["daemon.absent", "facts.none"]
    error, _ = given(where, REFUSED, model=written)
    assert isinstance(error, NotReady)
    assert error.code == "server.down"


@pytest.mark.parametrize("private", [True, "lan", ""])
@pytest.mark.parametrize("model", ["ollama/m", "lab/never-seen"])
def test_a_private_question_is_never_answered_with_what_nobody_has_seen(
    where: Places, private: bool | str, model: str
) -> None:
    write_snapshot(where, WORLD, path=where.last_known)
    error, steps = given(where, model=model, private=private)
    assert isinstance(error, NotReady)
    assert error.code == "model.remote"
    assert steps == []


@pytest.mark.parametrize(
    ("model", "code"),
    [("nobody/x", "provider.unknown"), ("x", "model.unnamed"), ("openai_compatible/x", "provider.nowhere")],
)
def test_what_has_no_default_address_is_a_no(where: Places, model: str, code: str) -> None:
    error, steps = given(where, model=model)
    assert isinstance(error, NotReady)
    assert error.code == code
    assert steps == []


def test_a_model_that_was_not_known_may_be_there_by_now(where: Places) -> None:
    write_snapshot(where, WORLD, path=where.last_known)
    assert warned(given(where, None, model="lab/new")[0]) == ["daemon.absent", "model.unverified"]


@pytest.mark.parametrize("url", ["", "/v1", " "])
def test_a_last_known_endpoint_without_an_address_is_never_called(where: Places, url: str) -> None:
    bad = endpoint("lab", "vllm", "x", url=url)
    write_snapshot(where, world(bad), path=where.last_known)
    for model in ("lab/x", "lab/new"):
        error, steps = given(where, model=model)
        assert isinstance(error, NotReady)
        assert steps == []


# Starting, verifying, keys


def test_the_daemon_is_started_only_when_that_is_asked_for(where: Places) -> None:
    choices: list[dict[str, Any]] = [{}, {"fresh": True}, {"verify": True}]
    for options in choices:
        _, steps = given(where, REFUSED, model="ollama/m", **options)
        assert "Ensure" not in kinds(steps)
    publish(where, WORLD)
    assert given(where, start=True)[1] == []


def test_without_a_daemon_a_private_question_is_refused_before_anybody_is_called(where: Places) -> None:
    write_snapshot(where, WORLD, path=where.last_known)
    for private in (True, "lan"):
        error, steps = given(where, private=private)
        assert isinstance(error, NotReady)
        assert (error.code, error.hint, steps) == ("model.unwatched", "hived serve", [])


def test_a_daemon_that_was_started_is_asked(where: Places) -> None:
    target, steps = given(where, lambda: publish(where, WORLD), start=True)
    assert steps == [Ensure(120.0)]
    assert isinstance(target, Target)


def test_a_daemon_that_does_not_start_is_the_answer(where: Places) -> None:
    error, _ = given(where, StartFailed(fault("daemon.start_failed", why="x")), start=True)
    assert isinstance(error, StartFailed)


@pytest.mark.parametrize(("why", "code"), [(REFUSED, "server.down"), ("no route", "server.unreachable")])
def test_verify_connects_once_before_it_says_yes(where: Places, why: str, code: str) -> None:
    publish(where, WORLD)
    assert given(where, None, verify=True)[1] == [Connect("127.0.0.1", 8000, 0.25)]
    error, _ = given(where, why, verify=True)
    assert isinstance(error, NotReady)
    assert error.code == code


def test_all_steps_of_a_question_together_have_its_time_and_the_last_a_moment(where: Places) -> None:
    publish(where, WORLD, slots=young(1, 60.0))
    _, steps = given(where, YES, None, verify=True, timeout=1.0, pace=0.75)
    assert [step.timeout for step in steps] == [1.0, 0.25]
    _, steps = given(where, YES, None, verify=True, timeout=1.0, pace=9.0)
    assert [step.timeout for step in steps] == [1.0, MOMENT]


def test_what_is_started_has_its_time_once(where: Places) -> None:
    publish(where, world(msgspec.structs.replace(LAB, state="down", slot=0)))
    down = Resolved(generation=2, refusal=Refusal(fault=fault("server.down"), endpoint="lab"))
    _, steps = given(
        where, GONE, None, down, None, YES, None, start=True, verify=True, timeout=5.0, patience=5.0, pace=1.0
    )
    assert [(type(step).__name__, step.timeout) for step in steps] == [
        ("Ask", 5.0),
        ("Ensure", 4.0),
        ("Ask", 3.0),
        ("Start", 2.0),
        ("Ask", 1.0),
        ("Connect", MOMENT),
    ]


def test_verify_names_a_server_of_a_plug_in_by_its_row(where: Places) -> None:
    names: dict[str, Any] = {"name": "toy", "title": "Toy Server", "prefixes": ("toy",)}
    row = ProviderKind(**names, litellm="openai", api_path="/toys", start="toy serve")
    publish(where, world(endpoint("toy", "toy", "x", url="http://127.0.0.1:7333"), kinds=(row,)))
    error, _ = given(where, REFUSED, model="toy/x", verify=True)
    assert isinstance(error, NotReady)
    assert str(error) == "Toy Server is not running at http://127.0.0.1:7333. → toy serve"


def test_a_key_comes_from_the_callers_environment_alone(
    where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", "sk-of-the-process")
    keyed = endpoint("lab", "vllm", "x", key_ref="LAB_KEY")
    publish(where, world(keyed))
    target, _ = given(where, environment={"LAB_KEY": "sk-secret"})
    assert isinstance(target, Target)
    assert target.completion_kwargs()["api_key"] == "sk-secret"
    assert "sk-" not in repr(target) + msgspec.json.encode(target.shown()).decode()
    target, _ = given(where)
    assert isinstance(target, Target)
    assert target.api_key == "sk-no-key-required"
    theirs = msgspec.structs.replace(THEIRS, api_base="http://10.0.0.7/v1", key_ref="LAB_KEY")
    target, _ = given(
        where, Resolved(generation=1, target=theirs), environment={"LAB_KEY": "sk-secret"}, fresh=True
    )
    assert isinstance(target, Target)
    assert target.api_key == "sk-secret"


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://127.0.0.1:4000", True),
        ("http://10.0.0.7:4000", True),
        ("https://gateway.example", True),
        ("http://8.8.8.8:4000", False),
        ("http://gateway.example", False),
    ],
)
def test_a_key_is_not_handed_out_for_a_call_in_the_clear_to_the_internet(
    where: Places, url: str, sent: bool
) -> None:
    publish(where, world(endpoint("gw", "openai_compatible", "x", url=url, key_ref="GW_KEY", locality=None)))
    target, _ = given(where, model="gw/x", environment={"GW_KEY": "sk-secret"})
    assert isinstance(target, Target)
    assert (target.api_key == "sk-secret") is (target.key_ref == "GW_KEY") is sent
    assert warned(target) == ([] if sent else ["server.key_withheld"])


def test_what_one_caller_does_with_an_answer_does_not_reach_the_next(where: Places) -> None:
    publish(where, world(endpoint("lab", "ollama", Model(name="x", loaded_context=4096))))
    files = Files(where)

    def once() -> Target:
        with pytest.raises(StopIteration) as end:
            next(ask(files, Question(model="lab/x"), Options(), {}))
        assert isinstance(end.value.value, Target)
        return end.value.value

    first = once()
    first.extra["num_ctx"] = 1
    first.facts.clear()
    assert once().extra == {"num_ctx": 4096}
    assert once().facts


ADDRESSES = [
    ("http://h:1/v1", ("h", 1)),
    ("http://h", ("h", 80)),
    ("https://h/v1", ("h", 443)),
    ("http://[::1]:8080/v1", ("::1", 8080)),
    ("http://[::1]", ("::1", 80)),
    ("http://user:pw@h:5", ("h", 5)),
    ("http://h:99999", ("h", 80)),
    ("http://h:²", ("h", 80)),
    ("http://h:", ("h", 80)),
    ("", ("", 80)),
]


@pytest.mark.parametrize(("url", "expected"), ADDRESSES)
def test_an_address_is_read_from_any_url(url: str, expected: tuple[str, int]) -> None:
    assert address(url) == expected


def test_an_empty_world_and_a_dead_boot_are_no_reason_to_fail(where: Places) -> None:
    publish(where, World(generation=1), slots=((int(since_boot_ns() + 1e15), 1, 1),))
    error, _ = given(where, NO)
    assert isinstance(error, NotReady)


def test_a_proxy_that_takes_the_call_is_told_with_the_answer_and_once(where: Places) -> None:
    publish(where, WORLD)
    environment = {"HTTP_PROXY": "http://me:secret@proxy:1"}
    for _ in range(2):
        steps = ask(Files(where), Question(model="lab/x"), Options(), environment)
        with pytest.raises(StopIteration) as end:
            next(steps)
        target = end.value.value
        assert warned(target) == ["proxy.hijacks"]
        assert "secret" not in repr(msgspec.structs.asdict(target))
    assert warned(given(where, environment=environment, direct=True)[0]) == []
    steps = ask(Files(where), Question(model="lab/x"), Options(), environment | {"NO_PROXY": "127.0.0.1"})
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert warned(end.value.value) == []


@pytest.mark.parametrize("private", [True, "lan"])
def test_a_private_question_is_refused_where_a_proxy_takes_the_call(
    where: Places, private: bool | str
) -> None:
    publish(where, WORLD)
    environment = {"HTTP_PROXY": "http://proxy:1"}
    error, _ = given(where, private=private, environment=environment)
    assert isinstance(error, NotReady)
    assert (error.code, error.hint) == ("proxy.hijacks", "export NO_PROXY=localhost,127.0.0.1,::1")
    kept = environment | {"NO_PROXY": "127.0.0.1"}
    for options in ({"environment": kept}, {"environment": environment, "direct": True}):
        assert warned(given(where, private=private, **options)[0]) == []
