"""Everything that the doctor looks at, within one span of time, and what comes of it.

Two rounds: first what the rest depends on (the daemon's files and the configuration), then everything else
side by side. What hangs, or breaks, is a finding itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from hived.cli.doctor.configuration import ConfigurationFacts, check_configuration, read_configuration
from hived.cli.doctor.daemon import RUNS, Answers, check_daemon, read_daemon
from hived.cli.doctor.disk import check_disks, models_folders, read_disks
from hived.cli.doctor.errors_in_log import LogFacts, check_errors, read_errors
from hived.cli.doctor.findings import Finding, Report, Section, of_fault, ok, report, unknown
from hived.cli.doctor.folders import FilesFacts, check_files, read_files
from hived.cli.doctor.gathering import Missing, gather
from hived.cli.doctor.hardware import check_hardware
from hived.cli.doctor.looking import look
from hived.cli.doctor.servers import (
    check_detours,
    check_servers,
    read_detours,
    read_owners,
)
from hived.cli.doctor.service import (
    Programs,
    ServiceFacts,
    again,
    check_path,
    check_service,
    check_variables,
    programs_on,
    read_service,
    start_of,
)
from hived.cli.doctor.slowness import System, check_speed, read_system
from hived.cli.hardware import look_at_machine
from hived.cli.logs.sources import find_log
from hived.cli.masking import masking
from hived.configuration.reading import Settings
from hived.decisions.gpus import best_gpu
from hived.machine.owners import read_variables
from hived_client._version import __version__
from hived_client.doors.files import Known
from hived_client.doors.paths import places
from hived_client.doors.sync import Client
from hived_client.errors import NotReady
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.world import World

FIRST, SECOND = 1.0, 3.3
"""Seconds for the two rounds: with the start of the program, everything takes less than five."""
MACHINE = 2.8
"""Seconds of the second round for this machine: a driver that hangs is then told as that."""


def examine(environment: Mapping[str, str]) -> Report:
    """Look at everything and judge it. Blocks for ``FIRST`` and ``SECOND`` at most; changes nothing."""
    facts = gather(
        {
            "known": lambda: Client(environment=environment).world(),
            "configuration": lambda: read_configuration(
                places(environment).configuration, environment, time.time()
            ),
        },
        seconds=FIRST,
    )
    facts |= gather(_readings(facts, environment), seconds=SECOND)
    configuration, variables = facts["configuration"], facts.get("variables")
    keys = configuration.named if isinstance(configuration, ConfigurationFacts) else frozenset()
    theirs: dict[str, str] = variables if isinstance(variables, dict) else {}
    return report(__version__, _sections(facts, environment), masking({**theirs, **environment}, keys))


def _readings(facts: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, Callable[[], object]]:
    """Return what is still to be read, by what is known already."""
    known, configuration = facts["known"], facts["configuration"]
    settings = configuration.settings if isinstance(configuration, ConfigurationFacts) else Settings()
    endpoints = configuration.expected if isinstance(configuration, ConfigurationFacts) else ()
    readings: dict[str, Callable[[], object]] = {
        "system": read_system,
        "models": lambda: models_folders(environment),
        "programs": lambda: programs_on(environment.get("PATH", "")),
    }
    if isinstance(known, Known):
        where, daemon = known.places, known.world.daemon
        readings |= {
            "files": lambda: read_files(where, environment),
            "disks": lambda: read_disks(where, models_folders(environment)),
            "daemon": lambda: read_daemon(known),
            "log": lambda: _read_log(known, environment),
            "service": lambda: read_service(where, environment, __version__),
        }
        if daemon is not None and known.verdict in RUNS:
            readings["variables"] = lambda: read_variables(daemon.pid)
            readings["their_programs"] = lambda: _programs_of(daemon.pid)
    if isinstance(known, Known) and known.verdict in ("fresh", "lagging"):
        endpoints = known.world.endpoints
        readings |= {"world": lambda: known.world, "hardware": lambda: known.world.hardware}
    else:
        readings |= {
            "world": lambda: look(settings, environment),
            "hardware": lambda: look_at_machine(environment, longest=MACHINE),
        }
    readings["owners"] = lambda: read_owners(endpoints)
    readings["detours"] = lambda: read_detours(endpoints)
    return readings


def _sections(facts: Mapping[str, object], environment: Mapping[str, str]) -> list[Section]:
    return [
        Section(title="hived", findings=tuple(_hived(facts))),
        Section(title="servers", findings=tuple(_servers(facts))),
        Section(title="configuration", findings=tuple(_configuration(facts, environment))),
        Section(title="speed", findings=tuple(_speed(facts))),
        Section(title="service", findings=tuple(_service(facts, environment))),
        Section(title="files", findings=tuple(_files(facts))),
    ]


def _hived(facts: Mapping[str, object]) -> Iterator[Finding]:
    known, log = facts["known"], facts.get("log")
    if not isinstance(known, Known):
        yield from _missing("hived.running", "what hived last said", known)
        return
    answers = facts["daemon"]
    if isinstance(answers, Missing):
        yield from _missing("hived.hello", "whether hived answers", answers)
        answers = Answers()
    if isinstance(answers, Answers):
        yield from check_daemon(known, answers, __version__, start_of(facts.get("service")))
    if isinstance(log, LogFacts):
        yield from check_errors(log)
    elif isinstance(log, Fault):
        yield ok("hived.log", log.message.removesuffix("."))
    else:
        yield from _missing("hived.log", "the log", log)


def _servers(facts: Mapping[str, object]) -> Iterator[Finding]:
    world, owners = facts["world"], facts["owners"]
    yield from _missing("server.owners", "who listens at the ports", owners)
    yield from _missing("server.look", "the servers", world)
    if isinstance(world, World):
        yield from check_servers(world, owners if isinstance(owners, dict) else {})


def _configuration(facts: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[Finding]:
    configuration, world = facts["configuration"], facts["world"]
    yield from _missing("configuration.file", "the configuration", configuration)
    if isinstance(configuration, ConfigurationFacts):
        endpoints = world.endpoints if isinstance(world, World) else configuration.expected
        yield from check_configuration(configuration, endpoints, environment)


def _speed(facts: Mapping[str, object]) -> Iterator[Finding]:
    world, system, hardware, models = facts["world"], facts["system"], facts["hardware"], facts["models"]
    for name, thing in (("hardware", hardware), ("memory", system), ("folders of models", models)):
        yield from _missing(f"slow.{name.split()[0]}", f"the {name}", thing)
    if not isinstance(hardware, Missing):
        endpoints = world.endpoints if isinstance(world, World) else ()
        yield from check_hardware(hardware if isinstance(hardware, Hardware) else None, endpoints)
    card = best_gpu(hardware if isinstance(hardware, Hardware) else None)
    yield from check_speed(
        world if isinstance(world, World) else World(generation=0),
        system if isinstance(system, System) else System(),
        (card.name or card.vendor) if card is not None else "",
        models if isinstance(models, tuple) else (),
    )
    detours = facts["detours"]
    yield from _missing("slow.localhost", "the ways to localhost", detours)
    if isinstance(detours, tuple):
        yield from check_detours(detours)


def _service(facts: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[Finding]:
    service, configuration, known = facts.get("service"), facts["configuration"], facts["known"]
    yield from _missing("service.installed", "the service", service)
    theirs = facts.get("their_programs")
    if isinstance(service, ServiceFacts):
        yield from check_service(service)
        theirs = theirs or service.programs
    daemon = known.world.daemon if isinstance(known, Known) and known.verdict in RUNS else None
    mend = again(daemon)
    ours = facts["programs"]
    if isinstance(ours, Programs) and isinstance(theirs, Programs):
        yield from check_path(ours, theirs, mend)
    variables = facts.get("variables")
    if isinstance(variables, dict) and variables:
        keys = configuration.named if isinstance(configuration, ConfigurationFacts) else frozenset()
        yield from check_variables(environment, variables, keys, mend)


def _files(facts: Mapping[str, object]) -> Iterator[Finding]:
    files, disks = facts.get("files"), facts.get("disks")
    yield from _missing("files.runtime", "hived's folders", files)
    if isinstance(files, FilesFacts):
        yield from check_files(files)
    yield from _missing("disk.room", "the room on the disks", disks)
    if isinstance(disks, tuple):
        yield from check_disks(disks)


def _missing(check: str, what: str, fact: object) -> Iterator[Finding]:
    """Say why something is not known; nothing for what is."""
    if not isinstance(fact, Missing):
        return
    if fact.fault is not None:
        yield of_fault(fact.fault, "fail")
    else:
        yield unknown(check, what, fact.why, level="warn")  # a disk or a driver that hangs is worth a look


def _programs_of(pid: int) -> Programs | None:
    path = read_variables(pid).get("PATH")
    return programs_on(path) if path is not None else None


def _read_log(known: Known, environment: Mapping[str, str]) -> LogFacts | Fault:
    try:
        return read_errors(find_log(None, known, environment))
    except NotReady as error:
        return error.fault
