"""A look at every server without a daemon: by the same probes, judged by the same rules, written nowhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio

from hived.configuration.reading import Settings
from hived.daemon.probes import BUILT_IN, lm_studio_guess
from hived.decisions.configured import attach
from hived.decisions.expected import expected
from hived.decisions.outcomes import Circumstances, NoAnswer, Observation, Outcome
from hived.decisions.transitions import expect, observe
from hived.machine.inside import look_inside
from hived.machine.installations import Installations
from hived.providers.base import Probe
from hived.providers.disk_lm_studio import studio_folder
from hived.providers.http import Http
from hived.providers.plugins import find_plugins
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import Endpoint, World

PLUGINS = 0.5
"""Seconds for the plug-ins to load."""
PATIENCE = 2.0
"""Seconds for all servers together; one that takes longer is silent."""


def expected_endpoints(
    settings: Settings, environment: Mapping[str, str], kinds: tuple[ProviderKind, ...] = ()
) -> tuple[Endpoint, ...]:
    """Return the endpoints that a daemon in this environment would watch."""
    watched = (*(each.kind.name for each in BUILT_IN), *(kind.name for kind in kinds))
    given = (*settings.given, *(lm_studio_guess(environment) if settings.guess else ()))
    return attach(expected(given, watched=watched, guess=settings.guess, kinds=kinds), settings.configured)


def look(settings: Settings, environment: Mapping[str, str]) -> World:
    """Return the World as a daemon would see it at its first look. Blocks, for some seconds at most."""
    return anyio.run(_look, settings, environment)


async def _look(settings: Settings, environment: Mapping[str, str]) -> World:
    http = Http()
    try:
        plugins = find_plugins(http, environment, timeout=PLUGINS).plugins
        kinds = tuple(plugin.kind for plugin in plugins)
        probes: dict[str, Probe] = {each.kind.name: each.probe(http, environment) for each in BUILT_IN}
        probes |= {plugin.kind.name: plugin.probe for plugin in plugins}
        world = expect(World(generation=0, kinds=kinds), expected_endpoints(settings, environment, kinds))
        heard: dict[str, Observation] = {}
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for endpoint in world.endpoints:
                    if endpoint.provider in probes:
                        tasks.start_soon(_ask, probes[endpoint.provider], endpoint, heard, environment)
        for endpoint in world.endpoints:
            late = NoAnswer(kind="silent", why=f"no answer within {PATIENCE:g} s")
            world = observe(world, heard.get(endpoint.name) or _observed(endpoint, late, environment))
        return world
    finally:
        await http.aclose()


async def _ask(
    probe: Probe, endpoint: Endpoint, heard: dict[str, Observation], environment: Mapping[str, str]
) -> None:
    outcome = await probe.look(endpoint, thorough=True)
    heard[endpoint.name] = _observed(endpoint, outcome, environment)


def _observed(endpoint: Endpoint, outcome: Outcome, environment: Mapping[str, str]) -> Observation:
    now = time.time()
    down = isinstance(outcome, NoAnswer) and endpoint.locality == "device"
    installations = Installations(environment, studio=lambda: studio_folder(environment))
    about = Circumstances(
        at=now,
        installation=installations.find(endpoint.provider) if down else None,
        inside=look_inside(environment) if down else None,
    )
    return Observation(endpoint=endpoint.name, at=now, outcome=outcome, circumstances=about)
