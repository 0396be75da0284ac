"""A unit or a launch agent as it lies there: its interpreter, its PATH, how it differs from ours. Pure."""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Iterable

import msgspec

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


def read_unit(text: str, template: str) -> Unit:
    """Read a systemd unit (systemd.syntax(7): comments, lines that go on, quoted assignments)."""
    lines = list(directives(text))
    wanted = [line for line in directives(template) if line]
    return Unit(
        interpreter=_interpreter(lines),
        path=_path(lines),
        changed=tuple(line for line in wanted if not any(_fits(line, each) for each in lines)),
        added=tuple(line for line in lines if not any(_fits(each, line) for each in wanted)),
    )


def read_plist(raw: bytes) -> Unit | None:
    """Read a launch agent; ``None`` for what is none."""
    try:
        document = plistlib.loads(raw)
    except (
        ValueError,
        plistlib.InvalidFileException,
        OverflowError,
        RecursionError,
        AttributeError,
        IndexError,
    ):
        return None
    if not isinstance(document, dict):
        return None
    words = document.get("ProgramArguments")
    variables = document.get("EnvironmentVariables")
    first = words[0] if isinstance(words, list) and words and isinstance(words[0], str) else ""
    path = variables.get("PATH") if isinstance(variables, dict) else None
    return Unit(interpreter=first, path=path if isinstance(path, str) else None)


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


def _path(lines: Iterable[str]) -> str | None:
    found = None
    for line in lines:
        if line.startswith("[Service] Environment="):
            for word in _words(line.partition("=")[2]):
                if word.startswith("PATH="):
                    found = word.removeprefix("PATH=").replace("%%", "%")
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
