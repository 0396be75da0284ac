"""What stands before LiteLLM in Hive's own module: it looks after the calls of local models.

Hive makes every call by ``litellm.completion`` or ``litellm.acompletion``, by the name that its module
``framework.llm.litellm`` imported. There ``Attended`` takes LiteLLM's place: what is no call, and every call
of a cloud model, goes straight through. Before a call of a local model hived is asked, which costs
microseconds, and the call goes over a client that reaches its server and nothing else. So a server that is
known to be down is not called; and Hive, which takes a refused connection for something that passes and
calls again for minutes, is told by an error that it does not take so. What may pass (a model that loads) is
waited for; what hived knows nothing of is LiteLLM's error, for Hive to judge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from hived_client.agent.calls import AGAIN, LOADING, WHY
from hived_client.agent.context import Meter
from hived_client.agent.egress import Guard, local_client
from hived_client.agent.hive_cuts import Cuts, request_of
from hived_client.agent.hive_mapping import Plan, down, stays_near, with_key
from hived_client.agent.litellm_calls import tell_facts
from hived_client.errors import CallFailed, HivedError, NotReady
from hived_client.resolution import Target
from hived_client.vocabulary.kinds import address

CONNECT = 0.25
"""Seconds for one connection to a server that hived does not watch."""
MOST_PLANS = 1024

_GONE = frozenset({"server.down", "server.unreachable", "call.broken_off"})
_FINAL = frozenset(
    (
        *("server.redirects", "server.dns", "server.wrong", "server.malformed"),
        *("call.astray", "call.no_memory", "call.no_jinja", "call.no_tool_parser"),
    )
)
"""What the same call would come to again; other errors of a server Hive reads itself, and mends some."""

log = logging.getLogger("hived")


class Attended:
    """LiteLLM, as Hive's module sees it."""

    def __init__(self, litellm: Any) -> None:
        self.__dict__["_litellm"] = litellm
        self.__dict__["_plans"] = {}
        self.__dict__["_rooms"] = {}
        self.__dict__["_cuts"] = Cuts()

    def __repr__(self) -> str:
        return f"<Attended {self._litellm!r}, {len(self._plans)} local models>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_litellm"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_litellm"], name, value)

    def attend(self, model: str, api_base: str, plan: Plan) -> None:
        """Look after the calls that name this model at this address."""
        plans: dict[tuple[str, str], Plan] = self._plans
        while len(plans) >= MOST_PLANS:
            plans.pop(next(iter(plans)))
        plans[model, api_base] = plan
        tell_facts(self._litellm, plan.target, tools=True)

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        """Call as ``litellm.completion`` does. Raises ``NotReady`` and ``CallFailed``, too."""
        plan = self._plan(args, kwargs)
        if plan is None:
            return self._litellm.completion(*args, **kwargs)
        call = _Call(self._litellm, plan, kwargs, self._cuts, asynchronous=False)
        call.prepare(self._roomy(plan, _ready(plan, self._needed(plan, kwargs))))
        try:
            answer = self._litellm.completion(**call.kwargs)
        except Exception as error:
            found = call.final() or (_why(plan) if call.gone else None)
            if found is None:
                raise
            raise found from error
        else:
            call.heard(getattr(answer, "usage", None))
            return answer
        finally:
            if call.client is not None and not kwargs.get("stream"):
                call.client.close()

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        """Call as ``litellm.acompletion`` does. Raises ``NotReady`` and ``CallFailed``, too."""
        plan = self._plan(args, kwargs)
        if plan is None:
            return await self._litellm.acompletion(*args, **kwargs)
        call = _Call(self._litellm, plan, kwargs, self._cuts, asynchronous=True)
        call.prepare(self._roomy(plan, await _aready(plan, self._needed(plan, kwargs))))
        streams = False
        try:
            answer = await self._litellm.acompletion(**call.kwargs)
            streams = bool(kwargs.get("stream")) and hasattr(answer, "__aiter__")
            if not streams:
                call.heard(getattr(answer, "usage", None))
            return _Stream(answer, call) if streams else answer
        except Exception as error:
            found = await call.judged(error)
            if found is error:
                raise
            raise found from error
        finally:
            if not streams:
                await call.close()

    def _plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        if args:
            return None
        found: Plan | None = self._plans.get((kwargs.get("model"), kwargs.get("api_base")))
        return found

    def _needed(self, plan: Plan, kwargs: dict[str, Any]) -> int:
        """Return the context that a call needs, where we are the ones who say it; never less than before."""
        given = {name: kwargs.get(name) for name in plan.target.extra}
        if not given or given != plan.target.extra:
            return 0
        rooms: dict[str | None, int] = self._rooms
        return max(Meter().needs(request_of(kwargs)), rooms.get(plan.question, 0))

    def _roomy(self, plan: Plan, target: Target | None) -> Target | None:
        """Remember what room was asked for: another number would have the model loaded again."""
        if target is not None and target.extra and target.context is not None:
            self._rooms[plan.question] = max(target.context, self._rooms.get(plan.question, 0))
        return target


class _Call:
    """One call of a local model."""

    def __init__(
        self, litellm: Any, plan: Plan, kwargs: dict[str, Any], cuts: Cuts, *, asynchronous: bool
    ) -> None:
        self.kwargs = dict(kwargs)
        self.client: Any = None
        self._litellm = litellm
        self._plan = plan
        self._cuts = cuts
        self._target = plan.target
        self._asynchronous = asynchronous
        self._guard: Guard | None = None

    def prepare(self, target: Target | None) -> None:
        """Take in where the model is now; ``None``: where it was when Hive's provider was made."""
        target = target or self._plan.target
        given = self.kwargs.get("api_key")
        target = with_key(target, given if given in self._plan.keys else next(iter(self._plan.keys), None))
        for name, value in self._plan.target.extra.items():
            if self.kwargs.get(name) == value:  # ours: another number would load the model again
                self.kwargs[name] = target.extra.get(name, value)
        self._target = target
        tell_facts(self._litellm, target, tools=bool(self.kwargs.get("tools")))
        self.kwargs |= {"model": model_for(self._litellm, target), "api_base": target.api_base}
        self.kwargs.pop("api_key", None)  # it may be another provider's
        if target.api_key:
            self.kwargs["api_key"] = target.api_key
        if not stays_near(target):
            return
        self.kwargs.setdefault("max_retries", 0)
        self._guard = Guard(target, reads=bool(self.kwargs.get("stream")))
        self.client = local_client(target, asynchronous=self._asynchronous, guard=self._guard)
        self.kwargs["client"] = self.client

    def heard(self, usage: Any = None) -> None:
        """Take in how many tokens of the prompt were counted; of a stream the server has told that itself."""
        exchange = self._guard.last if self._guard is not None and self.kwargs.get("stream") else None
        usage = exchange.reader.reply().usage if exchange is not None else usage
        target = self._target
        given = next((self.kwargs.get(name) for name in target.extra), None)
        if isinstance(given, int):  # the caller's own
            target = msgspec.structs.replace(target, context=given)
        self._cuts.heard(target, request_of(self.kwargs), getattr(usage, "prompt_tokens", None))

    @property
    def gone(self) -> bool:
        """Whether the server was not there, or went away."""
        failure = self._failure
        return failure is not None and failure.code in _GONE

    def final(self) -> CallFailed | None:
        """Return what is wrong where calling again would come to the same."""
        failure = self._failure
        return failure if failure is not None and failure.code in _FINAL else None

    async def judged(self, error: Exception) -> Exception:
        """Return the error that Hive is to see for one of LiteLLM's."""
        found: Exception | None = self.final()
        if found is None and self.gone:
            found = await _awhy(self._plan)
        return found or error

    async def close(self) -> None:
        """End its connections."""
        if self.client is not None:
            client, self.client = self.client, None
            await client.close()

    @property
    def _failure(self) -> CallFailed | None:
        exchange = self._guard.last if self._guard is not None else None
        return exchange.failure if exchange is not None else None


class _Stream:
    """LiteLLM's stream, of which an error is judged and the connection closed at the end."""

    def __init__(self, inner: Any, call: _Call) -> None:
        self._inner = inner
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for chunk in self._inner:
                yield chunk
        except Exception as error:
            found = await self._call.judged(error)
            if found is error:
                raise
            raise found from error
        else:
            self._call.heard()
        finally:
            await self._call.close()


def model_for(litellm: Any, target: Target) -> str:
    """Return the model as LiteLLM is told: what it does not know speaks the common dialect."""
    prefix = target.model.partition("/")[0]
    known = {getattr(each, "value", each) for each in getattr(litellm, "provider_list", ())}
    return target.model if not known or prefix in known else f"openai/{target.name}"


# Before a call: None where hived cannot say, and the call is made as it was planned.


async def _aready(plan: Plan, needed: int) -> Target | None:
    """Wait until hived says that the model can be called. Raises ``NotReady`` where waiting is no use.

    ``needed``: tokens of context, where the call says how many it wants; 0 where it does not.
    """
    from hived_client.doors.aio import AsyncClient

    if plan.question is None:
        why = await asyncio.to_thread(_refuses, plan.target)
        if why:
            raise NotReady(down(plan.target))
        return None
    waiting = _Waiting(plan.question)
    while True:
        try:
            target = await AsyncClient().resolve(plan.question, timeout=CONNECT)
        except HivedError as error:
            if not waiting.goes_on(error):
                return None
            await asyncio.sleep(AGAIN)
            continue
        if not _too_small(target, needed):
            return target
        room: int | None = _room(needed)
        while room is not None:
            try:
                return await AsyncClient().resolve(plan.question, context=room, timeout=CONNECT)
            except HivedError as error:
                room = _less(room, error)
        return target


def _ready(plan: Plan, needed: int) -> Target | None:
    """Do the same for a call that blocks anyway."""
    from hived_client.doors.sync import shared

    if plan.question is None:
        if _refuses(plan.target):
            raise NotReady(down(plan.target))
        return None
    waiting = _Waiting(plan.question)
    while True:
        try:
            target = shared.resolve(plan.question, timeout=CONNECT)
        except HivedError as error:
            if not waiting.goes_on(error):
                return None
            time.sleep(AGAIN)
            continue
        if not _too_small(target, needed):
            return target
        room: int | None = _room(needed)
        while room is not None:
            try:
                return shared.resolve(plan.question, context=room, timeout=CONNECT)
            except HivedError as error:
                room = _less(room, error)
        return target


def _too_small(target: Target, needed: int) -> bool:
    """Tell whether a model that takes its context with the call would get less of it than the call needs."""
    return bool(target.extra) and target.context is not None and target.context < needed


def _room(needed: int) -> int:
    """Return how much to ask for, in great steps: a conversation grows, and each loads the model anew."""
    return 1 << (needed - 1).bit_length()


def _less(room: int, error: HivedError) -> int | None:
    """Return all that the model can hold, where more was asked for."""
    native = error.fault.fields.get("native")
    return native if isinstance(native, int) and 0 < native < room else None


class _Waiting:
    """Waits for a model that loads, and says so."""

    def __init__(self, question: str) -> None:
        self._question = question
        self._until = time.monotonic() + LOADING
        self._said = ""

    def goes_on(self, error: HivedError) -> bool:
        """Tell whether to ask again; False where hived cannot say. Raises a no that stays one."""
        if not isinstance(error, NotReady):
            return False
        if not error.fault.retryable or time.monotonic() > self._until:
            raise error
        if error.message != self._said:
            self._said = error.message
            log.info("%s", error)
        return True


# After one that failed.


async def _awhy(plan: Plan) -> Exception | None:
    from hived_client.doors.aio import AsyncClient

    if plan.question is None:
        gone = await asyncio.to_thread(_refuses, plan.target)
        return NotReady(down(plan.target)) if gone else None
    try:
        await AsyncClient().resolve(plan.question, fresh=True, timeout=WHY)
    except NotReady as no:
        return None if no.fault.retryable else no
    except HivedError:
        return None
    return None


def _why(plan: Plan) -> Exception | None:
    from hived_client.doors.sync import shared

    if plan.question is None:
        return NotReady(down(plan.target)) if _refuses(plan.target) else None
    try:
        shared.resolve(plan.question, fresh=True, timeout=WHY)
    except NotReady as no:
        return None if no.fault.retryable else no
    except HivedError:
        return None
    return None


def _refuses(target: Target) -> bool:
    """Tell whether nobody listens there: one connection, closed at once."""
    from hived_client.doors.ask import REFUSED, Connect
    from hived_client.doors.sync import connect

    host, port = address(target.api_base)
    return connect(Connect(host, port, CONNECT)) == REFUSED
