"""What the doctor says of this machine: the line, what is wrong with cards, what could not be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hived.cli.doctor.findings import Finding, note, of_fault, ok, unknown, warn
from hived.decisions.machine_line import summary
from hived.decisions.servers_word import with_servers
from hived_client.vocabulary.hardware import Hardware
from hived_client.vocabulary.world import Endpoint


def check_hardware(hardware: Hardware | None, endpoints: Sequence[Endpoint] = ()) -> list[Finding]:
    """Judge what is known of this machine; ``None``: nobody has looked yet. ``endpoints`` may know better."""
    if hardware is None:
        return [unknown("hardware", "what models will run on", "hived has not looked at this machine yet")]
    hardware = with_servers(hardware, endpoints)
    return [ok("hardware", summary(hardware), brief=True), *_findings(hardware)]


def _findings(hardware: Hardware) -> Iterator[Finding]:
    for problem in hardware.problems:
        yield of_fault(problem, "warn")
    codes = {each.code for each in hardware.problems}
    for probe in hardware.probes:
        if probe.state in ("late", "stuck") and "gpu.driver" not in codes:
            yield warn(
                "hardware.silent", f"{probe.name} does not answer: {probe.why}", "hived hardware --again"
            )
    if hardware.gpus is None:
        yield unknown("hardware.graphics", "graphics", "nobody could tell")
    for gpu in hardware.gpus or ():
        name = gpu.name or gpu.vendor
        if gpu.visible is False:
            yield warn(
                "hardware.masked",
                f"a variable hides {name} from programs",
                "env | grep -E 'VISIBLE_DEVICES|DEVICE_SELECTOR'",
            )
        if gpu.throttled:
            yield note(
                "hardware.throttled", f"{name} is slower just now because of {', '.join(gpu.throttled)}"
            )
        if gpu.bandwidth is not None and gpu.bandwidth.source != "table" and gpu.bandwidth.note:
            speed = f"{gpu.bandwidth.low / 1e9:.0f} GB/s"
            yield note("hardware.bandwidth", f"{name} says {speed} of its memory, and {gpu.bandwidth.note}")
