"""The blocking client, against a daemon that says what it is told to."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hived_client.doors.ask import NO_NAME, REFUSED, Connect
from hived_client.doors.paths import Places
from hived_client.doors.sync import CALL_TIMEOUT, MOST_KEPT, Client, Connection, connect
from hived_client.doors.wire import Nothing, Progress
from hived_client.errors import NotReady, Refused, Unavailable
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Change
from tests.client.conversations import (
    BEGUN,
    CHANGES,
    EVERYTHING,
    GARBAGE,
    TARGET,
    hangs_up,
    lagged,
    no,
    not_started,
    refreshed,
    silent,
    yes,
)
from tests.client.fake_daemon import FakeDaemon, failure, fake_daemon, result
from tests.client.publishing import publish, write_beat
from tests.client.worlds import endpoint, world


@pytest.fixture
def daemon(where: Places) -> Iterator[FakeDaemon]:
    with FakeDaemon(where, dict(EVERYTHING)) as running:
        yield running


@pytest.fixture
def client(where: Places) -> Iterator[Client]:
    with Client(where, environment={}) as made:
        yield made


def test_every_verb_has_its_answer(daemon: FakeDaemon, client: Client, where: Places) -> None:
    write_beat(where)
    assert client.resolve("lab/x").name == TARGET.name
    assert client.refresh() == 42
    assert client.refresh("lab") == 42
    assert client.reload() == 42
    assert client.statistics() == {"questions": 7}
    assert client.stop("started").endpoints == {"started": "ended"}
    client.retire()
    assert client.greet().pid == os.getpid()
    assert [method for method, _ in daemon.asked] == [
        "resolve",
        "refresh",
        "refresh",
        "reload",
        "statistics",
        "stop",
        "retire",
    ]


def test_a_connection_is_kept_and_used_again(daemon: FakeDaemon, client: Client) -> None:
    for _ in range(5):
        client.refresh()
    assert daemon.accepted == 1
    assert "1 connections" in repr(client)
    client.close()
    client.refresh()
    assert daemon.accepted == 2


def test_a_connection_is_kept_after_a_fault_too(daemon: FakeDaemon, client: Client) -> None:
    daemon.methods["refresh"] = lambda params: [failure(fault("params.invalid", method="refresh", why="x"))]
    for _ in range(2):
        with pytest.raises(Refused) as error:
            client.refresh()
        assert error.value.code == "params.invalid"
    assert daemon.accepted == 1


def test_a_method_that_the_daemon_does_not_know_is_refused(client: Client, where: Places) -> None:
    with fake_daemon(where), pytest.raises(Refused) as error:
        client.refresh()
    assert error.value.code == "method.unknown"


def test_a_daemon_that_was_restarted_is_found_again(client: Client, where: Places) -> None:
    for _ in range(3):
        with fake_daemon(where, refresh=refreshed) as running:
            assert client.refresh() == 42
            assert client.refresh() == 42
            assert running.accepted == 1
    with pytest.raises(Unavailable) as error:
        client.refresh()
    assert error.value.code == "daemon.not_running"


def test_what_ends_something_is_never_said_twice(daemon: FakeDaemon, client: Client) -> None:
    daemon.methods |= {"retire": hangs_up, "stop": hangs_up}
    client.refresh()
    calls: list[Callable[[], object]] = [client.retire, lambda: client.stop("x")]
    for call in calls:
        with pytest.raises(Unavailable):
            call()
    assert [method for method, _ in daemon.asked] == ["refresh", "retire", "stop"]


def test_a_daemon_that_never_answers_costs_no_more_than_the_deadline(
    daemon: FakeDaemon, client: Client
) -> None:
    daemon.methods["statistics"] = silent
    before = time.monotonic()
    with pytest.raises(Unavailable) as error:
        client.statistics(timeout=0.1)
    assert 0.09 < time.monotonic() - before < CALL_TIMEOUT
    assert error.value.code == "daemon.unresponsive"
    assert "0 connections" in repr(client)
    daemon.methods["statistics"] = EVERYTHING["statistics"]
    assert client.statistics() == {"questions": 7}


def test_a_daemon_that_never_greets_costs_no_more_than_the_deadline(client: Client, where: Places) -> None:
    with fake_daemon(where, greeting=b"\0", statistics=silent):
        for call in (client.greet, client.statistics):
            with pytest.raises(Unavailable) as error:
                call(timeout=0.05)
            assert error.value.code == "daemon.unresponsive"


def test_what_takes_minutes_is_not_waited_for_where_nobody_greets(
    client: Client, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hived_client.doors.sync.CALL_TIMEOUT", 0.05)
    calls: list[Callable[[], object]] = [
        lambda: client.stop("x", grace=-99.0),  # beside its own hundred
        lambda: list(client.start("ollama", timeout=-4.0)),
        lambda: client.hardware(timeout=1.0),
    ]
    with fake_daemon(where, greeting=b"\0"):
        for call in calls:
            with pytest.raises(Unavailable) as error:
                call()
            assert error.value.message == "hived does not answer (no hello within 0.05 s)."


def test_a_question_that_is_not_answered_in_time_has_the_files_answer(
    daemon: FakeDaemon, client: Client, where: Places
) -> None:
    publish(where, world(endpoint("lab", "vllm", "x")))
    daemon.methods["resolve"] = silent
    target = client.resolve("lab/x", fresh=True, timeout=0.05)
    assert [each.code for each in target.warnings] == ["daemon.unresponsive"]


def test_young_facts_need_no_connection(daemon: FakeDaemon, client: Client, where: Places) -> None:
    publish(where, world(endpoint("lab", "vllm", "x")))
    for needs in ((), {"tools"}, frozenset({"tools"})):
        assert client.resolve("lab/x", needs=needs).api_base == "http://127.0.0.1:8080/v1"
    assert daemon.accepted == 0
    assert client.world().verdict == "fresh"


def test_a_no_is_raised_with_its_fault(daemon: FakeDaemon, client: Client, where: Places) -> None:
    write_beat(where)
    daemon.methods["resolve"] = no
    with pytest.raises(NotReady) as error:
        client.resolve("lab/x")
    assert error.value.code == "server.down"


@pytest.mark.parametrize("model", ["lab/\udcff", "\udcff", "vllm/\udcff"])
def test_half_a_character_is_a_no_and_not_a_crash(
    daemon: FakeDaemon, client: Client, where: Places, model: str
) -> None:
    publish(where, world(endpoint("lab", "vllm", "x")))
    with pytest.raises(Refused) as error:
        client.resolve(model)
    assert error.value.code == "question.invalid"


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_unavailable(client: Client, where: Places, garbage: bytes) -> None:
    with fake_daemon(where, greeting=garbage, refresh=refreshed), pytest.raises(Unavailable) as error:
        client.refresh(timeout=60.0)
    assert error.value.code == "protocol.broken"
    with fake_daemon(where, refresh=lambda params: [garbage]):
        with pytest.raises(Unavailable):
            client.refresh(timeout=0.2)
        assert "0 connections" in repr(client)


@pytest.mark.parametrize("value", [{"generation": "x"}, None, [], {}])
def test_a_result_of_another_shape_is_broken(client: Client, where: Places, value: object) -> None:
    with fake_daemon(where, refresh=lambda params: [result(value)]), pytest.raises(Unavailable) as error:
        client.refresh()
    assert error.value.code == "protocol.broken"


def test_without_a_daemon_every_verb_says_so(client: Client, where: Places) -> None:
    calls: list[Callable[[], object]] = [
        client.refresh,
        client.reload,
        client.statistics,
        client.retire,
        client.greet,
        lambda: client.stop("x"),
        lambda: list(client.events()),
        lambda: list(client.start("llamacpp")),
    ]
    for folder in (False, True):
        if folder:
            write_beat(where)
        for call in calls:
            with pytest.raises(Unavailable) as error:
                call()
            assert error.value.code == "daemon.not_running"
            assert error.value.hint == "hived serve"


def test_a_socket_in_a_folder_that_others_may_write_to_is_not_spoken_to(
    daemon: FakeDaemon, client: Client
) -> None:
    Path(daemon.where.folder).chmod(0o777)
    with pytest.raises(Unavailable) as error:
        client.refresh()
    assert error.value.code == "runtime.unsafe"
    assert daemon.accepted == 0


def collect(changes: Iterator[Change]) -> tuple[list[Change], Unavailable]:
    found: list[Change] = []
    with pytest.raises(Unavailable) as error:
        found.extend(changes)  # what came before the error stays
    return found, error.value


def test_events_come_even_when_they_come_with_the_subscription(daemon: FakeDaemon, client: Client) -> None:
    found, error = collect(client.events())
    assert found == CHANGES
    assert error.code == "protocol.broken"


def test_a_reader_that_was_too_slow_is_told(daemon: FakeDaemon, client: Client) -> None:
    daemon.methods["subscribe"] = lagged
    found, error = collect(client.events())
    assert (found, error.code) == (CHANGES[:1], "lagged")


def test_a_start_tells_how_far_it_is_and_what_was_begun(daemon: FakeDaemon, client: Client) -> None:
    *way, last = client.start("llamacpp", model="/m.gguf", port=0, arguments=("--x",))
    assert [each.stage for each in way if isinstance(each, Progress)] == ["spawned", "loading"]
    assert last == BEGUN
    assert daemon.asked == [
        (
            "start",
            {"provider": "llamacpp", "model": "/m.gguf", "port": 0, "arguments": ["--x"], "timeout": 600.0},
        )
    ]


def test_a_start_that_fails_is_refused_after_its_progress(daemon: FakeDaemon, client: Client) -> None:
    daemon.methods["start"] = not_started
    stream = client.start("llamacpp")
    assert isinstance(next(stream), Progress)
    with pytest.raises(Refused) as error:
        next(stream)
    assert error.value.hint == "less /l"


def test_eight_threads_share_a_client(daemon: FakeDaemon, client: Client, where: Places) -> None:
    write_beat(where)
    daemon.methods["refresh"] = lambda params: [result({"generation": int(params["endpoint"])})]
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(40):
            found = client.refresh(str(number))
            if found != number or client.resolve("lab/x").name != "z":
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert daemon.accepted < 60
    assert len(client._kept) <= MOST_KEPT + 8


def test_after_a_fork_the_parents_connection_is_left_alone(daemon: FakeDaemon, client: Client) -> None:
    client.refresh()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, str(client.refresh()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"42"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert daemon.accepted == 2
    assert client.refresh() == 42
    assert daemon.accepted == 2


def test_a_greeting_may_come_before_the_first_call(daemon: FakeDaemon, where: Places) -> None:
    with Connection(where, 1.0) as connection:
        assert connection.welcome is None
        assert connection.greet(1.0).managed_by == "foreground"
        assert connection.call("statistics", Nothing(), dict[str, Any], 1.0) == {"questions": 7}
        assert "greeted" in repr(connection)


def test_a_connection_to_a_server_says_how_it_went() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connect(Connect("127.0.0.1", port, 60.0)) is None
    assert connect(Connect("127.0.0.1", port, 60.0)) == REFUSED
    assert connect(Connect("localhost", port, 60.0)) == REFUSED


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "a\0b"])
def test_what_is_no_name_of_a_host_is_no_crash(host: str) -> None:
    assert connect(Connect(host, 80, 60.0)) in (NO_NAME, "Name or service not known")


def test_out_of_descriptors_a_connection_is_unavailable(
    daemon: FakeDaemon, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as full:
        full.setattr(socket, "socket", none_left)
        with pytest.raises(Unavailable, match="Too many open files"):
            Connection(where, 1.0)


def test_a_name_that_is_looked_up_for_long_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def look_up(*_: object) -> list[object]:
        answered.wait(600.0)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert connect(Connect("gpu", 80, 0.05)) == "no connection within 0.05 s"
    answered.set()


def test_the_daemon_is_started_where_this_environment_says(
    where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hived_client.doors import launch

    asked: list[Places] = []

    def start(places: Places, *, timeout: float) -> None:
        asked.append(places)
        write_beat(places)

    monkeypatch.setattr(launch, "ensure_running", start)
    with fake_daemon(where, resolve=yes), Client(where, environment={}) as client:
        assert client.resolve("lab/x", start=True).name == "z"
    assert asked == [where]
