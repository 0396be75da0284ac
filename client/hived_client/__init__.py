"""Ask hived how to call a local model.

    import hived_client as hived

    target = hived.resolve("llamacpp/tiny-agent", context=4096, needs={"tools"})
    litellm.completion(messages=[...], **target.completion_kwargs())

Answered from a file in microseconds while the daemon lives; honestly, with a warning, when it does not.
Needs nothing but the standard library and msgspec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hived_client._version import __version__

if TYPE_CHECKING:
    from hived_client.agent.result import ExecutionResult
    from hived_client.agent.runner import AgentRunner
    from hived_client.doors.aio import AsyncClient
    from hived_client.doors.files import Known
    from hived_client.doors.launch import ensure_running
    from hived_client.doors.sync import Client, shared
    from hived_client.errors import HivedError, NotReady, Refused, StartFailed, Unavailable
    from hived_client.resolution import Question, Target
    from hived_client.vocabulary.faults import Fault
    from hived_client.vocabulary.kinds import is_local_model
    from hived_client.vocabulary.world import Endpoint, Model, World

    resolve = shared.resolve
    world = shared.world

__all__ = [
    "AgentRunner",
    "AsyncClient",
    "Client",
    "Endpoint",
    "ExecutionResult",
    "Fault",
    "HivedError",
    "Known",
    "Model",
    "NotReady",
    "Question",
    "Refused",
    "StartFailed",
    "Target",
    "Unavailable",
    "World",
    "__version__",
    "ensure_running",
    "is_local_model",
    "resolve",
    "world",
]

# Names are imported when they are first used: a program that only resolves pays for nothing else.
_HOMES = {
    "AgentRunner": "agent.runner",
    "AsyncClient": "doors.aio",
    "Client": "doors.sync",
    "Endpoint": "vocabulary.world",
    "ExecutionResult": "agent.result",
    "Fault": "vocabulary.faults",
    "HivedError": "errors",
    "Known": "doors.files",
    "Model": "vocabulary.world",
    "NotReady": "errors",
    "Question": "resolution",
    "Refused": "errors",
    "StartFailed": "errors",
    "Target": "resolution",
    "Unavailable": "errors",
    "World": "vocabulary.world",
    "ensure_running": "doors.launch",
    "is_local_model": "vocabulary.kinds",
}


def __getattr__(name: str) -> object:
    import importlib

    if name in ("resolve", "world"):
        found: object = getattr(importlib.import_module("hived_client.doors.sync").shared, name)
    elif name in _HOMES:
        found = getattr(importlib.import_module(f"hived_client.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'hived_client' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
