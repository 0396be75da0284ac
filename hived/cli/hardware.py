"""``hived hardware``: what this machine is. The daemon is asked; where there is none, the machine itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

import msgspec

from hived.cli.document import hardware_document
from hived.cli.hardware_lines import folded, hardware_lines
from hived.cli.progress import ProgressLine
from hived.cli.rendering import as_json
from hived.cli.running import NOT_RUNNING, YES, exit_code
from hived_client.doors.sync import Client
from hived_client.doors.wire import Progress
from hived_client.errors import HivedError
from hived_client.vocabulary.hardware import Hardware

LONGEST = 10.0
"""Seconds for a look without a daemon."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything that is known as JSON")
    parser.add_argument("--again", action="store_true", help="look at everything again")


def run(options: argparse.Namespace) -> int:
    with ProgressLine() as tell:
        tell(Progress(stage="looking", message="looking at this machine, and measuring its memory"))
        hardware = _known(again=options.again)
    if options.json:
        print(as_json(hardware_document(hardware)))
    else:
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 0
        print("\n".join(folded(hardware_lines(hardware), width)))
    return YES


def _known(*, again: bool) -> Hardware:
    try:
        return Client().hardware(again=again, bandwidth=True)
    except HivedError as error:
        if exit_code(error) != NOT_RUNNING and error.code != "method.unknown":
            raise
    from hived.machine.commands import run_bounded
    from hived.machine.hardware.measuring import measure_memory

    hardware = look_at_machine(os.environ)
    bandwidth = measure_memory(run_bounded, hardware)
    if bandwidth is None:
        return hardware
    bandwidth = msgspec.structs.replace(bandwidth, observed_at=hardware.observed_at)
    return msgspec.structs.replace(
        hardware, memory=msgspec.structs.replace(hardware.memory, bandwidth=bandwidth)
    )


def look_at_machine(environment: Mapping[str, str], *, longest: float = LONGEST) -> Hardware:
    """Look without a daemon. Blocks, for ``longest`` seconds at most and half of them for one question."""
    from hived.machine.hardware.asking import Asking
    from hived.machine.hardware.bandwidth_table import read_table
    from hived.machine.hardware.understanding import understand

    asking = Asking(environment, each=longest / 2, longest=longest)
    return understand(asking.everything(), read_table())
