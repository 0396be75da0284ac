"""A question, and the two answers that there are to it: how to call the model, or why it cannot be called."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hived_client.errors import Refused
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import shown_url
from hived_client.vocabulary.world import Locality, State

LONGEST_NAME = 4096
"""Characters of a model's name; some servers call a model by its path."""

MOST_CONTEXT = 2**40
"""Tokens that a question may ask for."""


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller wants to know."""

    model: str
    context: int | None = None
    """Tokens that prompt and output need together."""
    needs: tuple[str, ...] = ()
    """Capabilities that must be there: ``tools``, ``vision``, ``embedding``, ``thinking``."""
    private: bool | str = False
    """``True``: this device only. ``"lan"``: this device or this network."""

    @classmethod
    def of(
        cls, model: str, *, context: int | None, needs: Iterable[str] | None, private: bool | str
    ) -> Question:
        """Make a question of what a caller gave: one capability may be plain text, and none ``None``.

        Raises ``Refused`` (``question.invalid``) for what no question can be.
        """
        why = _no_question(model, context, private)
        wanted = _capabilities(needs)
        if why or wanted is None:
            why = why or "what a model has to be capable of is text, or several texts"
            raise Refused(fault("question.invalid", why=why))
        return cls(model=model, context=context, needs=wanted, private=private)


def _capabilities(needs: object) -> tuple[str, ...] | None:
    """Return capabilities in their one order; ``None`` for what names none."""
    if needs is None:
        return ()
    if isinstance(needs, str):
        return (needs,)
    wanted = tuple(needs) if isinstance(needs, Iterable) else (needs,)
    return tuple(sorted(wanted)) if all(isinstance(need, str) for need in wanted) else None


def _no_question(model: object, context: object, private: object) -> str:
    if not isinstance(model, str):
        return "the name of a model is text"
    if len(model) > LONGEST_NAME:
        return f"a model's name has at most {LONGEST_NAME} characters"
    if not model.isprintable():
        return "a model's name has no control characters and no halves of characters"
    if context is not None and (not isinstance(context, int) or not 0 < context <= MOST_CONTEXT):
        return f"a context is a whole number of tokens from 1 to {MOST_CONTEXT}"
    if private is not True and private is not False and private != "lan":
        return "private is True, False or 'lan'"  # 0 equals False, and would be taken for True
    return ""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer, ready to call."""

    model: str
    """The model as LiteLLM wants it."""
    api_base: str
    endpoint: str
    provider: str
    name: str
    """The model as its server calls it."""
    api_key: str | None = None
    key_ref: str | None = None
    """The environment variable that ``api_key`` was read from; ``None`` for a placeholder."""
    extra: dict[str, int] = {}
    context: int | None = None
    locality: Locality | None = None
    state: State = "unknown"
    warnings: tuple[Fault, ...] = ()
    age: float | None = None
    """Seconds since the endpoint was last seen; ``None`` where it never was."""
    facts: dict[str, str | int | float | bool] = {}
    """The model's facts in the shape of ``litellm.model_cost``."""

    def completion_kwargs(self) -> dict[str, str | int]:
        """Return the arguments of ``litellm.completion`` that belong to the model."""
        kwargs: dict[str, str | int] = {"model": self.model, "api_base": self.api_base, **self.extra}
        if self.api_key is not None:
            kwargs["api_key"] = self.api_key
        return kwargs

    def shown(self) -> Target:
        """Return the same without the user's key, for anything that is printed, sent or logged."""
        return msgspec.structs.replace(self, api_key="***") if self.key_ref and self.api_key else self

    def __repr__(self) -> str:
        return f"<Target {self.model} at {shown_url(self.api_base)} ({self.endpoint}, {self.state})>"


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that is no."""

    fault: Fault
    alternatives: tuple[str, ...] = ()
    endpoint: str | None = None
    """The endpoint whose next look could change the answer."""


Answer = Target | Refusal
