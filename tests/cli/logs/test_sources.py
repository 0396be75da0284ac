"""Which log a name means, on machines where hived was started in every way that there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hived.cli.logs.sources import File, Journal, Source, Traces, find_log, names, own_log
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.errors import NotReady
from hived_client.vocabulary.world import Endpoint, Installation, Process, World

OURS = File(path="/s/logs/hived.log", is_own=True)
UNIT = Journal(unit="hived.service")

OWN: list[tuple[str, Traces, Source]] = [
    ("started by a program", Traces(pid=1, output=OURS.path, managed_by="client", file=OURS.path), OURS),
    ("started by hand, into a file", Traces(pid=1, output="/t/x"), File(path="/t/x", is_own=True)),
    (
        "a file that somebody removed",
        Traces(pid=1, output="/t/x (deleted)"),
        File(path="/t/x", is_own=True),
    ),
    (
        "under systemd",
        Traces(pid=1, output="socket:[9]", managed_by="systemd", unit="user unit hived-0a.service"),
        Journal(unit="hived-0a.service"),
    ),
    (
        "a unit of the system",
        Traces(pid=1, output="socket:[9]", managed_by="systemd", unit="system unit hived.service"),
        Journal(unit="hived.service", is_system=True),
    ),
    (
        "a unit that writes into a file",
        Traces(pid=1, output="/t/x", managed_by="systemd", unit="user unit hived.service"),
        File(path="/t/x", is_own=True),
    ),
    (
        "gone, and systemd had it",
        Traces(managed_by="systemd", installed="hived.service", file=OURS.path),
        UNIT,
    ),
    ("gone, and a program had it", Traces(managed_by="client", file=OURS.path), OURS),
    ("installed, and never run", Traces(installed="hived.service"), UNIT),
    ("where no process can be looked into", Traces(pid=1, managed_by="client", file=OURS.path), OURS),
    ("thrown away, after another", Traces(pid=1, output="/dev/null", file=OURS.path), OURS),
]


@pytest.mark.parametrize(("traces", "expected"), [case[1:] for case in OWN], ids=[case[0] for case in OWN])
def test_the_daemons_log_is_where_it_really_writes(traces: Traces, expected: Source) -> None:
    assert own_log(traces) == expected


NOWHERE: list[tuple[Traces, str]] = [
    (Traces(pid=1, output="/dev/pts/3", file=OURS.path), "writes it to the terminal /dev/pts/3"),
    (Traces(pid=1, output="pipe:[9]"), "writes it to a pipe"),
    (Traces(), "no hived of this user has written one"),
]


@pytest.mark.parametrize(("traces", "why"), NOWHERE)
def test_where_there_is_none_it_is_said_why(traces: Traces, why: str) -> None:
    with pytest.raises(NotReady, match=why) as error:
        own_log(traces)
    assert error.value.code == "logs.none"
    assert error.value.hint


def started(name: str, log: str, **fields: Any) -> Endpoint:
    process = Process(pid=1, command=("x",), log=log, name="x", provider="llamacpp")
    return Endpoint(
        name=name, provider="llamacpp", url="http://127.0.0.1:1", source="started", process=process, **fields
    )


def two_started(folder: Path) -> Known:
    """Lay out a machine on which two servers of llama.cpp run, one of which is called ``lab``."""
    places = Places(home=str(folder), runtime=str(folder), state=str(folder), socket=str(folder / "s"))
    os.makedirs(places.logs)
    for name in ("hived.log", "llamacpp-1.log", "llamacpp-2.log", "llamacpp-2.log.1", "ollama.log", "x.txt"):
        Path(f"{places.logs}/{name}").write_text("")
    one = started("llamacpp-1", f"{places.logs}/llamacpp-1.log")
    two = started("lab", f"{places.logs}/llamacpp-2.log", aliases=("gpu",))
    other = Endpoint(
        name="lm_studio",
        provider="lm_studio",
        url="http://10.0.0.9:1",
        source="default",
        installation=Installation(found=True, owner="user unit app-lm\\x2dstudio@autostart.service"),
    )
    return Known(
        world=World(generation=1, endpoints=(one, two, other)), verdict="stopped", age=None, places=places
    )


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return two_started(tmp_path)


def test_a_name_is_an_endpoint_an_alias_or_a_provider(known: Known) -> None:
    def log(name: str) -> str:
        source = find_log(name, known, {})
        assert isinstance(source, File)
        return os.path.basename(source.path)

    assert names(known) == ["hived", "lab", "llamacpp-1", "llamacpp-2", "ollama"]
    assert log("llamacpp-1") == "llamacpp-1.log"
    assert log("lab") == log("gpu") == log("llamacpp-2") == "llamacpp-2.log"
    assert (
        log("ollama") == log("ollama_chat") == "ollama.log"
    )  # which ran once, and of which only that is left
    assert find_log("hived", known, {}) == find_log(None, known, {})


def test_of_two_that_run_one_has_to_be_named(known: Known) -> None:
    with pytest.raises(NotReady) as error:
        find_log("llamacpp", known, {})
    assert (error.value.code, error.value.hint) == ("logs.which", "hived logs lab")


def test_of_those_that_ended_the_last_one_is_meant(known: Known) -> None:
    ended = msgspec.structs.replace(known, world=World(generation=2))
    os.utime(f"{known.places.logs}/llamacpp-1.log", (2e9, 2e9))
    assert find_log("llamacpp", ended, {}) == File(path=f"{known.places.logs}/llamacpp-1.log")


REFUSED: list[tuple[str, str, str]] = [
    (
        "lm_studio",
        "autostart.service runs it",
        "journalctl --user -u 'app-lm\\x2dstudio@autostart.service' -e",
    ),
    ("nobody", "started no server of that name", "hived logs --list"),
    ("../../secret", "started no server of that name", "hived logs --list"),
    ("x.txt", "started no server of that name", "hived logs --list"),
    ("", "started no server of that name", "hived logs --list"),
]


@pytest.mark.parametrize(("name", "why", "hint"), REFUSED)
def test_what_hived_did_not_start_is_said_to_be_somebody_elses(
    known: Known, name: str, why: str, hint: str
) -> None:
    with pytest.raises(NotReady, match=why) as error:
        find_log(name, known, {})
    assert (error.value.code, error.value.hint) == ("logs.none", hint)


def test_a_link_among_the_logs_is_not_followed(known: Known) -> None:
    os.symlink("/etc/passwd", f"{known.places.logs}/passwd.log")
    assert "passwd" not in names(known)
    with pytest.raises(NotReady):
        find_log("passwd", known, {})
