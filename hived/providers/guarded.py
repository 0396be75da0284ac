"""A plug-in's probe and shelf, held to what hived's own promise: no exception, an end, facts of one shape.

What a plug-in says goes into the World, and the World into files that every client reads: a value that
cannot be written would stop the daemon's publishing for all, and one of a wrong type its readers. So every
outcome is written and read once here, and names are held to what any server's are. Its own time is bounded;
a plug-in that blocks the loop (``time.sleep``) cannot be held to anything.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import TypeVar

import anyio
import msgspec
import structlog

from hived.decisions.outcomes import Heard, Locked, NoAnswer, Outcome, Stranger
from hived.providers.base import Probe
from hived.providers.fields import LONGEST_NAME, MOST_ITEMS, count, share, text, texts
from hived_client.vocabulary.world import Endpoint, Model

LONGEST_LOOK = 10.0
"""Seconds that a whole look of a plug-in may take."""
LONGEST_FILE = 4096
"""Characters that a path may have."""

log = structlog.get_logger(__name__)

Shape = TypeVar("Shape", bound=msgspec.Struct)


class GuardedProbe:
    """A probe that keeps the promises which another one may break."""

    def __init__(self, probe: Probe, plugin: str) -> None:
        self.provider = probe.provider
        self._probe = probe
        self._plugin = plugin
        self._said: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<GuardedProbe of {self._plugin}>"

    async def look(self, endpoint: Endpoint, *, thorough: bool) -> Outcome:
        """Look as the plug-in does; what it does wrong is a server that failed, with the sentence."""
        try:
            with anyio.fail_after(LONGEST_LOOK) as patience:
                outcome: object = await self._probe.look(endpoint, thorough=thorough)
        except TimeoutError as error:
            if patience.cancelled_caught:
                return NoAnswer(kind="silent", why=f"no answer within {LONGEST_LOOK:g} s")
            return self._failed(endpoint, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it may be anything: the code is not ours
            return self._failed(endpoint, error)
        try:
            judged = checked(outcome)
        except ValueError as error:
            return self._wrong(endpoint, str(error))
        self._said.pop(endpoint.name, None)
        return judged

    def has_push(self, endpoint: Endpoint) -> bool:
        """Ask the plug-in; no where it fails."""
        try:
            return self._probe.has_push(endpoint) is True
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._failed(endpoint, error)
            return False

    async def push(self, endpoint: Endpoint, told: Callable[[], None]) -> None:
        """Listen as the plug-in does; a failure is the end of it."""
        try:
            await self._probe.push(endpoint, told)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._failed(endpoint, error)

    def _failed(self, endpoint: Endpoint, error: BaseException) -> NoAnswer:
        return self._wrong(endpoint, f"raised {type(error).__name__}", places_of(error))

    def _wrong(self, endpoint: Endpoint, what: str, places: tuple[str, ...] = ()) -> NoAnswer:
        # Once for each mistake, not for each look.
        if self._said.get(endpoint.name) != what:
            self._said[endpoint.name] = what
            _report(self._plugin, what, places)
        return NoAnswer(kind="failed", why=f"its plug-in {self._plugin} {what}")


def guarded_shelf(
    shelf: Callable[[Mapping[str, str]], tuple[Model, ...]], plugin: str
) -> Callable[[Mapping[str, str]], tuple[Model, ...]]:
    """Return a plug-in's shelf that never raises and gives nothing but models. Blocks as it does."""

    def read(environment: Mapping[str, str]) -> tuple[Model, ...]:
        try:
            found = _retyped(Heard(state="ready", models=shelf(environment)), Heard)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            _report(plugin, f"its shelf raised {type(error).__name__}", places_of(error))
            return ()
        return _models(found.models or ())

    return read


def checked(outcome: object) -> Outcome:
    """Return an outcome of which every part has its type. Raises ValueError for what is none."""
    match outcome:
        case Heard():
            heard = _retyped(outcome, Heard)
            models = None if heard.models is None else _models(heard.models)
            return msgspec.structs.replace(
                heard, models=models, version=text(heard.version, 100), mode=text(heard.mode, 100)
            )
        case Locked():
            locked = _retyped(outcome, Locked)
            return msgspec.structs.replace(locked, version=text(locked.version, 100))
        case Stranger():
            stranger = _retyped(outcome, Stranger)
            models = None if stranger.models is None else _models(stranger.models)
            return msgspec.structs.replace(stranger, models=models, seems=text(stranger.seems, 100) or "")
        case NoAnswer():
            silent = _retyped(outcome, NoAnswer)
            return msgspec.structs.replace(silent, why=text(silent.why, 200) or "it does not say why")
    raise ValueError(f"returned {type(outcome).__name__} instead of an outcome")


def _retyped(outcome: Shape, shape: type[Shape]) -> Shape:
    """Return what is read when the outcome is written: everything in it has its type then."""
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=shape)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"returned a {shape.__name__} with something wrong in it") from error


def _models(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Return the models that have a name, each name once, without numbers that cannot be."""
    sound: dict[str, Model] = {}
    for model in models[:MOST_ITEMS]:
        name = text(model.name, LONGEST_NAME)
        if name is not None and name not in sound:
            sound[name] = msgspec.structs.replace(
                model,
                aliases=texts(list(model.aliases)),
                file=text(model.file, LONGEST_FILE),
                digest=text(model.digest),
                quantization=text(model.quantization, 100),
                device=text(model.device, 100),
                progress=share(model.progress),
                offload=share(model.offload),
                size=count(model.size),
                parameters=count(model.parameters),
                context=count(model.context),
                loaded_context=count(model.loaded_context),
                capabilities=None if model.capabilities is None else texts(list(model.capabilities)),
                adapters=texts(list(model.adapters)),
            )
    return tuple(sound.values())


def _report(plugin: str, what: str, places: tuple[str, ...]) -> None:
    # Without the error's own words, and so without its trace: either may hold a key.
    log.error("plugin.failed", plugin=plugin, why=what, at=places)


def places_of(error: BaseException) -> tuple[str, ...]:
    """Return where an error came through, the last five steps. Never its words: they may hold a key."""
    steps = traceback.extract_tb(error.__traceback__)[-5:]
    return tuple(f"{step.filename}:{step.lineno} in {step.name}" for step in steps)
