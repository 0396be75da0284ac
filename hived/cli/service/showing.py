"""``hived service show``: what ``install`` would write, and how that differs from what is installed."""

from __future__ import annotations

import sys

import msgspec

from hived.cli.rendering import as_json
from hived.cli.running import YES, sentence, shown
from hived.cli.service.here import Here
from hived.cli.service.variables import tell_of_variables
from hived.service.stamp import differences


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What would be written, as ``show --json`` has it."""

    name: str
    path: str
    text: str
    installed: bool
    same: bool
    differences: tuple[str, ...]
    environment_file: str
    environment: tuple[str, ...]


def show(here: Here, *, as_document: bool) -> int:
    text = here.manager.render(here.order)
    before = here.installed
    lines = differences(before, text) if before is not None else ()
    found = Shown(
        name=here.manager.shown,
        path=here.manager.path,
        text=text,
        installed=before is not None,
        same=before == text,
        differences=lines,
        environment_file=here.manager.environment_file,
        environment=tuple(here.variables),
    )
    if as_document:
        print(as_json(found))
        return YES
    print(text, end="")
    state = "is as it would be written" if found.same else "would be written otherwise:"
    state = state if found.installed else "is not installed"
    print(f"{shown(found.path)} {state}", file=sys.stderr)
    for line in lines:
        print(f"  {shown(line)}", file=sys.stderr)
    tell_of_variables(here)
    if here.problem is not None:
        print(sentence(here.problem), file=sys.stderr)
    return YES
