"""A configuration that cannot be read, or not all of it."""

from __future__ import annotations

import os

from hived_client.vocabulary.faults import Fault
from tests.daemon.running import configure, write_configuration
from tests.faults.asking import Shared, problem
from tests.faults.provoking import provokes


def told(shared: Shared, code: str) -> Fault:
    """Have the configuration read; return what ``hived status`` says of it."""
    shared.daemon.client.reload()
    return problem(code, shared.daemon.client)


@provokes("configuration.broken", "a comma too many")
def test_not_json(shared: Shared) -> Fault:
    write_configuration(shared.daemon.environment, '{"providers": {},\n "hived": {"guess": false,}}')
    return told(shared, "configuration.broken")


@provokes("configuration.invalid", "a port that is none")
def test_not_an_address(shared: Shared) -> Fault:
    configure(shared.daemon.environment, {"lab": {"like": "vllm", "api_base": "http://10.0.0.7:99999"}})
    return told(shared, "configuration.invalid")


@provokes("configuration.unreadable", "a pipe in the place of the file")
def test_not_a_file(shared: Shared) -> Fault:
    path = configure(shared.daemon.environment)
    path.unlink()
    os.mkfifo(path)
    try:
        return told(shared, "configuration.unreadable")
    finally:
        path.unlink()
        configure(shared.daemon.environment)
