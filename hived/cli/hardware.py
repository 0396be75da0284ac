"""``hived hardware``: what this machine is. The daemon is asked; where there is none, the machine itself."""

from __future__ import annotations

import argparse
import os

import msgspec

from hived.cli.document import hardware_document
from hived.cli.hardware_lines import hardware_lines
from hived.cli.rendering import as_json
from hived.cli.running import NOT_RUNNING, YES, exit_code
from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.vocabulary.hardware import Bandwidth, Hardware


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything that is known as JSON")
    parser.add_argument("--again", action="store_true", help="look at everything again")


def run(options: argparse.Namespace) -> int:
    hardware = _known(again=options.again)
    print(as_json(hardware_document(hardware)) if options.json else "\n".join(hardware_lines(hardware)))
    return YES


def _known(*, again: bool) -> Hardware:
    try:
        return Client().hardware(again=again, bandwidth=True)
    except HivedError as error:
        if exit_code(error) != NOT_RUNNING and error.code != "method.unknown":
            raise
    return _look()


def _look() -> Hardware:
    """Look without a daemon."""
    from hived.machine.hardware.asking import Asking
    from hived.machine.hardware.bandwidth_table import read_table
    from hived.machine.hardware.understanding import understand

    asking = Asking(os.environ)
    hardware = understand(asking.everything(), read_table())
    speed = asking.measure(hardware)
    if speed is None:
        return hardware
    bandwidth = Bandwidth(low=speed, high=speed, source="measured", observed_at=hardware.observed_at)
    return msgspec.structs.replace(
        hardware, memory=msgspec.structs.replace(hardware.memory, bandwidth=bandwidth)
    )
