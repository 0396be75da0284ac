"""Everything that can be wrong, as data: a stable code, one sentence, and the command that mends it.

A row of the catalogue is a code, a sentence and hints by system. The sentence and the hints are
filled from the fields that the finder of the fault knows; a hint that needs a field which is not
known falls back to the row's general one. A code is never reused for another meaning.
"""

from __future__ import annotations

import sys

import msgspec

Value = str | int | float | bool | None


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Say what is wrong: ``message`` is one sentence, ``hint`` a command or a path for this system."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    fields: dict[str, Value] = {}


class Row(msgspec.Struct, frozen=True):
    """One kind of fault. ``hints`` are tried in order; the first whose fields are all known is used."""

    message: str
    hints: tuple[str, ...] = ()
    retryable: bool = False
    darwin: tuple[str, ...] = ()
    wsl: tuple[str, ...] = ()


COMMANDS = frozenset({"start", "restart", "load", "pull"})
"""Fields that are commands already; every other one is a word in a command."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-~")

START_LLAMACPP = "hived start llamacpp --model FILE.gguf"

CATALOGUE: dict[str, Row] = {
    # The question
    "model.unnamed": Row(
        "A model is written PROVIDER/NAME, and {model!r} is not.", ("hived resolve PROVIDER/NAME",)
    ),
    "provider.unknown": Row(
        "No provider and no endpoint is called {prefix!r}; known are {known}.", ("hived status",)
    ),
    "provider.nowhere": Row("No {title} server is known.", ("{start}", "hived status")),
    "question.invalid": Row("The question cannot be asked: {why}.", ("hived resolve PROVIDER/NAME",)),
    "model.unknown": Row("{endpoint} has no model {model!r}.", ("{pull}", "hived status")),
    "model.ambiguous": Row(
        "{model!r} is served by {endpoints} alike; name the endpoint.", ("hived resolve {first}",)
    ),
    "model.failed": Row("{endpoint} could not load {model!r}.", ("hived status",)),
    "model.incomplete": Row(
        "{model!r} is not complete on disk: {missing} of its {parts} parts are missing.",
        ("ollama pull {model}",),
    ),
    "model.loading": Row("{endpoint} is loading {model!r}.", ("hived events",), retryable=True),
    "model.downloading": Row("{endpoint} is still downloading {model!r}.", ("hived events",), retryable=True),
    "model.sleeping": Row("{model!r} sleeps; the first call waits until it is loaded again."),
    "model.unloaded": Row("{model!r} is not loaded; the first call waits until it is."),
    "model.unverified": Row("Nobody could say whether {endpoint} has the model {model!r}."),
    "model.remote": Row(
        "{model!r} does not run on this device ({locality}), and the question is private.",
        ("hived status",),
    ),
    "model.lacks": Row("{model!r} does not offer {missing}.", ("hived status",)),
    "model.unsure": Row("It is not known whether {model!r} offers {missing}."),
    "context.exceeds_loaded": Row(
        "{asked} tokens of context were asked for, and {model!r} is loaded with {loaded}.",
        ("{restart}", "{load}"),
    ),
    "context.exceeds_native": Row(
        "{asked} tokens of context were asked for, and {model!r} can hold {native} at most.",
        ("hived status",),
    ),
    # The server
    "server.down": Row(
        "{title} is not running at {url}.",
        ("{start}", "hived status"),
    ),
    "server.ended": Row(
        "The {title} that hived started at {url} is not running any more{why}.",
        ("{start}", "hived status"),
    ),
    "server.unreachable": Row("{url} cannot be reached: {why}.", ("hived status",)),
    "server.dns": Row("The name {host!r} of {url} cannot be resolved.", ("hived status",)),
    "server.silent": Row(
        "{title} at {url} accepts connections and does not answer.", ("{restart}", "hived status")
    ),
    "server.starting": Row("{title} at {url} is starting.", ("hived events",), retryable=True),
    "server.loading": Row("{title} at {url} is loading its model.", ("hived events",), retryable=True),
    "server.failed": Row("{title} at {url} failed: {why}.", ("{restart}", "hived status")),
    "server.unauthorised": Row(
        "{title} at {url} wants a key, and {key_ref} holds none that it takes.",
        ("export {variable}=…", "hived status"),
    ),
    "server.wrong": Row("{url} answers, but it is not {title}{seems}.", ("hived status",)),
    "server.not_seen_yet": Row(
        "{title} at {url} has not been looked at yet.", ("hived status",), retryable=True
    ),
    "server.unwatched": Row(
        "hived does not watch {title} yet, so nothing at {url} was checked.", ("hived status",)
    ),
    "server.other_dialect": Row("{url} is not {title}{seems}; it is used because the configuration says so."),
    "server.malformed": Row(
        "{title} at {url} answered something that cannot be used: {why}.", ("hived status",)
    ),
    "server.redirects": Row(
        "{url} answers with a redirect, which is never followed on the way to a local model.",
        ("hived status",),
    ),
    # Starting
    "start.no_file": Row("There is no model file {path}.", ("ls -l {directory}",)),
    "start.not_gguf": Row("{path} is not a GGUF file.", ("hived start llamacpp --model FILE.gguf",)),
    "start.not_installed": Row(
        "llama.cpp is not installed: neither llama-server nor the xllamacpp package is there.",
        ("pip install 'hived-local[llamacpp]'",),
    ),
    "start.ended": Row("{title} ended while it started{why}.", ("less {log}",)),
    "start.timeout": Row("{title} did not answer within {seconds:.0f} s of its start.", ("less {log}",)),
    "start.port_taken": Row("Port {port} is taken.", ("hived start llamacpp --model {path} --port 0",)),
    "start.unsupported": Row("hived cannot start {provider!r}; it can start {known}.", (START_LLAMACPP,)),
    "stop.not_ours": Row(
        "{endpoint} was not started by hived, so hived does not stop it.", ("hived status",)
    ),
    "stop.which": Row("hived started {endpoints}; say which one to stop.", ("hived stop {first}",)),
    "stop.nothing": Row("hived has not started {provider}.", ("hived status",)),
    # The daemon
    "daemon.absent": Row("hived is not running, so this is the last that it knew.", ("hived serve",)),
    "daemon.not_running": Row("hived is not running.", ("hived serve",)),
    "daemon.unresponsive": Row("hived does not answer ({why}).", ("hived status",), retryable=True),
    "daemon.not_installed": Row(
        "hived is not installed for this Python ({python}).", ("pip install hived-local",)
    ),
    "daemon.start_failed": Row("hived could not start: {why}.", ("hived serve",)),
    "daemon.already_running": Row("hived is already running (pid {pid}).", ("hived status",)),
    "facts.old": Row("The last look at {endpoint} is {age:.0f} s old.", ("hived status",)),
    "facts.none": Row(
        "hived does not watch {endpoint}; the address is a default and nothing was checked but that "
        "something listens there.",
        ("hived status",),
    ),
    # The doors
    "protocol.unsupported": Row(
        "hived {version} speaks protocol {min} to {max}, and this client speaks {ours}.",
        ("pip install --upgrade hived-local",),
    ),
    "protocol.broken": Row("The connection to hived broke: {why}.", ("hived status",), retryable=True),
    "peer.denied": Row("hived of user {owner} does not talk to user {peer}.", ("hived serve",)),
    "method.unknown": Row("hived knows no method {method!r}.", ("hived --help",)),
    "params.invalid": Row("The parameters of {method!r} are wrong: {why}.", ("hived --help",)),
    "internal": Row("hived made a mistake in {method!r}; the log has the trace.", ("hived status",)),
    "draining": Row("hived is shutting down.", ("hived status",), retryable=True),
    "lagged": Row("The events came faster than they were read.", ("hived events",), retryable=True),
    "deadline": Row("{what} took longer than {seconds:.2f} s.", ("hived status",), retryable=True),
    "runtime.unsafe": Row("{path} cannot be trusted: {why}.", ("ls -ld {path}",)),
    "runtime.unwritable": Row("{path} cannot be written: {why}.", ("ls -ld {path}",)),
    "snapshot.foreign": Row("The snapshot {path} is not one of ours: {why}.", ("hived status",)),
    # The configuration
    "configuration.broken": Row(
        "{path} is not valid JSON (line {line}, column {column}: {why}); the last good one is kept.",
        ("python3 -m json.tool {path}",),
    ),
    "configuration.invalid": Row("{path}: {where} {why}.", ("python3 -m json.tool {path}",)),
    "configuration.unreadable": Row("{path} cannot be read: {why}.", ("ls -l {path}",)),
}


def fault(code: str, /, **fields: Value) -> Fault:
    """Fill a row of the catalogue. Raises KeyError for a code that is not in it."""
    row = CATALOGUE[code]
    known: dict[str, Value] = {name: value for name, value in fields.items() if value is not None}
    return Fault(
        code=code,
        message=row.message.format_map(_Fields(known)),
        hint=_hint(row, known),
        retryable=row.retryable,
        fields=fields,
    )


def system() -> str:
    """Name this system as the catalogue does: ``linux``, ``darwin`` or ``wsl``."""
    if sys.platform == "darwin":
        return "darwin"
    import os

    return "wsl" if "WSL_DISTRO_NAME" in os.environ else "linux"


class _Fields(dict[str, Value]):
    """Fields for a sentence: one that is not known reads as ``?`` rather than failing the report."""

    def __missing__(self, key: str) -> str:
        return _Unknown("?")


class _Unknown(str):
    """An unknown value, which no format specification can break."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return str(self)


def quoted(text: str) -> str:
    """Quote a text as one word of a shell: a server chooses its models' names, and hints are pasted."""
    return text if text and _PLAIN.issuperset(text) else "'" + text.replace("'", "'\"'\"'") + "'"


def _word(value: Value) -> Value:
    return quoted(value) if isinstance(value, str) and value else value


def _hint(row: Row, fields: dict[str, Value]) -> str:
    words: dict[str, Value] = {
        name: value if name in COMMANDS else _word(value) for name, value in fields.items()
    }
    own = {"darwin": row.darwin, "wsl": row.wsl}.get(system(), ())
    for hint in (*own, *row.hints):
        try:
            text = hint.format_map(words)
        except (KeyError, ValueError, TypeError):
            continue
        if text:
            return text
    return ""
