"""What a provider is: its row in the table of kinds, the probe of its servers, its models on disk.

hived's own providers and those that come as plug-ins are the same thing. What a plug-in needs is all to be
imported from here, and ``__all__`` is the promise: these names and their meaning stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome, Stranger
from hived.providers.http import LARGE, MEDIUM, SMALL, Answer, Http, Unusable
from hived.providers.reach import key_for, timeout_for
from hived_client.vocabulary.kinds import ProviderKind
from hived_client.vocabulary.world import Endpoint, Model

__all__ = [
    "LARGE",
    "MEDIUM",
    "SMALL",
    "Answer",
    "Endpoint",
    "Heard",
    "Http",
    "Locked",
    "Model",
    "NoAnswer",
    "Outcome",
    "Probe",
    "Provider",
    "ProviderKind",
    "Stranger",
    "Unusable",
    "check",
    "key_for",
    "timeout_for",
]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_LOADS_IN_PROCESS = frozenset({"vllm"})
"""Prefixes with which LiteLLM would load the model inside the caller's process."""


class Probe(Protocol):
    """How one kind of server is looked at. What it needs to know of one server is in the endpoint."""

    @property
    def provider(self) -> str: ...

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Ask the server how it is. Never raises; safe to cancel.

        ``thorough``: believe nothing that was seen before. Otherwise one cheap request is enough to
        confirm that nothing changed.
        """
        ...

    def has_push(self, endpoint: Endpoint) -> bool:
        """Tell whether this server says by itself that something changed."""
        ...

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Call ``told`` whenever the server says that something changed, until it stops saying so.

        Never raises; safe to cancel.
        """
        ...


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """All that hived needs of a kind of server. A plug-in's entry point names one of these."""

    kind: ProviderKind
    """How it is named, found and called. Clients are sent this row, so they need not have the plug-in."""
    probe: Callable[[Http, Mapping[str, str]], Probe]
    """Makes the probe from the daemon's HTTP client and its environment."""
    shelf: Callable[[Mapping[str, str]], tuple[Model, ...]] | None = None
    """Reads from this device's disk which models a server that is down would have. Blocks; called in a
    thread, with the environment."""


def check(provider: object) -> None:
    """Raise TypeError or ValueError, saying why, for what is no provider. A plug-in's tests call this."""
    if not isinstance(provider, Provider):
        raise TypeError(f"it is {_a(provider)}, not a hived.providers.base.Provider")
    if not isinstance(provider.kind, ProviderKind):
        raise TypeError(f"its kind is {_a(provider.kind)}, not a ProviderKind")
    if not callable(provider.probe) or not (provider.shelf is None or callable(provider.shelf)):
        raise TypeError("its probe or its shelf cannot be called")
    why = _wrong_with(provider.kind)
    if why:
        raise ValueError(why)


def _wrong_with(kind: ProviderKind) -> str:
    """Say what is wrong with a row of the table, or nothing."""
    try:
        msgspec.convert(msgspec.to_builtins(kind), ProviderKind)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        return f"its kind is not one: {error}"
    templates = (kind.load, kind.pull, kind.start_model, kind.tools, kind.placement)
    try:
        filled = [each.format(model="m", file="f", port=1, asked=1) for each in templates]
    except (KeyError, IndexError, ValueError, AttributeError):
        return "its kind has a command with braces around another word than model, file, port or asked"
    wrong = {
        "name is not a word of lower-case letters, digits and underscores": not _NAME.fullmatch(kind.name),
        "title is empty or cannot be shown": not kind.title.strip() or not kind.title.isprintable(),
        "commands cannot be shown": not "".join((kind.start, *filled)).isprintable(),
        "prefixes do not begin with its name": kind.prefixes[:1] != (kind.name,),
        "prefixes are not all words": not all(map(_PREFIX.fullmatch, kind.prefixes)),
        "litellm is not a prefix of LiteLLM's": not _NAME.fullmatch(kind.litellm),
        "litellm would load the model inside the caller": kind.litellm in _LOADS_IN_PROCESS,
        "api_path is neither empty nor a path that begins with a slash": not _PATH.fullmatch(kind.api_path),
        "ports are not all from 1 to 65535": not all(0 < port < 65536 for port in kind.ports),
        "silent_start is not some seconds": not 0.0 <= kind.silent_start < 86_400.0,
    }
    return next((f"its kind's {what}" for what, holds in wrong.items() if holds), "")


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
