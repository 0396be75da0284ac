"""What can be asked on the socket."""

from __future__ import annotations

import threading
import time

import pytest

from hived.machine.llamacpp import free_port
from hived_client.doors.wire import FEATURES
from hived_client.errors import NotReady, Refused
from tests.daemon.running import Running, configure, llamacpp_at, wait_until
from tests.servers.llamacpp import ALIAS, LlamaCpp
from tests.servers.strangers import LyingLlamaCpp, Silent


def test_a_no_is_looked_at_again_before_it_is_said(environment: dict[str, str]) -> None:
    port = free_port("127.0.0.1")
    configure(environment, llamacpp_at(f"http://127.0.0.1:{port}"))
    with Running(environment) as daemon:
        wait_until(lambda: daemon.client.world().world.endpoints[0].state == "down")
        with LyingLlamaCpp(port=port):
            assert daemon.client.resolve("llamacpp/m", timeout=2.0).name == "m"
        with pytest.raises(NotReady):
            daemon.client.resolve("llamacpp/m", timeout=2.0, fresh=True)


@pytest.mark.stress
def test_a_silent_server_costs_a_question_no_more_than_its_timeout(environment: dict[str, str]) -> None:
    with Silent() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            for fresh in (True, False):
                begun = time.monotonic()
                with pytest.raises(NotReady):
                    daemon.client.resolve("llamacpp/m", timeout=0.3, fresh=fresh)
                assert time.monotonic() - begun < 1.0
            begun = time.monotonic()
            assert daemon.client.refresh(timeout=0.1) > 0
            assert time.monotonic() - begun < 1.0


@pytest.mark.stress
def test_many_that_ask_at_once_share_one_look(environment: dict[str, str]) -> None:
    with LyingLlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            before = len(server.requests)
            threads = [threading.Thread(target=daemon.another().refresh) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10.0)
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
        assert daemon.process.wait(10.0) == 0


@pytest.mark.stress
def test_a_new_look_that_was_asked_for_and_did_not_end_is_no_yes(environment: dict[str, str]) -> None:
    with LlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            server.stop_process()
            with pytest.raises(NotReady) as error:
                daemon.client.resolve(f"llamacpp/{ALIAS}", fresh=True, timeout=0.2)
            assert error.value.code in ("deadline", "server.silent")
            server.continue_process()


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
