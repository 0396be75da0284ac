"""Every provider that this daemon can watch, hived's own and plug-ins, and what each of them needs.

The only place that knows every probe and every inventory on disk by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

import anyio.to_thread
import msgspec
import structlog

from hived.daemon.aside import Aside
from hived.daemon.monitor import Shelf
from hived.decisions.expected import Given
from hived.decisions.shelves import keeper_of_shelf
from hived.providers import disk_huggingface, disk_llamacpp, disk_lm_studio, disk_ollama
from hived.providers.base import Probe, Provider
from hived.providers.http import Http
from hived.providers.llamacpp import LlamaCpp
from hived.providers.lm_studio import LmStudio
from hived.providers.ollama import Ollama
from hived.providers.openai_compatible import OpenAiCompatible
from hived.providers.plugins import find_plugins
from hived.providers.vllm import Vllm
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import LLAMACPP, LM_STUDIO, OLLAMA, OPENAI_COMPATIBLE, VLLM, ProviderKind
from hived_client.vocabulary.world import Endpoint, Model, World

LONGEST_READ = 5.0
"""Seconds for which models on disk are waited for: a folder may lie on a machine that is gone."""

log = structlog.get_logger(__name__)

Reader = Callable[[Mapping[str, str]], tuple[Model, ...]]


def _ollama_models(environment: Mapping[str, str]) -> tuple[Model, ...]:
    return disk_ollama.read_models(disk_ollama.model_folders(environment))


def _lm_studio_models(environment: Mapping[str, str]) -> tuple[Model, ...]:
    return disk_lm_studio.read_models(disk_lm_studio.models_folder(disk_lm_studio.studio_folder(environment)))


def _vllm_models(environment: Mapping[str, str]) -> tuple[Model, ...]:
    cached = disk_huggingface.read_models(disk_huggingface.hub_folder(environment))
    return tuple(model for model in cached if not disk_llamacpp.is_gguf(model))


BUILT_IN = (
    Provider(kind=OLLAMA, probe=Ollama, shelf=_ollama_models),
    Provider(kind=VLLM, probe=Vllm, shelf=_vllm_models),
    Provider(kind=LM_STUDIO, probe=LmStudio, shelf=_lm_studio_models),
    Provider(kind=LLAMACPP, probe=LlamaCpp, shelf=disk_llamacpp.read_models),
    Provider(kind=OPENAI_COMPATIBLE, probe=OpenAiCompatible),
)


class Probes(msgspec.Struct, frozen=True, kw_only=True):
    """How each kind of server is looked at."""

    by_provider: Mapping[str, Probe]
    shelves: Mapping[str, Reader]
    """What reads a provider's models from disk."""
    kinds: tuple[ProviderKind, ...]
    """The rows that plug-ins bring; clients learn them from the World."""
    broken: tuple[Fault, ...]
    """Why a plug-in cannot be used."""


async def gather_probes(http: Http, environment: Mapping[str, str]) -> Probes:
    """Make the probes of hived's own kinds and of every plug-in. Bounded in time; never raises."""
    found = await anyio.to_thread.run_sync(find_plugins, http, environment, abandon_on_cancel=True)
    probes = {provider.kind.name: provider.probe(http, environment) for provider in BUILT_IN}
    shelves = {provider.kind.name: provider.shelf for provider in BUILT_IN}
    shelves |= {plugin.kind.name: plugin.shelf for plugin in found.plugins}
    return Probes(
        by_provider=probes | {plugin.kind.name: plugin.probe for plugin in found.plugins},
        shelves={name: shelf for name, shelf in shelves.items() if shelf is not None},
        kinds=tuple(plugin.kind for plugin in found.plugins),
        broken=found.problems,
    )


def shelf_of(
    probes: Probes, endpoint: Endpoint, environment: Mapping[str, str], world: Callable[[], World]
) -> Shelf | None:
    """Return what reads the models that an endpoint would have if it ran; ``None`` where nothing does.

    What it has is also what it served before from a file that is still there, wherever that lies.
    """
    reader = probes.shelves.get(endpoint.provider)
    if reader is None:
        return None

    aside = Aside()

    async def read() -> tuple[Model, ...]:
        endpoints = world().endpoints
        if keeper_of_shelf(endpoints, endpoint.provider) != endpoint.name:
            return ()
        known = next((each.models or () for each in endpoints if each.name == endpoint.name), ())

        def look() -> tuple[Model, ...]:
            on_disk = reader(environment)
            return (*on_disk, *_still_there(known, on_disk))

        try:
            return await aside.within(LONGEST_READ, look)
        except TimeoutError:
            log.warning("shelf.silent", seconds=LONGEST_READ)
            return ()

    return read


def _still_there(known: Iterable[Model], on_disk: tuple[Model, ...]) -> Iterable[Model]:
    names = {model.name for model in on_disk}
    files = {model.file for model in on_disk}
    return (
        model
        for model in known
        if model.file and model.file not in files and model.name not in names and os.path.isfile(model.file)
    )


def lm_studio_guess(environment: Mapping[str, str]) -> tuple[Given, ...]:
    """Return where LM Studio itself has written down that its server is, if it has."""
    folder = disk_lm_studio.studio_folder(environment)
    port = disk_lm_studio.server_port(folder)
    if port is None:
        return ()
    return (
        Given(
            name="lm_studio",
            provider="lm_studio",
            url=f"http://127.0.0.1:{port}",
            source="default",
            origin=f"{folder}/.internal/http-server-config.json",
            key_ref="LM_API_TOKEN" if environment.get("LM_API_TOKEN") else None,
        ),
    )
