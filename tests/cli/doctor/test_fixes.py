"""Every command of ours that the doctor tells to type exists and parses."""

from __future__ import annotations

import re
from pathlib import Path

import hived.cli.doctor
from hived.cli import VERBS
from hived.cli.completion import whole_parser


def told() -> set[str]:
    """Return what stands in the doctor's own files as a whole text that begins like one of our commands."""
    (folder,) = hived.cli.doctor.__path__
    texts = (path.read_text() for path in Path(folder).glob("*.py"))
    found = {text for source in texts for text in re.findall(r'"(hived [a-z]+(?: [a-z-]+)*)"', source)}
    return {text for text in found if text.split()[1] in VERBS}


def test_every_command_that_mends_something_parses() -> None:
    commands = told()
    assert {"hived serve", "hived logs"} <= commands
    for command in commands:
        whole_parser().parse_args(command.split()[1:])
