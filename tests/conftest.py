"""What every test shares: both backends, and places of its own for every daemon."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hived
import hived_client
from hived_client.doors.paths import Places, places
from hived_client.vocabulary.faults import system
from tests.daemon.small_disk import NEW_MOUNTS

# A suite that a script begins in the background is given an ignored SIGINT, and would hand it on to every
# program that a test wants to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What pytest makes of the asserts takes half of the collection: it is kept, as Python keeps what it compiles.
sys.dont_write_bytecode = False

# Properties are tried on few examples in the daily loop, by chance, and on many in CI, the same every time.
# No example is timed: a machine that is busy is not a slow program.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("daily", settings.get_profile("untimed"), max_examples=15)
settings.register_profile("thorough", settings.get_profile("untimed"), max_examples=200, derandomize=True)
settings.load_profile("thorough" if os.environ.get("CI") else "daily")


@pytest.fixture(scope="session", autouse=True)
def _letters() -> None:
    """Have hypothesis read its letters, which takes seconds in a new home, before any example is tried."""

    @settings(max_examples=1, database=None)
    @given(st.text())
    def read(text: str) -> None:
        assert isinstance(text, str)

    read()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run an async test on both backends."""
    return str(request.param)


@pytest.fixture
def other_system() -> Iterator[None]:
    """For a test that makes this system another one: which it is, is found out anew."""
    system.cache_clear()
    yield
    system.cache_clear()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """An environment in which nothing of the user's is seen or touched."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ
    }
    # A child imports the same packages as this process does, out of a checkout or an installation.
    roots = {str(Path(module.__path__[0]).parent): None for module in (hived, hived_client)}
    return kept | {
        "PYTHONPATH": os.pathsep.join([*roots, *filter(None, [kept.get("PYTHONPATH")])]),
        "HOME": str(home),
        "HIVED_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
    }


@pytest.fixture
def where(environment: dict[str, str]) -> Places:
    """The places of a daemon in that environment."""
    return places(environment)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of this device that is taken and where nothing listens, so that nobody else gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def may_mount() -> None:
    """Skip where this user may not have a disk of its own."""
    probe = [*NEW_MOUNTS, "sh", "-c", "mount -t tmpfs -o size=16k none /mnt"]
    try:
        allowed = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no user namespaces: a small disk cannot be mounted")


SLOW_PLACES = (
    "tests/servers/",
    "tests/providers/test_ladder.py",
    "tests/providers/test_hostile.py",
    "tests/providers/test_lm_studio.py",
    "tests/providers/test_vllm.py",
    "tests/client/agent/test_hive",
    "tests/client/agent/test_litellm_",
    "tests/client/agent/test_runner.py",
    "tests/client/agent/test_with_hive.py",
    "tests/daemon/test_jobs.py",
    "tests/daemon/test_plugins.py",
    "tests/daemon/test_probes.py",
    "tests/daemon/test_survival.py",
    "tests/client/test_launch.py",
    "tests/client/test_skew.py",
    "tests/machine/test_embedded_llamacpp.py",
    "tests/cli/test_plugin.py",
    "tests/cli/test_start_progress.py",
    "tests/cli/test_speaking_model.py",
    "tests/cli/test_status.py",
)
"""Folders and files of which every test is slow: fakes against their recordings, processes started."""

LONG_PLACES = ("tests/providers/", "tests/client/agent/", "tests/daemon/")
"""Folders of which the tests run on one event loop in the daily loop."""

APART = ("stress", "fault", "systemd")
"""Markers whose tests run by themselves in CI, and not once more with the slow ones."""

SLOW = (
    "test_looking_never_wakes_a_sleeping_server",
    "test_it_sleeps_and_wakes_for_a_question",
    "test_no_stranger_is_believed_and_none_takes_longer_than_its_time",
    "test_a_real_server_that_is_stopped_goes_on_and_is_killed",
    "test_a_new_manifest_is_told_within_300_ms",
    "test_who_asks_for_a_look_at_once_gets_one_and_finds_it_in_the_files",
    "test_real_a_process_named_like_vllm_is_found_and_its_end_too",
    "test_the_measurement_is_a_program_that_prints_one_figure",
    "test_names_of_servers_are_completed_as_they_are_now",
    "test_bash_completes_the_names_of_logs",
    "test_interrupted_it_cleans_up",
    "test_ascii_alone_is_enough",
    "test_no_secret_is_told",
    "test_start_starts_the_daemon",
    "test_the_log_of_a_running_daemon_is_found_wherever_it_goes",
    "test_one_that_is_killed_comes_back_and_one_that_is_stopped_does_not",
    "test_a_name_without_an_address_is_told_and_ends_nothing_else",
    "test_an_autostart_that_fails_says_why_in_status",
    "test_what_is_adopted_is_said_and_not_stopped",
    "test_a_new_look_that_was_asked_for_and_did_not_end_is_no_old_no_either",
    "test_another_name_of_the_same_server_calls_it_too",
    "test_a_caller_with_the_key_calls_a_server_that_is_closed_to_hived",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the daily loop under a minute.

    What runs on an event loop for long runs on one of the two there; what waits for seconds, starts many
    processes, or checks the fakes does not run. All of it is marked ``slow``, which CI runs too; what has a
    marker of its own already runs there once.
    """
    for item in items:
        parameters = getattr(item, "callspec", None)
        on_trio = parameters is not None and parameters.params.get("anyio_backend") == "trio"
        is_long = any(place in item.nodeid for place in LONG_PLACES)
        is_slow = any(place in item.nodeid for place in SLOW_PLACES)
        is_named = getattr(item, "originalname", "") in SLOW
        if (is_slow or is_named or (is_long and on_trio)) and not any(map(item.get_closest_marker, APART)):
            item.add_marker(pytest.mark.slow)
