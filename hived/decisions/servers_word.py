"""What the servers on this device say of its graphics cards, beside what the machine says itself. Pure.

Ollama tells of each loaded model how many bytes it holds, and how many of them on graphics (``/api/ps``), and
not on which card. llama.cpp, vLLM and LM Studio tell neither. Their word is shown beside what the driver says
of each card, model by model, and never added: what a server holds is part of what its card has in use.

It also proves a card: a server may be allowed what hived is not, and may have come to its card before the
driver died.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hived.decisions.gpus import best_gpu, runs_on, troubles
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.hardware import Gpu, Hardware, Loaded
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import CALLABLE, Endpoint, Model, World

replace = msgspec.structs.replace

_OUT_OF_REACH = frozenset({"gpu.permission", "gpu.not_passed"})
"""Faults that say of a card that hived does not come to it; a server may."""
_REFUTABLE = _OUT_OF_REACH | {"gpu.driver"}
"""Faults that say of a card that no model runs on it."""


def with_servers(hardware: Hardware, endpoints: Sequence[Endpoint]) -> Hardware:
    """Complete what the machine says of itself with what its servers say; neither is counted twice."""
    on_cards = [(endpoint, model) for endpoint, model in _here(endpoints) if (model.offload or 0.0) > 0.0]
    hardware = replace(hardware, loaded=tuple(_loaded(endpoints)))
    if not on_cards:
        return hardware
    endpoint, model = on_cards[0]
    if hardware.gpus == ():
        unseen = fault("gpu.unseen", model=f"{endpoint.name}/{model.name}")
        return replace(hardware, problems=(*hardware.problems, unseen))
    proven = _proven(hardware.gpus or ())
    if proven is None:
        return hardware
    gpus = tuple(_works(gpu, endpoint) if gpu is proven else gpu for gpu in hardware.gpus or ())
    wrong = troubles(gpus)
    return replace(
        hardware,
        gpus=gpus,
        runs_on=runs_on(gpus),
        problems=tuple(each for each in hardware.problems if each in wrong),
    )


def known_hardware(world: World) -> Hardware | None:
    """Return what is known of the machine of a World, with what its servers say."""
    return with_servers(world.hardware, world.endpoints) if world.hardware is not None else None


def _here(endpoints: Iterable[Endpoint]) -> Iterator[tuple[Endpoint, Model]]:
    """Yield what is loaded on this device, as servers that answer say."""
    for endpoint in endpoints:
        if endpoint.locality == "device" and endpoint.state in CALLABLE:
            for model in endpoint.models or ():
                if model.state == "loaded" and model.locality in (None, "device"):
                    yield endpoint, model


def _loaded(endpoints: Iterable[Endpoint]) -> Iterator[Loaded]:
    for endpoint, model in _here(endpoints):
        if model.memory is None or model.offload is None:
            continue  # such a server tells nothing of it
        graphics = round(model.memory * model.offload)
        yield Loaded(
            endpoint=endpoint.name, model=model.name, graphics=graphics, machine=model.memory - graphics
        )


def _proven(gpus: Sequence[Gpu]) -> Gpu | None:
    """Return the card that was called out of order, and must be the one that a model is on.

    Of several, it is the only one that is no processor's own: those no server uses unless it is told to. That
    is not enough to call a driver well that did not answer.
    """
    cards = [gpu for gpu in gpus if gpu.kind != "integrated"] if len(gpus) > 1 else gpus
    if len(cards) != 1 or cards[0].fault is None:
        return None
    refutable = _REFUTABLE if len(gpus) == 1 else _OUT_OF_REACH
    return cards[0] if cards[0].fault.code in refutable else None


def _works(gpu: Gpu, endpoint: Endpoint) -> Gpu:
    source = ", ".join(filter(None, [gpu.source, endpoint.name]))
    return replace(gpu, usable=True, fault=None, source=source)


def on_cpu(endpoint: Endpoint, kind: ProviderKind, hardware: Hardware | None) -> tuple[Fault, ...]:
    """Return the models that are loaded on the processor alone, although a card here could have them."""
    card = best_gpu(hardware)
    if card is None:
        return ()
    return tuple(
        fault(
            "model.on_cpu",
            model=f"{endpoint.name}/{model.name}",
            gpu=card.name or card.vendor,
            restart=kind.placement or None,
        )
        for _, model in _here([endpoint])
        if model.offload == 0.0 or (model.offload is None and model.device == "cpu")
    )
