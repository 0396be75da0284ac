"""Calls to one model over one run: how it is called now, what is said when it cannot be.

Before each turn hived is asked (microseconds, from its file): a server that is known to be down costs no
attempt. The context of a call is one number, kept from call to call: a server that takes it with each call
would load the model again for every other number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import msgspec

from hived_client.agent.call_faults import cut_short, truncated
from hived_client.agent.chat import PATIENCE, QUEUED, Chat
from hived_client.agent.context import Meter
from hived_client.agent.settings import names_server_of
from hived_client.agent.words import Piece, Reply, Request
from hived_client.doors.aio import AsyncClient
from hived_client.errors import CallFailed, NotReady, Unavailable
from hived_client.resolution import Question, Target
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import LLAMACPP, OPENAI_COMPATIBLE, is_local_model, kind_named

LOADING = 600.0
"""Seconds for which a model that is loading, or a server that is starting, is waited for."""
BUSY = 5.0
"""Seconds for which a daemon that does not answer is asked again: it may be busy, or only just there."""
AGAIN = 0.2
"""Seconds between two questions to hived meanwhile."""
LATER = 1.0
"""Seconds between two calls of a server of which only the call shows that it is loading."""
WHY = 0.8
"""Seconds for finding out why a server broke off."""
_GONE = frozenset({"server.down", "server.unreachable", "call.broken_off"})
_NOT_OURS = frozenset({"proxy.hijacks", "context.unsure"})
"""What is said of programs that let a proxy have their calls, as we do not; and of a context that somebody
asks for: ours is only what the turn fills, and a server that is set to it may have less than by itself."""
_NO_PROVIDER = frozenset({"provider.unknown", "model.unnamed"})
"""What is said of a model that no local server's name or prefix stands before: the cloud's, it seems."""
Provider = Literal["auto", "litellm"]
LEAST_ANSWER = 256
"""Tokens that an answer may have at least, whatever the estimate of its prompt says."""


def needs_litellm(model: str, hived: AsyncClient) -> bool:
    """Tell, from what lies in the files, whether a model will be called through LiteLLM: the cloud's."""
    if is_local_model(model):
        return False
    view = hived.look()
    if names_server_of(model, view.places.configuration):
        return False
    found = None if view.snapshot is None else view.snapshot.answer(Question(model=model))
    return not isinstance(found, Target) and (found is None or found.fault.code in _NO_PROVIDER)


class Calls:
    """All calls to one model in one run."""

    def __init__(
        self,
        model: str,
        *,
        private: bool | str = False,
        told: Callable[[Piece], None] | None = None,
        waiting: Callable[[Fault], None] | None = None,
        hived: AsyncClient | None = None,
        provider: Provider = "auto",
    ) -> None:
        """``provider``: ``auto`` speaks to local servers itself, ``litellm`` leaves them to LiteLLM."""
        self.model = model
        self.tokens = 0
        self.turns = 0
        self.warnings: dict[str, Fault] = {}
        self._private = private
        self._told = told
        self._waiting = waiting
        self._waits_for = ""
        self._hived = hived or AsyncClient()
        self._chat = Chat(self._watch)
        self._meter = Meter()
        self._glance_at = PATIENCE
        self._context = 0
        self._provider = provider
        self._is_cloud = False

    def __repr__(self) -> str:
        return f"<Calls to {self.model}, {self.turns} turns>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._chat.aclose()

    async def complete(self, request: Request) -> Reply:
        """Have one turn. Raises ``NotReady`` before a call, ``CallFailed`` from one."""
        import anyio

        until = anyio.current_time() + LOADING
        while True:
            try:
                return await self._turn(request)
            except CallFailed as error:
                # Nobody knew that it loads: no daemon watches it, or it has begun only just now.
                if error.code != "server.loading" or anyio.current_time() > until:
                    raise
                self._wait_for(error.fault)
            await anyio.sleep(LATER)

    async def _turn(self, request: Request) -> Reply:
        if self._is_cloud:
            return self._counted(await self._by_litellm(self.model, request))
        try:
            target = await self.target(request)
        except NotReady as no:
            local = is_local_model(self.model) or self._private is not False
            if local or no.code not in _NO_PROVIDER:
                raise
            view = self._hived.look()
            if names_server_of(self.model, view.places.configuration):
                if view.running:
                    raise
                raise NotReady(fault("daemon.not_running")) from no  # it alone knows where that server is
            self._is_cloud = True
            return await self._turn(request)
        fitted = self._fitted(request, target)
        try:
            if self._provider == "litellm":
                reply = await self._by_litellm(target, fitted)
            else:
                reply = await self._chat.complete(target, fitted, self._told)
        except CallFailed as error:
            if error.code in _GONE:
                raise await self._why(request, error) from error
            raise
        if self._meter.learn(request, reply.usage.prompt_tokens, target.context):
            sent = self._meter.prompt(request)
            self._note(truncated(target, sent=sent, counted=reply.usage.prompt_tokens or 0))
        if reply.finish_reason == "length":
            said = request.max_tokens if request.max_tokens == fitted.max_tokens else None
            self._note(cut_short(target, said))
        return self._counted(reply)

    async def _by_litellm(self, where: Target | str, request: Request) -> Reply:
        from hived_client.agent import litellm_calls

        return await litellm_calls.complete(where, request, self._told, self._watch)

    def _counted(self, reply: Reply) -> Reply:
        self.turns += 1
        self.tokens += (reply.usage.prompt_tokens or 0) + (reply.usage.completion_tokens or 0)
        return reply

    async def target(self, request: Request) -> Target:
        """Return how to call the model for this turn; waits while it is loading, and while hived is busy.

        Raises ``NotReady`` and ``Unavailable``.
        """
        import anyio

        began = anyio.current_time()
        while True:
            try:
                target = await self._resolve(request)
            except (NotReady, Unavailable) as error:
                patience = LOADING if isinstance(error, NotReady) else BUSY
                if not error.fault.retryable or anyio.current_time() > began + patience:
                    raise
                self._wait_for(error.fault)
                await anyio.sleep(AGAIN)
                continue
            for warning in target.warnings:
                if warning.code not in _NOT_OURS:
                    self._note(warning)
            return target

    async def _resolve(self, request: Request) -> Target:
        """Ask for room for the prompt and a short answer; where the call sets its room, for a long one."""
        needs = ("tools",) if request.tools else ()
        least = min(LEAST_ANSWER, request.max_tokens or LEAST_ANSWER)
        needed = max(self._meter.prompt(request) + least, self._context)
        target = await self._ask(context=needed, needs=needs)
        if not target.extra:
            return target
        needed = max(self._meter.needs(request), self._context)
        if target.context is not None and target.context < needed:
            target = await self._roomier(target, needed, needs)
        self._context = max(self._context, target.context or needed)
        return target

    async def _ask(
        self,
        *,
        context: int | None = None,
        needs: tuple[str, ...] = (),
        fresh: bool = False,
        timeout: float | None = None,
    ) -> Target:
        """Ask hived. Both ways of calling a server of ours go there without a proxy."""
        return await self._hived.resolve(
            self.model,
            context=context,
            needs=needs,
            private=self._private,
            fresh=fresh,
            direct=True,
            timeout=timeout,
        )

    async def _roomier(self, target: Target, needed: int, needs: tuple[str, ...]) -> Target:
        """Take room in great steps: for every other number the server would load the model anew."""
        for wanted in (1 << (needed - 1).bit_length(), needed):
            try:
                return await self._ask(context=wanted, needs=needs)
            except NotReady:
                continue  # more than the model can hold
        return target

    def _fitted(self, request: Request, target: Target) -> Request:
        """Ask for no longer answer than there is room for: some servers refuse, others cut the prompt.

        A server that takes its context with the call forgets the beginning of a conversation rather than end
        an answer (Ollama shifts its window): there, an answer has an end also where nobody said so.
        """
        if target.context is None or (request.max_tokens is None and not target.extra):
            return request
        room = max(LEAST_ANSWER, target.context - self._meter.prompt(request))
        allowed = min(request.max_tokens or room, room)
        return (
            request if allowed == request.max_tokens else msgspec.structs.replace(request, max_tokens=allowed)
        )

    async def _why(self, request: Request, failed: CallFailed) -> CallFailed:
        """Return what hived finds out about a server that was there a moment ago."""
        try:
            await self._ask(fresh=True, timeout=WHY)
        except NotReady as no:
            return CallFailed(no.fault, no.alternatives)
        return failed

    async def _watch(self, target: Target, silent: float) -> Fault | None:
        view = self._hived.look()
        if not view.running or view.snapshot is None:
            return await self._glance(target, silent)
        try:
            endpoint = view.snapshot.endpoint(target.endpoint)
        except (KeyError, Unavailable):
            return None
        given_up = endpoint.state == "down" or (endpoint.state == "unreachable" and silent >= PATIENCE)
        return endpoint.reason if given_up else None

    async def _glance(self, target: Target, silent: float) -> Fault | None:
        """Look ourselves, where no daemon does: now and then, for as long as the server says nothing.

        Not at a server of which nobody knows whether it answers anything else while it works.
        """
        kind = kind_named(target.provider)
        if kind in (None, OPENAI_COMPATIBLE):
            return None
        patience = QUEUED if kind == LLAMACPP else PATIENCE
        if silent < patience:
            self._glance_at = patience
        if silent < self._glance_at:
            return None
        self._glance_at = silent + PATIENCE
        return await self._chat.glance(target)

    def _wait_for(self, what: Fault) -> None:
        """Tell what is waited for, whenever that changes."""
        if self._waiting is not None and what.message != self._waits_for:
            self._waiting(what)
        self._waits_for = what.message

    def _note(self, warning: Fault) -> None:
        """Keep a warning, each once in a run."""
        self.warnings.setdefault(warning.code, warning)
