"""The configuration, as the daemon would read it in this environment; keys that are only named; proxies."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping

import msgspec

from hived.cli.doctor.findings import Finding, of_fault, ok, warn
from hived.cli.doctor.looking import expected_endpoints
from hived.configuration.reading import Settings, read_settings
from hived_client.doors.proxies import hijacked_endpoint
from hived_client.doors.regular import open_regular
from hived_client.vocabulary.faults import Fault, configuration_file, fault, quoted
from hived_client.vocabulary.world import Configuration, Endpoint

KEYS = ("guess", "log_level", "api_base", "like", "api_key_env_var", "num_ctx", "autostart")
"""Keys of our own sections that are easily written wrong: what looks like one of them and is none is told.

Not every key that hived reads: what looks like none of these is passed over, since it may be a newer one's.
"""
ALIKE = 0.75
"""How like a key must be (difflib) to be taken for one that was written wrong."""
MOST_BYTES = 16 * 1024 * 1024


class ConfigurationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read."""

    settings: Settings
    configuration: Configuration
    misspelt: tuple[tuple[str, str], ...]
    """Keys in our own sections that hived does not know, and what they may have been meant to be."""
    expected: tuple[Endpoint, ...]
    """The endpoints that a daemon in this environment would watch."""
    written: tuple[str, ...]
    """Entries that hold a key itself."""
    keys: dict[str, str]
    """Variable → endpoint, of keys that are named and not set in this environment."""
    named: frozenset[str]
    """Every variable that is named as a key's."""
    proxies: tuple[str, ...]
    """Variables of proxies that are set."""


def read_configuration(path: str, environment: Mapping[str, str], now: float) -> ConfigurationFacts:
    """Read the file and the environment. Blocks."""
    settings, configuration = read_settings(path, environment, last_good=None, now=now)
    document = _document(path)
    named = {given.key_ref: given.name for given in settings.given if given.key_ref is not None}
    return ConfigurationFacts(
        settings=settings,
        configuration=configuration,
        misspelt=tuple(misspelt_keys(document)),
        expected=expected_endpoints(settings, environment),
        written=tuple(written_keys(document)),
        keys={variable: name for variable, name in named.items() if not environment.get(variable)},
        named=frozenset(named),
        proxies=tuple(sorted(name for name, value in environment.items() if _is_proxy(name) and value)),
    )


def misspelt_keys(document: object) -> Iterator[tuple[str, str]]:
    """Yield the keys of our own sections that look like one of hived's and are none. Pure."""
    if not isinstance(document, dict):
        return
    providers = document.get("providers")
    entries = providers if isinstance(providers, dict) else {}
    for where, section in (
        ("hived", document.get("hived")),
        *((f"providers.{n}", e) for n, e in entries.items()),
    ):
        for key in section if isinstance(section, dict) else ():
            meant = difflib.get_close_matches(key.casefold(), KEYS, n=1, cutoff=ALIKE)
            if meant and key not in KEYS:
                yield f"{where}.{key}", meant[0]


def written_keys(document: object) -> Iterator[str]:
    """Yield the entries of ``providers`` that hold a key, which hived does not read there. Pure."""
    providers = document.get("providers") if isinstance(document, dict) else None
    for name, entry in providers.items() if isinstance(providers, dict) else ():
        if isinstance(entry, dict) and entry.get("api_key"):
            yield name


def check_configuration(
    facts: ConfigurationFacts, endpoints: tuple[Endpoint, ...], environment: Mapping[str, str]
) -> list[Finding]:
    """Judge it. Pure."""
    return [*_file(facts), *_keys(facts), *_proxies(facts, hijacked_endpoint(endpoints, environment))]


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
    for name in facts.written[:10]:
        said = f"providers.{name}.api_key holds a key, and hived reads there only the name of its variable"
        mend = f"set providers.{name}.api_key_env_var in {configuration_file()}"
        yield warn("configuration.key_written", said, mend)
    for key, meant in facts.misspelt[:10]:
        find = f"grep -n {quoted(key.rpartition('.')[2])} {quoted(configuration.path)}"
        yield warn("configuration.misspelt", f"{key} is no setting of hived's; {meant} is one", find)


def _keys(facts: ConfigurationFacts) -> Iterator[Finding]:
    for variable, endpoint in sorted(facts.keys.items()):
        yield of_fault(fault("key.missing", variable=variable, endpoint=endpoint), "warn")
    present = sorted(facts.named - facts.keys.keys())
    if present:
        yield ok("key.set", f"the keys in {', '.join(present)} are set here")


def _proxies(facts: ConfigurationFacts, hijacked: Fault | None) -> Iterator[Finding]:
    if hijacked is not None:
        yield of_fault(hijacked, "warn")
    elif facts.proxies:
        yield ok("proxy.spares", f"{', '.join(facts.proxies)}: local servers are spared")
    else:
        yield ok("proxy.none", "no variable names a proxy")


def _document(path: str) -> object:
    try:
        with open_regular(path) as file:
            return json.loads(file.read(MOST_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_proxy(name: str) -> bool:
    return name.casefold() in ("http_proxy", "https_proxy", "all_proxy")
