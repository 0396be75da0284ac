"""What can be asked on the socket."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from hived.machine.ports import free_port
from hived_client.doors.wire import FEATURES
from hived_client.errors import NotReady, Refused, Unavailable
from tests.daemon.running import A_CADENCE, DEADLINE, Running, configure, llamacpp_at, wait_prompt, wait_until
from tests.servers.llamacpp import ALIAS, LlamaCpp
from tests.servers.loopback import Reply, Request
from tests.servers.strangers import LyingLlamaCpp, Silent


def test_a_no_is_looked_at_again_before_it_is_said(environment: dict[str, str]) -> None:
    port = free_port("127.0.0.1")
    configure(environment, llamacpp_at(f"http://127.0.0.1:{port}"))
    with Running(environment) as daemon:
        wait_until(lambda: daemon.client.world().world.endpoints[0].state == "down")
        with LyingLlamaCpp(port=port):
            assert daemon.client.resolve("llamacpp/m").name == "m"
        with pytest.raises(NotReady):
            daemon.client.resolve("llamacpp/m", fresh=True)


@pytest.mark.stress
def test_a_silent_server_costs_a_question_no_more_than_its_timeout(environment: dict[str, str]) -> None:
    with Silent() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "unreachable")

            def ask(fresh: bool) -> None:
                with pytest.raises(NotReady):
                    daemon.client.resolve("llamacpp/m", timeout=0.3, fresh=fresh)

            def refresh() -> bool:
                begun = time.monotonic()
                with contextlib.suppress(Unavailable):  # the daemon may itself be late
                    return daemon.client.refresh(timeout=0.1) > 0 and time.monotonic() - begun < 1.0
                return False

            wait_prompt(lambda: ask(True), 1.0)
            wait_prompt(lambda: ask(False), 1.0)
            wait_until(refresh)


class Held(LyingLlamaCpp):
    """Answers only while it may."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()

    def answer(self, request: Request) -> Reply:
        self.go_on.wait(DEADLINE)
        return super().answer(request)

    def closed(self) -> None:
        self.go_on.set()
        super().closed()


@pytest.mark.stress
def test_many_that_ask_at_once_share_one_look(environment: dict[str, str]) -> None:
    with Held() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            before = len(server.requests)
            server.go_on.clear()
            threads = [threading.Thread(target=daemon.another().refresh) for _ in range(20)]
            for thread in threads:
                thread.start()
            wait_until(lambda: daemon.client.statistics()["server"]["connections"] > len(threads))
            server.go_on.set()
            for thread in threads:
                thread.join(60.0)
            # A look is up to three requests; those who come during one share the next.
            assert len(server.requests) - before <= 3 * 20 // 2


def test_every_feature_is_a_method_and_statistics_tell_of_every_part(environment: dict[str, str]) -> None:
    configure(environment)
    with Running(environment) as daemon:
        counted = daemon.client.statistics()
        assert set(counted) >= {"store", "publisher", "server", "supervisor", "monitors", "jobs", "http"}
        assert daemon.client.greet().features == FEATURES
        with pytest.raises(Refused) as caught:
            daemon.client.refresh("nobody")
        assert caught.value.code == "provider.unknown"
        daemon.client.retire()
        assert daemon.process.wait(60.0) == 0


def refused_in_time(daemon: Running, model: str) -> str:
    """Return the code with which a question that has less time than a look is refused by the daemon."""

    def refused() -> str:
        try:
            target = daemon.client.resolve(model, fresh=True, timeout=0.2)
        except NotReady as no:
            return no.code
        # The daemon itself was late, and the files have answered.
        assert [warning.code for warning in target.warnings] == ["daemon.unresponsive"]
        return ""

    return wait_until(refused)


@pytest.mark.stress
def test_a_new_look_that_was_asked_for_and_did_not_end_is_no_yes(environment: dict[str, str]) -> None:
    with LlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            server.stop_process()
            assert refused_in_time(daemon, f"llamacpp/{ALIAS}") in ("deadline", "server.silent")
            server.continue_process()


def test_a_new_look_that_was_asked_for_and_did_not_end_is_no_old_no_either(
    environment: dict[str, str],
) -> None:
    with Silent() as server:
        port = server.port
    configure(environment, llamacpp_at(f"http://127.0.0.1:{port}"))
    with Running(environment) as daemon:
        daemon.client.refresh()
        with Silent(port=port):
            assert refused_in_time(daemon, "llamacpp/m") in ("deadline", "server.silent")


def test_who_asks_in_a_loop_for_what_is_not_there_is_no_load_for_the_server(
    environment: dict[str, str],
) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            began, before = time.monotonic(), len(server.requests)
            for _ in range(50):
                with pytest.raises(NotReady):
                    daemon.client.resolve("llamacpp/nosuch")
            looks = 2 + int((time.monotonic() - began) / 0.25)
            assert len(server.requests) - before <= 3 * looks


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_asks_for_a_look_at_once_gets_one_and_finds_it_in_the_files(
    environment: dict[str, str], backend: str
) -> None:
    with LyingLlamaCpp() as first, LyingLlamaCpp() as second:
        configure(environment, llamacpp_at(first.url))
        with Running(environment, backend=backend) as daemon:
            daemon.client.refresh()
            assert [e.state for e in daemon.another().world().world.endpoints] == ["ready"]
            for server in (second, first, second):
                configure(environment, llamacpp_at(server.url))
                daemon.client.reload()
                assert [e.url for e in daemon.another().world().world.endpoints] == [server.url]
                generation = daemon.client.refresh()
                world = daemon.another().world().world
                assert [e.state for e in world.endpoints] == ["ready"]
                assert world.generation >= generation


def test_another_name_of_the_same_server_calls_it_too(environment: dict[str, str]) -> None:
    with LyingLlamaCpp() as server:
        entry = {"like": "llamacpp", "api_base": server.url}
        configure(environment, {"lab": entry, "Work": entry})
        with Running(environment) as daemon:
            daemon.client.refresh("Work")
            for name in ("lab", "Work", "work"):
                found = daemon.client.resolve(f"{name}/m")
                assert (found.endpoint, found.name) == ("lab", "m")
            assert daemon.client.world().world.problems == ()
            daemon.terminate()
            assert daemon.another().resolve("work/m").endpoint == "lab"


@pytest.mark.stress
def test_many_that_ask_at_once_for_what_has_just_come_cost_its_server_one_look(
    environment: dict[str, str],
) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            # The process behind the port is found in a thread, which is cause for a look of its own.
            wait_until(lambda: "'watched': True" in str(daemon.client.statistics()["monitors"]))
            rested = time.monotonic()
            daemon.client.refresh()
            time.sleep(0.5)  # until a no of just now has no more weight
            server.props, server.models = (b.replace(b'"m"', b'"n"') for b in (server.props, server.models))
            before, found = len(server.requests), []
            clients = [daemon.another() for _ in range(30)]
            threads = [
                threading.Thread(target=lambda c=c: found.append(c.resolve("llamacpp/n").name))
                for c in clients
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60.0)
            assert found == ["n"] * 30
            looks = 1 + int((time.monotonic() - rested) / A_CADENCE)
            asked = [path for _, path in server.requests[before:]]
            assert asked[:3] == ["/health", "/props", "/v1/models"]
            assert len(asked) <= 3 * looks
