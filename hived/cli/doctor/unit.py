"""A unit or a launch agent as it lies there: its interpreter, its PATH, how it differs from ours. Pure."""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Iterable

import msgspec

from hived.service.templates import read_template
from hived_client.vocabulary.services import Supervision, settings_of

_PLACEHOLDER = re.compile(r"@[A-Z_]+@")


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit says that matters."""

    interpreter: str = ""
    path: str | None = None
    """The PATH that the service sees, where the unit sets it."""
    changed: tuple[str, ...] = ()
    """Lines of ours that it lacks, as far as the template tells."""
    added: tuple[str, ...] = ()
    """Lines that are not ours: a later version's, or somebody's own."""


def read_service_file(text: str, supervision: Supervision) -> Unit:
    """Read the file of a service. A launch agent is only read for its interpreter and its PATH."""
    path = settings_of(text, supervision).get("PATH")
    if supervision == "launchd":
        return Unit(interpreter=_agent_interpreter(text), path=path)
    return msgspec.structs.replace(read_unit(text, read_template("systemd")), path=path)


def read_unit(text: str, template: str) -> Unit:
    """Read a systemd unit beside its template (systemd.syntax(7): comments, lines that go on)."""
    lines = list(directives(text))
    wanted = [line for line in directives(template) if line]
    return Unit(
        interpreter=_interpreter(lines),
        changed=tuple(line for line in wanted if not any(_fits(line, each) for each in lines)),
        added=tuple(line for line in lines if not any(_fits(each, line) for each in wanted)),
    )


def directives(text: str) -> Iterable[str]:
    """Yield the lines of a unit that mean something, each with its section: ``[Service] Type=notify``."""
    section, joined = "", text.replace("\\\n", " ")
    for raw in joined.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = line
        else:
            name, equals, value = line.partition("=")
            yield f"{section} {name.strip()}{equals}{value.strip()}"


def _fits(wanted: str, line: str) -> bool:
    """Tell whether a line is one of the template's, in which a placeholder stands for anything."""
    if "@" not in wanted:
        return wanted == line
    parts = [re.escape(part) for part in _PLACEHOLDER.split(wanted)]
    return re.fullmatch(".*".join(parts), line) is not None


def _interpreter(lines: Iterable[str]) -> str:
    for line in lines:
        if line.startswith("[Service] ExecStart="):
            words = _words(line.partition("=")[2].lstrip("-@:+!|"))
            return words[0].replace("%%", "%") if words else ""
    return ""


def _agent_interpreter(text: str) -> str:
    try:
        document = plistlib.loads(text.encode())
    except (ValueError, plistlib.InvalidFileException, AttributeError, IndexError, RecursionError):
        return ""
    words = document.get("ProgramArguments") if isinstance(document, dict) else None
    return words[0] if isinstance(words, list) and words and isinstance(words[0], str) else ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
