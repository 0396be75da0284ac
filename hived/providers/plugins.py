"""Find the providers that other distributions bring, behind the entry point group ``hived.providers``.

A plug-in is somebody else's code: it may be missing, raise, never come back, be of another shape, or claim a
name that is taken. Each such thing is a fault that says so, and hides nothing else. Each is loaded in a
thread of its own, all within one span of time, so that one which hangs neither keeps the daemon from
starting nor the others from being loaded.
"""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
import structlog

from hived.providers.base import Probe, Provider, check
from hived.providers.fields import text
from hived.providers.guarded import GuardedProbe, guarded_shelf, places_of
from hived.providers.http import Http
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import KINDS, ProviderKind
from hived_client.vocabulary.world import Model

GROUP = "hived.providers"
LOAD_TIMEOUT = 5.0
"""Seconds in which all plug-ins must have been loaded; the daemon's start waits for them."""

log = structlog.get_logger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a distribution says that it has."""

    name: str
    distribution: str
    load: Callable[[], object]


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """A provider from elsewhere, ready to be used."""

    distribution: str
    kind: ProviderKind
    probe: Probe
    shelf: Callable[[Mapping[str, str]], tuple[Model, ...]] | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking for plug-ins."""

    plugins: tuple[Plugin, ...] = ()
    problems: tuple[Fault, ...] = ()


def find_plugins(
    http: Http,
    environment: Mapping[str, str],
    *,
    timeout: float = LOAD_TIMEOUT,
    entries: Iterable[Entry] | None = None,
) -> Found:
    """Load every plug-in and make its probe. Never raises. Blocks, ``timeout`` seconds and a bit at most."""
    listed = sorted(installed() if entries is None else entries, key=lambda e: (e.name, e.distribution))
    loads = [_Load(entry, http, environment) for entry in listed]
    deadline = time.monotonic() + timeout
    plugins: list[Plugin] = []
    problems: list[Fault] = []
    for load in loads:
        load.thread.join(max(0.0, deadline - time.monotonic()))
        plugin, why = load.result or (None, f"it did not load within {timeout:g} s")
        if plugin is not None:
            why = _claim(plugin, plugins)
        if plugin is not None and not why:
            plugins.append(plugin)
            log.info("plugin.loaded", kind=plugin.kind.name, distribution=plugin.distribution)
        else:
            name, distribution = load.entry.name, load.entry.distribution
            log.error("plugin.broken", plugin=name, distribution=distribution, why=why, at=load.at)
            problems.append(fault("provider.plugin_broken", name=name, distribution=distribution, why=why))
    return Found(plugins=tuple(plugins), problems=tuple(problems))


def installed() -> Iterator[Entry]:
    """Yield the entries of every distribution that can be read; a broken one does not hide the others."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            name = text(distribution.name, 100) or "an unnamed distribution"
            if name.casefold() in seen:
                continue  # further down the path, so not what an import would find
            seen.add(name.casefold())
            found = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception as error:  # noqa: BLE001 - files that anybody's installer wrote
            log.debug("distribution.unreadable", why=type(error).__name__)
            continue
        for point in found:
            yield Entry(name=text(point.name, 100) or "unnamed", distribution=name, load=point.load)


class _Unfit(Exception):
    """It was loaded, and is not what it should be."""


class _Load:
    """The loading of one plug-in, in a thread that dies with the process."""

    def __init__(self, entry: Entry, http: Http, environment: Mapping[str, str]) -> None:
        self.entry = entry
        self.result: tuple[Plugin | None, str] | None = None
        self.at: tuple[str, ...] = ()
        self._doing = "loading it"
        # Not one of anyio's, for which the process would wait at its end.
        self.thread = threading.Thread(
            target=self._run, args=(http, environment), name=f"plug-in {entry.name}", daemon=True
        )
        self.thread.start()

    def _run(self, http: Http, environment: Mapping[str, str]) -> None:
        try:
            self.result = self._plugin(http, environment), ""
        except _Unfit as error:
            self.result = None, text(str(error), 300) or "it is not a provider"
        except BaseException as error:  # noqa: BLE001 - it may even call sys.exit
            self.at = places_of(error)
            self.result = None, f"{self._doing} raised {_told(error)}"

    def _plugin(self, http: Http, environment: Mapping[str, str]) -> Plugin:
        provider = self.entry.load()
        try:
            check(provider)
        except (TypeError, ValueError) as error:
            raise _Unfit(str(error)) from error
        assert isinstance(provider, Provider)
        self._doing = "making its probe"
        probe = provider.probe(http, environment)
        _check_probe(probe, provider.kind)
        shelf = provider.shelf
        return Plugin(
            distribution=self.entry.distribution,
            kind=provider.kind,
            probe=GuardedProbe(probe, self.entry.distribution),
            shelf=None if shelf is None else guarded_shelf(shelf, self.entry.distribution),
        )


def _told(error: BaseException) -> str:
    """Name an error; where it is about the code itself, in its own words, which say what is missing."""
    about_code = isinstance(error, ImportError | AttributeError | SyntaxError)
    words = text(str(error), 200) if about_code else None
    return type(error).__name__ + (f" ({words})" if words else "")


def _check_probe(probe: object, kind: ProviderKind) -> None:
    missing = [name for name in ("look", "has_push", "push") if not callable(getattr(probe, name, None))]
    if missing:
        raise _Unfit(f"its probe has no {' and no '.join(missing)}")
    if getattr(probe, "provider", None) != kind.name:
        raise _Unfit(f"its probe's provider is not {kind.name!r}")


def _claim(plugin: Plugin, before: Sequence[Plugin]) -> str:
    """Say which name of a plug-in's is taken, or nothing."""
    owners = [(kind, "hived itself") for kind in KINDS]
    owners += [(other.kind, f"the plug-in {other.distribution}") for other in before]
    wanted = {word.casefold(): word for word in (plugin.kind.name, *plugin.kind.prefixes)}
    for kind, owner in owners:
        for word in (kind.name, *kind.prefixes):
            if word.casefold() in wanted:
                return f"the name {wanted[word.casefold()]!r} belongs to {owner}"
    return ""
