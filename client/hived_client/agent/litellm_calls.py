"""One turn with a model through LiteLLM: cloud models, and local ones where a caller wants it so.

A cloud model is called as its user would do it: their keys, their proxy, their callbacks, nothing of ours in
between. A local model is called at the address and with the arguments that hived gave, over a client that
reaches that server and no other (see ``egress``), and with the model's facts told beforehand, so that LiteLLM
asks the server for nothing: by itself it sends up to six ``POST /api/show`` a call, most of them to
``localhost:11434`` wherever the server is.

Tried with LiteLLM 1.81.7, 1.83.4 (which Hive pins) and 1.110.2.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from hived_client.agent.call_faults import without_key
from hived_client.agent.chat import MIND, SILENCE, Measure, Told, Watch
from hived_client.agent.dialects import Broken, OpenAi, plain
from hived_client.agent.egress import Guard, local_client
from hived_client.agent.litellm_thread import LiteLlmThread, NoLiteLlm, import_litellm
from hived_client.agent.words import Message, Reply, Request
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import KINDS, is_local_model, kind_named, shown_url

_THREAD = LiteLlmThread()
_LOCAL = frozenset(kind.litellm for kind in KINDS) | {"ollama"}
"""LiteLLM's prefixes of which the ways to the server are known to take our client."""
_OURS: set[str] = set()
"""Names in LiteLLM's price list that were put there by us."""
_KEY_MISSING = re.compile(r"api[_ ]?key|credentials", re.IGNORECASE)
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def prepare() -> None:
    """Begin to import LiteLLM in the background, which takes seconds. Idempotent; returns at once."""
    if is_installed():
        _THREAD.start()


def is_installed() -> bool:
    """Tell whether LiteLLM is there, without importing it."""
    return importlib.util.find_spec("litellm") is not None


async def complete(
    target_or_model: Target | str, request: Request, told: Told | None = None, watch: Watch | None = None
) -> Reply:
    """Have one turn through LiteLLM; ``told`` hears every piece as it comes. On asyncio or trio.

    A ``Target`` is called locally, text is the name of a cloud model as LiteLLM knows it. Nothing is tried
    again for a local one. Giving up closes the connection. ``watch`` is as for ``Chat``. Raises
    ``CallFailed``, and ValueError for the name of a local model: it needs a ``Target``.
    """
    if isinstance(target_or_model, str) and is_local_model(target_or_model):
        raise ValueError(f"{target_or_model!r} is a local model: call it with what hived.resolve returns")
    name = target_or_model if isinstance(target_or_model, str) else target_or_model.name
    if not is_installed():
        raise CallFailed(fault("call.no_litellm", model=name, why="it is not installed"))
    turn = _Cloud(target_or_model) if isinstance(target_or_model, str) else _Local(target_or_model)
    reader = OpenAi().reader()
    measure = Measure(request, turn.target.context if turn.target is not None else None)

    def take(line: bytes) -> None:
        piece = reader.read(line)
        measure.take(line, piece)
        if piece is not None and told is not None:
            told(piece)

    async def run() -> None:
        await _THREAD.run(lambda litellm, put: turn.run(litellm, request, put), take)

    try:
        await _minded(run, turn, watch)
    except NoLiteLlm as error:
        raise CallFailed(fault("call.no_litellm", model=name, why=plain(str(error), 200))) from error
    except Broken as error:
        raise CallFailed(turn.failed(error)) from error
    return turn.finished(reader.reply())


def local_kwargs(target: Target, *, asynchronous: bool = True) -> dict[str, Any]:
    """Return ``target.completion_kwargs()`` with a ``client`` that keeps the call local.

    For programs that call LiteLLM themselves, streaming or not::

        await litellm.acompletion(messages=…, **local_kwargs(target))
        litellm.completion(messages=…, **local_kwargs(target, asynchronous=False))

    It uses no proxy, which ``hived.resolve(…, private=True, direct=True)`` is told with the question.
    What it returns serves many calls, also at once, of one event loop; ``close()`` of its ``client`` (to be
    awaited where it is asynchronous) ends the connections. Imports LiteLLM where that has not been done,
    which blocks for seconds, and tells it the model's facts. What fails raises LiteLLM's own errors, with
    hived's sentence where it is a redirect. Two things are left to the caller: files that a message names by
    address, which LiteLLM fetches itself, and ``litellm.model_fallbacks``. Raises ``CallFailed`` where
    LiteLLM is not installed.
    """
    try:
        litellm = import_litellm()
    except NoLiteLlm as error:
        why = plain(str(error), 200)
        raise CallFailed(fault("call.no_litellm", model=target.name, why=why)) from error
    tell_facts(litellm, target, tools=False)
    client = local_client(target, asynchronous=asynchronous)
    return {**_arguments(target), "client": client, "max_retries": 0}


def fetched_by_litellm(messages: Sequence[Message]) -> str | None:
    """Return the server of a file that LiteLLM would fetch for the prompt; ``None``: there is none.

    It does so for a part ``{"type": "file", "file": {"file_id": "https://…"}}``, by a client of its own.
    Pictures by address go to the model's server as they are.
    """
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            file = part.get("file") if isinstance(part, Mapping) else None
            for written in file.values() if isinstance(file, Mapping) else ():
                scheme, found, rest = str(written).partition("://")
                if found and scheme.lower() in ("http", "https"):
                    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"
    return None


def tell_facts(litellm: Any, target: Target, *, tools: bool) -> None:
    """Put the model's facts where LiteLLM looks before it asks the server.

    Written directly: its ``register_model`` asks the server once itself. A name under a prefix that is also
    a cloud provider's (``openai/``) is left alone where LiteLLM knows it already: those are the prices of
    the user's cloud models. ``tools``: the call has some, and is to be made with them.
    """
    prefix, _, name = _model(target).partition("/")
    facts = dict(target.facts) | {"litellm_provider": prefix}
    if tools or "supports_function_calling" not in facts:
        facts["supports_function_calling"] = True
    names = [f"{prefix}/{name}", f"ollama/{name}"] if prefix == "ollama_chat" else [f"{prefix}/{name}"]
    changed = False
    for each in names:
        known = litellm.model_cost.get(each)
        taken = known is not None and each not in _OURS and prefix == "openai"
        if known != facts and not taken:
            litellm.model_cost[each] = facts
            _OURS.add(each)
            changed = True
    if changed:
        forget = getattr(litellm.utils, "_invalidate_model_cost_lowercase_map", None)
        if forget is not None:
            forget()


class _Turn:
    """One turn as it goes on; ``run`` in LiteLLM's thread, the rest in the caller's."""

    def __init__(self, target: Target | None) -> None:
        self.target = target

    async def run(self, litellm: Any, request: Request, put: Any) -> None:
        """Make the call, and put its pieces as lines of OpenAI's dialect."""
        raise NotImplementedError

    def failed(self, error: Exception) -> Fault:
        """Return what is wrong, in hived's words."""
        raise NotImplementedError

    def finished(self, reply: Reply) -> Reply:
        """Return the answer. Raises ``CallFailed`` where there is none."""
        return reply

    @property
    def heard(self) -> int:
        """A number that grows whenever the server says something."""
        return 0


class _Local(_Turn):
    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._target = target
        self._guard = Guard(target, reads=True)

    @property
    def heard(self) -> int:
        return self._guard.last.heard if self._guard.last is not None else 0

    async def run(self, litellm: Any, request: Request, put: Any) -> None:
        if litellm.model_fallbacks:
            # They would be called with this prompt, wherever they are.
            other = f"the fallbacks {litellm.model_fallbacks!r}"
            raise CallFailed(fault("call.astray", model=self._target.name, other=other))
        if (fetched := fetched_by_litellm(request.messages)) is not None:
            raise CallFailed(fault("call.astray", model=self._target.name, other=fetched))
        tell_facts(litellm, self._target, tools=bool(request.tools))
        client = local_client(self._target, asynchronous=True, guard=self._guard)
        kwargs = _arguments(self._target) | {"client": client, "max_retries": 0, "timeout": SILENCE}
        first = True

        def put_known(line: bytes) -> None:
            nonlocal first
            if first:
                first = False
                self._tell_by_its_own_name(litellm, tools=bool(request.tools))
            put(line)

        try:
            await _stream(litellm, kwargs, request, put_known)
        except Exception as error:
            raise CallFailed(self.failed(error)) from error
        finally:
            await client.close()

    def _tell_by_its_own_name(self, litellm: Any, *, tools: bool) -> None:
        """Tell the facts by the name that the server answers with: afterwards LiteLLM asks about that one."""
        exchange = self._guard.last
        said = exchange.reader.reply().model if exchange is not None else None
        if said and said != self._target.name and self._target.model.startswith("ollama_chat/"):
            known = msgspec.structs.replace(self._target, name=said, model=f"ollama_chat/{said}")
            tell_facts(litellm, known, tools=tools)

    def failed(self, error: Exception) -> Fault:
        if self._guard.last is not None and (found := self._guard.last.end()) is not None:
            return found.fault
        if isinstance(error, CallFailed):
            return error.fault
        return fault("call.failed", **_said(self._target, error))

    def finished(self, reply: Reply) -> Reply:
        exchange = self._guard.last
        if exchange is None:
            why = "LiteLLM answered, and not over the client that it was given"
            raise CallFailed(fault("call.failed", **_said(self._target, why)))
        if (failure := exchange.end()) is not None:
            raise failure
        # LiteLLM counts where a server does not, and names the model as it was called: the server knows.
        said = exchange.reader.reply()
        return msgspec.structs.replace(
            reply, usage=said.usage, model=said.model, finish_reason=said.finish_reason
        )


class _Cloud(_Turn):
    def __init__(self, model: str) -> None:
        super().__init__(None)
        self._model = model
        self._missing: list[str] = []

    async def run(self, litellm: Any, request: Request, put: Any) -> None:
        try:
            await _stream(litellm, {"model": self._model}, request, put)
        except Exception as error:
            # One version in three calls a missing key an error of the server's.
            if getattr(error, "status_code", None) == 401 or _KEY_MISSING.search(str(error)):
                self._missing = _missing_keys(litellm, self._model)
            raise CallFailed(self.failed(error)) from error

    def failed(self, error: Exception) -> Fault:
        why = plain(without_secrets(str(error), os.environ), 300) or type(error).__name__
        if self._missing:
            return fault("cloud.unauthorised", model=self._model, variable=self._missing[0])
        return fault("cloud.failed", model=self._model, why=why.rstrip("."))


async def _stream(litellm: Any, kwargs: Mapping[str, Any], request: Request, put: Any) -> None:
    asked: dict[str, Any] = {
        "messages": [dict(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        asked["tools"] = [dict(tool) for tool in request.tools]
    for name in ("max_tokens", "temperature", "seed"):
        if getattr(request, name) is not None:
            asked[name] = getattr(request, name)
    stream = await litellm.acompletion(**kwargs, **asked)
    try:
        async for chunk in stream:
            put(b"data: " + chunk.model_dump_json(warnings=False).encode())
    finally:
        await _close(stream)


async def _close(stream: Any) -> None:
    """Close what LiteLLM streams from, so that a server which is given up hears of it."""
    for each in (stream, getattr(stream, "completion_stream", None)):
        close = getattr(each, "aclose", None)
        if close is not None:
            try:
                await close()
            except Exception:  # noqa: BLE001 - a generator that runs, a wrapper without a stream
                pass


async def _minded(run: Callable[[], Awaitable[None]], turn: _Turn, watch: Watch | None) -> None:
    """Run a turn; while the server says nothing, ask whether to wait on. Raises ``CallFailed``."""
    import anyio

    target = turn.target
    if target is None or watch is None:
        await run()
        return
    given_up: Fault | None = None
    failure: Exception | None = None

    async def mind(scope: anyio.CancelScope) -> None:
        nonlocal given_up
        heard, heard_at = turn.heard, anyio.current_time()
        while True:
            await anyio.sleep(MIND)
            if turn.heard != heard:
                heard, heard_at = turn.heard, anyio.current_time()
            why = await watch(target, anyio.current_time() - heard_at)
            if why is not None and turn.heard == heard:  # nothing has come meanwhile
                given_up = why
                scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mind, tasks.cancel_scope)
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - out of the group by hand: a group would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if given_up is not None:
        raise CallFailed(given_up)
    if failure is not None:
        raise failure


def _model(target: Target) -> str:
    """Return the model as LiteLLM is to be told: what it does not know speaks the common dialect."""
    return target.model if target.model.partition("/")[0] in _LOCAL else f"openai/{target.name}"


def _arguments(target: Target) -> dict[str, Any]:
    return {**target.completion_kwargs(), "model": _model(target)}


def _said(target: Target, error: Exception | str) -> dict[str, str]:
    kind = kind_named(target.provider)
    text = without_key(without_secrets(str(error), os.environ), target.api_key)
    return {
        "title": kind.title if kind else target.provider,
        "url": shown_url(target.api_base.removesuffix("/v1")),
        "why": (plain(text, 300) or type(error).__name__).rstrip("."),
    }


def _missing_keys(litellm: Any, model: str) -> list[str]:
    try:
        return [str(name) for name in litellm.validate_environment(model)["missing_keys"]]
    except Exception:  # noqa: BLE001 - a model that LiteLLM does not know
        return []


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Return a text in which no value of a variable that names a secret stands."""
    for name, value in environment.items():
        if len(value) >= 8 and any(part in name.upper() for part in _SECRET):
            text = text.replace(value, "***")
    return text
