"""How a kind of server is started: one recipe a kind, all of the same shape (the table: `recipe_table`).

A recipe knows programs, command lines, variables and what their logs mean. It starts nothing itself and
keeps nothing; whoever uses it decides when, and whether the process lives in a unit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from hived_client.vocabulary.commands import start_command
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import ProviderKind


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked to be started. ``context`` is tokens; ``arguments`` are passed through."""

    url: str | None = None
    """Where the endpoint is configured to be: a root URL on loopback. ``port``, if any, comes first."""
    model: str | None = None
    port: int | None = None
    context: int | None = None
    alias: str | None = None
    arguments: tuple[str, ...] = ()

    def command(self, provider: str, **otherwise: object) -> str:
        """Return the command that asks for the same, or for something else in some of the fields."""
        wanted = msgspec.structs.replace(self, **otherwise)
        return start_command(
            provider,
            model=wanted.model or "",
            port=wanted.port,
            context=wanted.context,
            alias=wanted.alias or "",
            arguments=wanted.arguments,
        )


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is ready to be run, and where its server will answer."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    """All of its variables."""
    url: str
    """Root URL, on loopback, without a trailing slash and without ``/v1``."""
    wanted: Wanted = Wanted()
    """What it was asked for with, so that a hint can say what to ask for instead."""
    model: str = ""
    alias: str = ""
    stays: bool = True
    """Whether the command is the server; ``lms server start`` ends once another process serves."""
    notes: tuple[str, ...] = ()
    """Sentences for whoever asked: what was not done as it stands in the environment."""
    ends_with: tuple[str, ...] = ()
    """The command that stops a server which is not the command's own process."""

    def command(self, provider: str, **otherwise: object) -> str:
        """Return the command that asks for the same server, or for another one in some of the fields."""
        return self.wanted.command(provider, **({"model": self.model} | otherwise))


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """How far a start is: ``loading weights``. ``share`` is 0 to 1 of that stage, where it is told."""

    words: str
    share: float | None = None


class Recipe(Protocol):
    """How one kind is started."""

    @property
    def kind(self) -> ProviderKind:
        """The kind."""

    @property
    def single(self) -> bool:
        """Whether one server is all that a device needs: then it is started where it is expected.

        Of the others there may be several, each with a model and a port of its own.
        """

    @property
    def only_one(self) -> bool:
        """Whether there can be but one, so that a start at another port would move somebody's."""

    @property
    def takes(self) -> frozenset[str]:
        """The fields of ``Wanted`` that mean something to this kind, ``url`` and ``port`` apart."""

    def prepare(self, wanted: Wanted, base: Mapping[str, str]) -> Launch:
        """Find the program, check what was asked, and write the command. Blocks.

        Raises ``StartFailed`` (not installed, no such model, port taken) or ``Refused`` (what no server
        of this kind could be started with).
        """

    def why_it_ended(self, text: str, *, started: bool) -> str:
        """Find in the end of a log why the server ended: one line, at most 300 characters, or nothing.

        ``started``: of one that had served, the last line alone tells nothing.
        """

    def broke_down(self, text: str) -> bool:
        """Tell by the end of a log whether the server broke, in however good order it then ended."""

    def stage(self, text: str) -> Stage | None:
        """Say by the end of a log how far a start is; ``None`` where it does not tell, or need not."""

    def fault_of_end(self, launch: Launch, why: str, log: str) -> Fault:
        """Say in the catalogue's words what ``why`` means: port taken, no memory, a missing library, …"""
