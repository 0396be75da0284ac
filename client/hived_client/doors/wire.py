"""What is said on the socket: hello once, then requests, replies and events. msgpack maps.

Hello never changes: it must work between any two versions, since it is how they find out that they
differ. It carries a range of protocol numbers (for what evolves) and names of features (for what is
added). Bodies stay raw until the method is known, because msgspec refuses a whole message for one
unknown tag.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from hived_client._version import __version__
from hived_client.errors import HivedError, Refused, Unavailable
from hived_client.resolution import Question
from hived_client.vocabulary.faults import Fault, fault, wrong_start
from hived_client.vocabulary.kinds import LLAMACPP, kind_of_prefix
from hived_client.vocabulary.world import Change

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
FEATURES = (
    *("world", "resolve", "refresh", "subscribe", "start", "stop", "reload", "retire", "statistics"),
    "requests",
    "hardware",
)

HELLO_TIMEOUT = 2.0
"""Seconds in which a peer must have said hello."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says first."""

    hived: int
    min: int
    max: int
    version: str = ""
    features: tuple[str, ...] = ()
    want: tuple[str, ...] = ()


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon answers to a hello that it can work with."""

    use: int
    version: str
    features: tuple[str, ...]
    daemon_id: str
    boot_id: str
    pid: int
    started_at: float
    generation: int
    managed_by: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A question to the daemon."""

    id: int
    method: str
    params: msgspec.Raw = msgspec.Raw(b"\x80")


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Any message from the daemon: the end of a request (``result`` or ``fault``) or an event of one.

    An empty ``Raw`` stands for nothing: msgspec cannot decode an optional one.
    """

    id: int
    result: msgspec.Raw = msgspec.Raw()
    fault: Fault | None = None
    event: str | None = None
    generation: int | None = None
    body: msgspec.Raw = msgspec.Raw()


class ResolveParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``resolve``: answer a question, looking at the servers again where that could change a no."""

    question: Question
    fresh: bool = False
    timeout: float = 0.25


class RefreshParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``refresh``: look again at one endpoint, or at all."""

    endpoint: str | None = None
    timeout: float = 2.0


class StartParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``start``: start a server and wait until it answers."""

    provider: str
    """A provider, or the name of an endpoint."""
    model: str | None = None
    port: int | None = None
    context: int | None = None
    alias: str | None = None
    arguments: tuple[str, ...] = ()
    timeout: float = 600.0
    restart: bool = True
    """Whether it is started again when it ends by accident."""
    serving: str | None = None
    """The model that is wanted of it, as it is called: for a server that is started with one, where nothing
    else says which. One that is not on this device's disk is not fetched for it."""


class StopParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``stop``: stop servers that hived started."""

    name: str
    everything: bool = False
    grace: float = 10.0


class RetireParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``retire``: end in good order."""

    if_idle: bool = False
    """Only where nobody else is being answered, or told of changes, at the moment."""


class Retired(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``retire`` has been heard."""

    retiring: bool = True


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """No parameters."""


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    """``refresh`` and ``reload`` answer with the generation that holds what was seen.

    ``subscribe`` answers with the one that the first event follows on.
    """

    generation: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a long request has come."""

    stage: str
    message: str
    endpoint: str | None = None
    elapsed: float = 0.0
    ours: bool = False
    """Whether the server is one that hived has started: it goes on when whoever asked for it leaves."""


class Begun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``start`` has succeeded."""

    endpoint: str
    url: str
    pid: int | None = None
    """``None``: not a process that hived started."""
    models: tuple[str, ...] = ()
    log: str = ""
    elapsed: float = 0.0
    adopted: bool = False
    """Whether it ran already: hived did not start it, and does not stop it."""
    notes: tuple[str, ...] = ()
    """What whoever asked should know of how it was started."""


class Stopped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``stop`` has succeeded: how each server ended."""

    endpoints: dict[str, str] = {}


_pack = msgspec.msgpack.Encoder().encode
_reply = msgspec.msgpack.Decoder(Reply).decode

HELLO_BODY = _pack(Hello(hived=1, min=PROTOCOL_MIN, max=PROTOCOL_MAX, version=__version__, features=FEATURES))

BROKEN = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What decoding bytes from a stranger can raise; RecursionError for a deep nest."""


def request_body(number: int, method: str, params: msgspec.Struct) -> bytes:
    """Encode a request. Raises ``Refused`` for what no message can carry: half a character, 2 to the 64th."""
    try:
        return _pack(Request(id=number, method=method, params=msgspec.Raw(_pack(params))))
    except (UnicodeEncodeError, OverflowError) as error:
        raise Refused(fault("params.invalid", method=method, why=str(error))) from error


def read_welcome(body: bytes) -> Welcome:
    """Decode the answer to our hello. Raises ``Unavailable`` where the two cannot talk."""
    try:
        welcome = msgspec.msgpack.decode(body, type=Welcome)
    except BROKEN:
        pass
    else:
        if PROTOCOL_MIN <= welcome.use <= PROTOCOL_MAX:
            return welcome
        from hived_client.doors.origin import install_command  # only where it is to be told

        use, mend = welcome.use, install_command(upgrade=True)
        raise Unavailable(
            fault(
                "protocol.unsupported",
                version=welcome.version,
                min=use,
                max=use,
                ours=PROTOCOL_MAX,
                upgrade=mend,
            )
        )
    try:
        refusal = msgspec.msgpack.decode(body, type=Reply)
    except BROKEN as error:
        raise Unavailable(fault("protocol.broken", why="the answer to hello makes no sense")) from error
    raise Unavailable(refusal.fault or fault("protocol.broken", why="hello was not answered"))


def read_reply(body: bytes) -> Reply:
    """Decode a message from the daemon. Raises ``Unavailable`` for one that makes no sense."""
    try:
        return _reply(body)
    except BROKEN as error:
        raise Unavailable(fault("protocol.broken", why="a reply makes no sense")) from error


def read_result(reply: Reply, shape: Any) -> Any:
    """Decode the result of a reply. Raises ``Refused`` for a fault."""
    if reply.fault is not None:
        raise error_of(reply.fault)
    try:
        return msgspec.msgpack.decode(bytes(reply.result) or b"\xc0", type=shape)
    except BROKEN as error:
        raise Unavailable(fault("protocol.broken", why="a result has another shape")) from error


def read_change(reply: Reply) -> Change:
    """Decode an event. Raises ``Unavailable`` for one that makes no sense."""
    try:
        return msgspec.msgpack.decode(reply.body, type=Change)
    except BROKEN as error:
        raise Unavailable(fault("protocol.broken", why="an event makes no sense")) from error


def error_of(problem: Fault) -> HivedError:
    """Return the error that carries a fault from the daemon."""
    if problem.code in ("draining", "protocol.unsupported", "lagged"):
        return Unavailable(problem)
    return Refused(problem)


def model_or_path(provider: str, model: str | None) -> str | None:
    """Return what names a model to the daemon, whose folder is another: a path is made absolute.

    llama.cpp's are files; of the others one that is there, or is written as a path, is a path, and else it
    is a name that the server knows. Raises ``Refused`` for what cannot be told.
    """
    if model is None:
        return None
    is_path = kind_of_prefix(provider) is LLAMACPP or model.endswith(".gguf") or model.startswith((".", "/"))
    try:
        found = os.path.abspath(model) if is_path or os.path.exists(model) else model
        found.encode()
    except FileNotFoundError as error:
        raise Refused(fault("start.no_file", path=model, directory=".")) from error  # nor a folder to be in
    except UnicodeEncodeError as error:
        shown = model.encode("utf-8", "replace").decode()
        raise Refused(wrong_start(f"the name {shown} is no UTF-8")) from error
    return found
