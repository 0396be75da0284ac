"""Read configuration.json and the environment, tolerantly. The file is Hive's: it is never written.

A file that is missing is an empty one. A broken one changes nothing: the last good one is kept and the
fault says where it breaks. An entry that cannot be used is reported and does not hide the others.
"""

from __future__ import annotations

import codecs
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence

import msgspec

from hived.configuration.autostart import autostarts
from hived.configuration.document import MOST_ENTRIES, decode_document
from hived.configuration.environment import from_environment
from hived.configuration.hive import configured_by_hive, from_hive, tokens
from hived.decisions.addresses import BadAddress, read_url
from hived.decisions.autostart import Autostart
from hived.decisions.configured import Configured
from hived.decisions.expected import Given, conflicts
from hived.decisions.unspecified import is_to_listen, unspecified
from hived_client.doors.regular import open_regular
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import KINDS, ProviderKind, kind_of_prefix
from hived_client.vocabulary.world import Configuration, ConfiguredModel

MOST_BYTES = 16 * 1024 * 1024
"""A configuration that is longer than this is not read."""
MOST_PROBLEMS = 100
"""Problems of a configuration that are told one by one."""

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What hived takes from the configuration and the environment."""

    given: tuple[Given, ...] = ()
    configured: tuple[Configured, ...] = ()
    """What is said of models; the sections that give an address and those that give none."""
    autostart: tuple[Autostart, ...] = ()
    """Servers that are to run whenever hived does."""
    guess: bool = True
    """Whether default ports are looked at."""
    log_level: str = "info"
    problems: tuple[Fault, ...] = ()


def read_settings(
    path: str,
    environment: Mapping[str, str],
    *,
    last_good: Settings | None,
    now: float,
    kinds: tuple[ProviderKind, ...] = (),
) -> tuple[Settings, Configuration]:
    """Read everything; the second value is what ``status`` shows of it. Never raises for content. Blocks.

    ``kinds`` are those of plug-ins, which an entry may name as it may hived's own.
    """
    try:
        raw = _read(path).removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        settings = _settings({}, path, environment, kinds)
        return settings, Configuration(path=path, state="missing", problems=settings.problems, loaded_at=now)
    except OSError as error:
        why = error.strerror or "unknown"
        return unreadable(path, environment, why, last_good=last_good, now=now, kinds=kinds)
    try:
        document = decode_document(raw)
    except json.JSONDecodeError as error:
        problem = _broken(path, error.lineno, error.colno, error.msg)
        return _kept(last_good, path, environment, kinds, problem, now)
    except UnicodeDecodeError as error:
        problem = _broken(path, *_position(raw, error.start), "a byte that is not UTF-8")
        return _kept(last_good, path, environment, kinds, problem, now)
    except (RecursionError, ValueError) as error:
        # Valid, and more than Python reads; it does not say where.
        why = "is nested too deeply" if isinstance(error, RecursionError) else "has a number that is too long"
        problem = fault("configuration.invalid", path=path, where="the whole file", why=why)
        return _kept(last_good, path, environment, kinds, problem, now)
    if not isinstance(document, dict):
        problem = fault("configuration.invalid", path=path, where="the whole file", why="is not an object")
        return _kept(last_good, path, environment, kinds, problem, now)
    settings = _settings(document, path, environment, kinds)
    return settings, Configuration(path=path, state="ok", problems=settings.problems, loaded_at=now)


def unreadable(
    path: str,
    environment: Mapping[str, str],
    why: str,
    *,
    last_good: Settings | None,
    now: float,
    kinds: tuple[ProviderKind, ...] = (),
) -> tuple[Settings, Configuration]:
    """Return what ``read_settings`` does for a file that cannot be read; ``why`` not, in a few words."""
    problem = fault("configuration.unreadable", path=path, why=why)
    return _kept(last_good, path, environment, kinds, problem, now)


def _broken(path: str, line: int, column: int, why: str) -> Fault:
    return fault("configuration.broken", path=path, line=line, column=column, why=why)


def _position(raw: bytes, at: int) -> tuple[int, int]:
    """Return the line and the column of a byte, both from 1; what comes before it is UTF-8."""
    before = raw[:at]
    line = before[before.rfind(b"\n") + 1 :]
    return before.count(b"\n") + 1, len(line.decode()) + 1


def _read(path: str) -> bytes:
    with open_regular(path) as file:
        # What cannot be read is tried again and again: it must cost nothing.
        if (
            os.fstat(file.fileno()).st_size <= MOST_BYTES
            and len(raw := file.read(MOST_BYTES + 1)) <= MOST_BYTES
        ):
            return raw
    raise OSError(0, f"it is longer than {MOST_BYTES} bytes")


def _kept(
    last_good: Settings | None,
    path: str,
    environment: Mapping[str, str],
    kinds: tuple[ProviderKind, ...],
    problem: Fault,
    now: float,
) -> tuple[Settings, Configuration]:
    settings = last_good if last_good is not None else _settings({}, path, environment, kinds)
    return settings, Configuration(path=path, state="broken", error=problem, loaded_at=now)


def _settings(
    document: Mapping[str, object],
    path: str,
    environment: Mapping[str, str],
    kinds: tuple[ProviderKind, ...],
) -> Settings:
    problems: list[Fault] = []
    providers = _first_entries(document.get("providers"), path, problems)
    given = [
        *_providers(providers, path, kinds, problems),
        *from_hive(document),
        *from_environment(environment),
    ]
    problems += conflicts(given, path)
    problems += unspecified(given, path)
    configured = [
        *_configured(providers, path, kinds, problems),
        *configured_by_hive(document),
    ]
    starting = tuple(autostarts(providers, path, kinds, problems))
    guess, level = _options(document.get("hived", {}), path, problems)
    return Settings(
        given=tuple(given),
        configured=tuple(configured),
        autostart=starting,
        guess=guess,
        log_level=level,
        problems=_first_problems(problems, path),
    )


def _first_entries(section: object, path: str, problems: list[Fault]) -> object:
    """Return a section with no more entries than are read; the daemon waits while they are."""
    if not isinstance(section, dict) or len(section) <= MOST_ENTRIES:
        return section
    why = f"has {len(section)} entries, of which the first {MOST_ENTRIES} are read"
    problems.append(fault("configuration.invalid", path=path, where="providers", why=why))
    return dict(itertools.islice(section.items(), MOST_ENTRIES))


def _first_problems(problems: list[Fault], path: str) -> tuple[Fault, ...]:
    """Return no more problems than a person reads: every client is sent them at every change."""
    if len(problems) <= MOST_PROBLEMS:
        return tuple(problems)
    why = f"have {len(problems) - MOST_PROBLEMS} problems more"
    rest = fault("configuration.invalid", path=path, where="its entries", why=why)
    return (*problems[:MOST_PROBLEMS], rest)


def _options(section: object, path: str, problems: list[Fault]) -> tuple[bool, str]:
    """Read hived's own section; what cannot be used is reported and has its default."""

    def report(where: str, why: str) -> None:
        problems.append(fault("configuration.invalid", path=path, where=where, why=why))

    if not isinstance(section, dict):
        report("hived", "is not an object")
        return True, "info"
    guess, level = section.get("guess", True), section.get("log_level", "info")
    if not isinstance(guess, bool):
        report("hived.guess", "is neither true nor false")
        guess = True
    if level not in LOG_LEVELS:
        report("hived.log_level", f"is none of {', '.join(LOG_LEVELS)}")
        level = "info"
    return guess, str(level)


def _providers(
    section: object, path: str, kinds: tuple[ProviderKind, ...], problems: list[Fault]
) -> Sequence[Given]:
    if section is None:
        return ()
    if not isinstance(section, dict):
        problems.append(fault("configuration.invalid", path=path, where="providers", why="is not an object"))
        return ()
    given = []
    for name, entry in section.items():
        try:
            one = _provider(name, entry, kinds)
        except BadAddress as error:
            # A name that is none may hold anything, even half a character, which no snapshot could.
            where = f"providers.{name if _NAME.fullmatch(name) else ascii(name[:64])}"
            problems.append(fault("configuration.invalid", path=path, where=where, why=str(error)))
        else:
            given += [one] if one is not None else []
    return given


def _configured(
    section: object, path: str, kinds: tuple[ProviderKind, ...], problems: list[Fault]
) -> Sequence[Configured]:
    """Read the ``num_ctx`` of each entry: for every model of its endpoint, or of the provider's own."""
    found: list[Configured] = []
    for name, entry in section.items() if isinstance(section, dict) else ():
        if not isinstance(entry, dict) or "num_ctx" not in entry or not _NAME.fullmatch(name):
            continue
        base = entry.get("api_base")
        try:
            kind = _kind(name, entry.get("like"), kinds)
            url = read_url(base) if isinstance(base, str) else None
        except BadAddress:
            continue  # it was reported for what it is
        number = tokens(entry["num_ctx"])
        if number is None:
            where, why = f"providers.{name}.num_ctx", "is not a whole number of tokens"
            problems.append(fault("configuration.invalid", path=path, where=where, why=why))
        else:
            said = ConfiguredModel(num_ctx=number, origin=f"providers.{name}")
            found.append(Configured(provider=kind.name, url=url, model=said))
    return found


def _provider(name: str, entry: object, kinds: tuple[ProviderKind, ...]) -> Given | None:
    if not _NAME.fullmatch(name):
        raise BadAddress("has a name that is not letters, digits, dots, dashes and underscores")
    if not isinstance(entry, dict):
        raise BadAddress("is not an object")
    kind = _kind(name, entry.get("like"), kinds)
    base = entry.get("api_base")
    if base is None:
        return None  # an entry may only say autostart
    if not isinstance(base, str):
        raise BadAddress("has an api_base that is not text")
    try:
        url = read_url(base)
    except BadAddress as error:
        raise BadAddress(f"has an api_base that {error}") from error
    key = entry.get("api_key_env_var")
    if key is not None and not (isinstance(key, str) and _VARIABLE.fullmatch(key)):
        raise BadAddress("has an api_key_env_var that is not the name of a variable")
    return Given(
        name=name,
        provider=kind.name,
        url=url,
        source="configuration",
        origin=f"providers.{name}.api_base",
        listens=base if is_to_listen(base) else "",
        key_ref=key,
    )


def _kind(name: str, like: object, kinds: tuple[ProviderKind, ...]) -> ProviderKind:
    """Return the kind that an entry is of, by any of its prefixes. Raises ``BadAddress`` for none."""
    if like is not None and not isinstance(like, str):
        raise BadAddress("has a 'like' that is not text")
    kind = kind_of_prefix(like if like is not None else name, kinds)
    if kind is None:
        known = ", ".join(kind.name for kind in (*KINDS, *kinds))
        raise BadAddress(f"is not like any known provider; 'like' can be {known}")
    return kind
