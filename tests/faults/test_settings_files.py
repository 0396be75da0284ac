"""Configurations that cannot be used as they are, as ``hived status`` tells of them."""

from __future__ import annotations

import os
from pathlib import Path

from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import SLOTS
from tests.daemon.running import Running, configure, wait_until, write_configuration
from tests.faults.provoking import provokes


def problem(environment: dict[str, str]) -> Fault:
    """Return the one problem that every client is shown."""
    with Running(environment) as daemon:
        return wait_until(lambda: daemon.client.world().world.problems)[0]


@provokes("configuration.duplicate", "two entries have one address, and are like two providers")
def test_one_server_cannot_be_two_things(environment: dict[str, str]) -> Fault:
    address = "http://127.0.0.1:9"
    configure(
        environment,
        {"lab": {"like": "llamacpp", "api_base": address}, "work": {"like": "vllm", "api_base": address}},
    )
    return problem(environment)


@provokes("configuration.too_many", "the configuration names more servers than hived watches")
def test_there_are_more_servers_than_are_watched(environment: dict[str, str]) -> Fault:
    entries = {
        f"e{n}": {"like": "llamacpp", "api_base": f"http://127.0.0.1:{n + 1}"} for n in range(SLOTS + 1)
    }
    configure(environment, entries)
    return problem(environment)


@provokes("configuration.broken", "half of the file is written")
def test_half_a_file(environment: dict[str, str]) -> Fault:
    write_configuration(environment, '{"hived": {"guess": false},\n "provi')
    return problem(environment)


@provokes("configuration.unreadable", "a pipe lies where the file should be")
def test_a_pipe(environment: dict[str, str]) -> Fault:
    path: Path = configure(environment)
    path.unlink()
    os.mkfifo(path)
    return problem(environment)


@provokes("configuration.invalid", "an entry has an address with a password in it")
def test_an_address_with_a_password(environment: dict[str, str]) -> Fault:
    configure(environment, {"lab": {"like": "vllm", "api_base": "http://me:secret@127.0.0.1:9"}})
    found = problem(environment)
    assert "secret" not in found.message
    return found
