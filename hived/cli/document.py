"""The World as the stable JSON of ``hived status --json``."""

from __future__ import annotations

import msgspec

from hived.decisions.servers_word import known_hardware
from hived_client.doors.files import Known
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.world import Endpoint, Model


def world_document(known: Known) -> dict[str, object]:
    """Return the World as the contract of ``hived status --json`` has it; unknown is null."""
    world = known.world
    problem = [*([known.problem] if known.problem is not None else []), *known.notes]
    return {
        "generation": world.generation,
        "verdict": known.verdict,
        "age": known.age,
        "daemon": _fields(world.daemon),
        "configuration": _fields(world.configuration),
        "hardware": hardware_document(known_hardware(world)),
        "endpoints": [_endpoint(known, endpoint) for endpoint in world.endpoints],
        "models": [
            _model(known, endpoint, model) for endpoint in world.endpoints for model in endpoint.models or ()
        ],
        "problems": [*problem, *world.problems],
    }


def hardware_document(hardware: Hardware | None) -> dict[str, object] | None:
    """Return what is known of this machine with every field; unknown is null."""
    return None if hardware is None else _whole(hardware)


def _whole(struct: msgspec.Struct) -> dict[str, object]:
    return {name: _of(value) for name, value in msgspec.structs.asdict(struct).items()}


def _of(value: object) -> object:
    if isinstance(value, tuple):
        return [_of(each) for each in value]
    return _whole(value) if isinstance(value, msgspec.Struct) and not isinstance(value, Fault) else value


def _fields(struct: msgspec.Struct | None) -> dict[str, object] | None:
    return None if struct is None else msgspec.structs.asdict(struct)


def _endpoint(known: Known, endpoint: Endpoint) -> dict[str, object]:
    fields = msgspec.structs.asdict(endpoint)
    seen = known.seen.get(endpoint.name)
    for hidden in ("models", "models_at", "slot"):
        del fields[hidden]
    return fields | {
        "observed_at": seen.at if seen else None,
        "latency": seen.latency if seen else None,
        "cadence": seen.cadence if seen else None,
    }


def _model(known: Known, endpoint: Endpoint, model: Model) -> dict[str, object]:
    seen = known.seen.get(endpoint.name)
    fields = msgspec.structs.asdict(model)
    return fields | {
        "provider": endpoint.provider,
        "endpoint": endpoint.name,
        "loaded": None if model.state is None else model.state == "loaded",
        "locality": None if model.unplaced is not None else model.locality or endpoint.locality,
        "observed_at": endpoint.models_at or (seen.at if seen else None),
    }
