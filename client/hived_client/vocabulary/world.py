"""The World: everything that hived believes, immutable and numbered by generation.

What moves all the time (when each endpoint was last seen, how long it took) is not in the World but
in the beat file, so that a World changes only when something meaningful does. Unknown is ``None``.
Times are seconds since the epoch, durations seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hived_client.vocabulary.commands import start_command
from hived_client.vocabulary.faults import Fault, quoted
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.kinds import ProviderKind

State = Literal[
    "ready",
    "starting",
    "loading",
    "busy",
    "sleeping",
    "unauthorised",
    "wrong_server",
    "failed",
    "down",
    "unreachable",
    "unknown",
]
ModelState = Literal["unloaded", "downloading", "loading", "loaded", "sleeping", "failed"]
Locality = Literal["device", "lan", "internet"]
Source = Literal["configuration", "environment", "started", "default"]
Verdict = Literal["fresh", "lagging", "stale", "stopped", "absent", "foreign"]

CALLABLE: frozenset[State] = frozenset({"ready", "busy", "sleeping"})
"""States in which a call can be sent to an endpoint."""

GUESSED: frozenset[Source] = frozenset({"default"})
"""Sources of a URL that nobody gave: a default port proves nothing."""


SLOTS = 64
"""Endpoints that a daemon watches at most; the beat file has a row for each."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that an endpoint can serve."""

    name: str
    aliases: tuple[str, ...] = ()
    file: str | None = None
    """Path of the model's file on the server's machine, where the server tells it."""
    state: ModelState | None = None
    progress: float | None = None
    """Share of a download or load that is done, 0 to 1."""
    since: float | None = None
    """Since when it is being downloaded or loaded."""
    fault: Fault | None = None
    digest: str | None = None
    size: int | None = None
    """Bytes of weights."""
    quantization: str | None = None
    parameters: int | None = None
    context: int | None = None
    """Tokens that the model was made for."""
    loaded_context: int | None = None
    """Tokens that one request can use as it is loaded now."""
    device: str | None = None
    offload: float | None = None
    """Share of the model on an accelerator, 0 to 1."""
    memory: int | None = None
    """Bytes that it holds while it is loaded, on all devices together."""
    capabilities: tuple[str, ...] | None = None
    adapters: tuple[str, ...] = ()
    locality: Locality | None = None
    """Where it runs, if that is not where its endpoint is."""
    unplaced: Fault | None = None
    """Why nobody knows where it runs, although its server is known: a private question is refused with it."""


class Process(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server that hived started."""

    pid: int | None
    """``None``: it was started by a command that has ended, and runs in a process of its own."""
    command: tuple[str, ...]
    log: str
    name: str
    """What ``hived stop`` calls it."""
    provider: str
    """This and what follows is what it was started with."""
    model: str = ""
    """Empty: it loads what it is asked for."""
    port: int | None = None
    context: int | None = None
    """Tokens."""
    alias: str = ""
    arguments: tuple[str, ...] = ()
    """What was passed on to it."""
    unit: str = ""
    """The unit of the user's systemd that it lives in; empty: none."""

    def start(self, *, context: int | None = None) -> str:
        """Return the command that starts it as it was, or with another context (tokens)."""
        return start_command(
            self.provider,
            model=self.model,
            port=self.port,
            context=context or self.context,
            alias=self.alias,
            arguments=self.arguments,
        )

    def restart(self, *, context: int | None = None) -> str:
        """Return the same for one that runs, which has the port and the memory until it is stopped."""
        return f"hived stop {quoted(self.name)} && {self.start(context=context)}"


class Installation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What this device has of a server's program, as far as the places tell where it is usually put."""

    found: bool
    path: str | None = None
    """The program, where it was found."""
    owner: str = ""
    """What starts and stops it (``system unit ollama.service``, ``the Ollama app``); empty: nobody known."""
    start: str = ""
    """The command that starts it, through its owner if it has one; empty: the usual one."""


class ConfiguredModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a section of the configuration says of a model, or of every model of an endpoint."""

    model: str | None = None
    """As it was written, with whatever prefixes; ``None``: every model."""
    num_ctx: int | None = None
    """Tokens that a call is to set as its context, where the server takes it a call at a time."""
    max_context_tokens: int | None = None
    """Tokens that Hive fills with a prompt and its answer together."""
    max_tokens: int | None = None
    """Tokens that an answer may have."""
    origin: str
    """The section: ``llm``, ``provider_library.phi``, ``providers.ollama``."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place where a provider is expected or was found."""

    name: str
    provider: str
    url: str
    """Root URL without a trailing slash and without ``/v1``."""
    aliases: tuple[str, ...] = ()
    """Other names that somebody gave the same server; each is a prefix as ``name`` is."""
    source: Source
    origin: str = ""
    """Where the URL was read: a place in the configuration, a variable, a default."""
    locality: Locality | None = None
    state: State = "unknown"
    reason: Fault | None = None
    since: float | None = None
    version: str | None = None
    mode: str | None = None
    """``single`` or ``router`` for llama.cpp."""
    models: tuple[Model, ...] | None = None
    """``None``: never learnt. Kept from the last look while the server is down."""
    models_at: float | None = None
    """When the models were last learnt, if that is not the last look."""
    key_ref: str | None = None
    """The environment variable that holds the key. The key itself is never here."""
    warnings: tuple[Fault, ...] = ()
    configured: tuple[ConfiguredModel, ...] = ()
    """What the configuration says of its models."""
    process: Process | None = None
    installation: Installation | None = None
    """Its program, of a server on this device that is down; ``None``: not looked for."""
    slot: int = -1
    """Row of the beat file that tells when this endpoint was last seen."""


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """The running daemon."""

    version: str
    pid: int
    started_at: float
    managed_by: str
    """``systemd``, ``launchd``, ``client`` or ``foreground``."""
    socket: str
    id: str
    boot: str
    broken_plugins: tuple[Fault, ...] = ()
    """Why it cannot use plug-ins that it found when it started."""
    notes: tuple[Fault, ...] = ()
    """What was found wrong with it when it started: that its unit is another version's, say."""
    problems: tuple[Fault, ...] = ()
    """What the daemon itself cannot do: write to a disk that is full, say."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was read of configuration.json."""

    path: str
    state: Literal["ok", "missing", "broken"]
    error: Fault | None = None
    """Why it is broken; the last good one is kept."""
    problems: tuple[Fault, ...] = ()
    """What in it cannot be used."""
    loaded_at: float | None = None


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that hived believes, at one generation."""

    generation: int
    daemon: Daemon | None = None
    configuration: Configuration | None = None
    hardware: Hardware | None = None
    endpoints: tuple[Endpoint, ...] = ()
    problems: tuple[Fault, ...] = ()
    kinds: tuple[ProviderKind, ...] = ()
    """Kinds that are not in the client's own table."""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One meaningful difference between two Worlds, as subscribers are told it."""

    event: str
    at: float
    endpoint: str | None = None
    model: str | None = None
    before: str | None = None
    after: str | None = None
    reason: Fault | None = None
