"""The configuration, as the daemon would read it in this environment; keys that are only named; proxies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

import msgspec

from hived.cli.doctor.findings import Finding, note, of_fault, ok
from hived.configuration.reading import Settings, read_settings
from hived_client.doors.proxies import hijacked_endpoint
from hived_client.vocabulary.faults import Fault, fault, quoted
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import Configuration, Endpoint

HIVED_KEYS = frozenset({"guess", "log_level"})
PROVIDER_KEYS = frozenset({"api_base", "like", "api_key_env_var", "num_ctx", "autostart"})
MOST_BYTES = 16 * 1024 * 1024


class ConfigurationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read."""

    settings: Settings
    configuration: Configuration
    unknown: tuple[str, ...]
    """Keys in our own sections that hived does not know."""
    keys: dict[str, str]
    """Variable → endpoint, of keys that are named and not set in this environment."""
    named: frozenset[str]
    """Every variable that is named as a key's."""
    proxies: tuple[str, ...]
    """Variables of proxies that are set."""
    hijacked: Fault | None


def read_configuration(
    path: str, environment: Mapping[str, str], now: float, kinds: tuple[ProviderKind, ...] = ()
) -> ConfigurationFacts:
    """Read the file and the environment. Blocks."""
    settings, configuration = read_settings(path, environment, last_good=None, now=now, kinds=kinds)
    named = {given.key_ref: given.name for given in settings.given if given.key_ref is not None}
    return ConfigurationFacts(
        settings=settings,
        configuration=configuration,
        unknown=tuple(unknown_keys(_document(path))),
        keys={variable: name for variable, name in named.items() if not environment.get(variable)},
        named=frozenset(named),
        proxies=tuple(sorted(name for name, value in environment.items() if _is_proxy(name) and value)),
        hijacked=None,
    )


def with_endpoints(
    facts: ConfigurationFacts, endpoints: tuple[Endpoint, ...], environment: Mapping[str, str]
) -> ConfigurationFacts:
    """Add whether a proxy takes the calls of these endpoints."""
    return msgspec.structs.replace(facts, hijacked=hijacked_endpoint(endpoints, environment))


def unknown_keys(document: object) -> Iterator[str]:
    """Yield the keys of our own sections that hived does not know; the rest of the file is Hive's. Pure."""
    if not isinstance(document, dict):
        return
    own = document.get("hived")
    yield from (f"hived.{key}" for key in _strangers(own, HIVED_KEYS))
    providers = document.get("providers")
    for name, entry in providers.items() if isinstance(providers, dict) else ():
        yield from (f"providers.{name}.{key}" for key in _strangers(entry, PROVIDER_KEYS))


def check_configuration(facts: ConfigurationFacts) -> list[Finding]:
    """Judge it."""
    return [*_file(facts), *_keys(facts), *_proxies(facts)]


def _file(facts: ConfigurationFacts) -> Iterator[Finding]:
    configuration = facts.configuration
    if configuration.error is not None:
        yield of_fault(configuration.error, "fail")
    elif configuration.state == "missing":
        yield ok("configuration.file", f"there is no {configuration.path}, and none is needed", brief=True)
    else:
        count = len(facts.settings.given)
        said = "1 server is named" if count == 1 else f"{count} servers are named"
        yield ok("configuration.file", f"{configuration.path} can be read; {said}", brief=True)
    yield from (of_fault(problem, "warn") for problem in configuration.problems)
    for key in facts.unknown[:10]:
        path = quoted(configuration.path)
        yield note(
            "configuration.unknown_key",
            f"{key} is no setting that hived knows",
            f"grep -n {quoted(key.rpartition('.')[2])} {path}",
        )


def _keys(facts: ConfigurationFacts) -> Iterator[Finding]:
    for variable, endpoint in sorted(facts.keys.items()):
        yield of_fault(fault("key.missing", variable=variable, endpoint=endpoint), "warn")
    present = sorted(facts.named - facts.keys.keys())
    if present:
        yield ok("key.set", f"the keys in {', '.join(present)} are set here")


def _proxies(facts: ConfigurationFacts) -> Iterator[Finding]:
    if facts.hijacked is not None:
        yield of_fault(facts.hijacked, "warn")
    elif facts.proxies:
        yield ok("proxy.spares", f"{', '.join(facts.proxies)}: local servers are spared")
    else:
        yield ok("proxy.none", "no variable names a proxy")


def _strangers(section: object, known: frozenset[str]) -> list[str]:
    if not isinstance(section, dict):
        return []
    return [
        key if key.isprintable() else ascii(key)
        for key in section
        if isinstance(key, str) and key not in known
    ]


def _document(path: str) -> object:
    try:
        # NONBLOCK: opening a pipe that somebody put there would wait for its writer for ever.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            return json.loads(file.read(MOST_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_proxy(name: str) -> bool:
    return name.casefold() in ("http_proxy", "https_proxy", "all_proxy")
