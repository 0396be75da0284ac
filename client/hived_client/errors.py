"""The one tree of errors. Each carries a Fault: what is wrong, and the command that mends it."""

from __future__ import annotations

from hived_client.vocabulary.faults import Fault


class HivedError(Exception):
    """Anything that this library raises on purpose."""

    def __init__(self, fault: Fault, alternatives: tuple[str, ...] = ()) -> None:
        super().__init__(fault, alternatives)
        self.fault = fault
        self.alternatives = alternatives

    @property
    def code(self) -> str:
        """The stable dotted code of the fault."""
        return self.fault.code

    @property
    def message(self) -> str:
        """The sentence."""
        return self.fault.message

    @property
    def hint(self) -> str:
        """The command or path that mends it; empty where there is none."""
        return self.fault.hint

    def __str__(self) -> str:
        return f"{self.fault.message} → {self.fault.hint}" if self.fault.hint else self.fault.message


class NotReady(HivedError):
    """The model cannot be called now. ``alternatives`` are models that could be."""


class Unavailable(HivedError):
    """The daemon is not running, does not answer, or may not be trusted."""


class Refused(HivedError):
    """The daemon answered a request with a fault."""


class StartFailed(HivedError):
    """A server or the daemon could not be started."""


class CallFailed(HivedError):
    """A call to a model failed."""


def causes_of(error: BaseException) -> list[BaseException]:
    """Return every error behind one, itself first: ``anyio`` groups those of several addresses."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(found) < 64:
        one = waiting.pop()
        if one is None or one in found:
            continue
        found.append(one)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found
