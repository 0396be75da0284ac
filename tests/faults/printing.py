"""The catalogue as a table for people: code, what is said, what helps; grouped as its file is.

Names in capitals stand for what is filled in, as in the usage of a command.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

from hived_client.vocabulary import faults
from hived_client.vocabulary.faults import CATALOGUE, COMMANDS, Row

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
"""What stands in the README around the table."""

_GROUP = re.compile(r"    # (?P<group>.+)")
_ROW = re.compile(r'    "(?P<code>[a-z_.]+)": Row\(')

_WORDS = {
    "start": "the command that starts it",
    "restart": "the command that starts it again",
    "load": "the command that loads it so",
    "pull": "the command that fetches it",
    "setting": "the setting that gave its address",
    "install": "the command that installs it",
    "upgrade": "the command that upgrades it",
    "tools": "the command that starts it with tools",
    "give": "the command that gives hived the key",
    "usage": "the `--help` of the command",
}
"""Fields that are whole commands, which differ from server to server."""


def readme() -> Path:
    """Return the path of the README."""
    return Path(__file__).resolve().parents[2] / "README.md"


def with_table(text: str) -> str:
    """Return a text with the table between its two marks. Raises ValueError without them."""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"there is no {BEGIN} … {END}")
    return "\n".join([before + BEGIN, *lines(), END + after])


def lines() -> Iterator[str]:
    """Yield the table in Markdown, one line a row."""
    groups = {code: group for group, code in _grouped()}
    last = ""
    for code, row in CATALOGUE.items():
        if groups.get(code, last) != last:
            last = groups[code]
            yield from ("", f"**{last}**", "", "| code | what is said | what helps |", "|---|---|---|")
        yield f"| `{code}` | {_cell(row.message)} | {_cell_of_hints(row)} |"
    yield ""


def _grouped() -> Iterator[tuple[str, str]]:
    """Yield the group and the code of each row, as they stand in the file."""
    group = ""
    for line in Path(faults.__file__).read_text().splitlines():
        if found := _GROUP.fullmatch(line):
            group = found["group"]
        elif row := _ROW.match(line):
            yield group, row["code"]


def _cell_of_hints(row: Row) -> str:
    systems = (("macOS: ", row.darwin), ("WSL: ", row.wsl))
    hints = [_hint(hint) for hint in row.hints]
    hints += [name + _hint(hint) for name, own in systems for hint in own]
    return "; ".join(hints)


def _hint(template: str) -> str:
    fields = [field for _, field, _, _ in string.Formatter().parse(template) if field]
    if template == f"{{{fields[0] if fields else ''}}}" and fields[0] in COMMANDS:
        return _WORDS.get(fields[0], "the command for this server")
    return f"`{_filled(template)}`".replace("|", "\\|")


def _cell(template: str) -> str:
    return _filled(template).replace("|", "\\|").replace("<", "&lt;")


def _filled(template: str) -> str:
    """Fill a template with the names of its fields."""
    filled = ""
    for text, field, _, _ in string.Formatter().parse(template):
        filled += text
        # What follows on a word at once is a clause that may be empty.
        if field == "configuration":
            filled += "~/.hive/configuration.json"
        elif field and not filled[-1:].isalnum():
            filled += field.upper()
    return filled
