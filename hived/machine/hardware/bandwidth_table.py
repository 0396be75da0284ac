"""How fast the memory of known cards is: a table of facts, each with its source. Pure but for reading it.

A card is looked up by its name, then told apart by its memory and, on a Mac, by its graphics cores. What is
left is answered as it is: two cards that were sold under one name with different memory are an interval. A
row whose memory is another is of another card (a laptop's, say), and is not used.

What the driver tells (clock and bus width) comes before the table; where the two differ by more than a tenth
that is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import msgspec

from hived_client.vocabulary.hardware import Bandwidth, Gpu

PATH = os.path.join(os.path.dirname(__file__), "gpu_bandwidth.csv")
GIB = 1 << 30
GB = 1e9

SAME_MEMORY = 0.12
"""Share by which what a driver tells may fall short of what is on the box: some is set aside, or for ECC."""
DISAGREEMENT = 0.10
FASTEST = 20_000.0
"""GB/s; no memory is as fast as that."""

_CORES = re.compile(r" \\\((\d+)-core gpu\\\)$")
_NOT_ANOTHER = r"(?! (?:ti|super|xt|xtx|gre)\b)"
"""Words that make a name that of another card (``gtx 1650 ti`` is no ``gtx 1650``)."""
_MOBILE = re.compile(r"max-q|laptop|mobile", re.IGNORECASE)
_VENDORS = frozenset({"nvidia", "amd", "intel", "apple", "qualcomm", "cpu"})


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of card."""

    vendor: str
    pattern: str
    """Matches its name in lower case, between characters that are neither letters nor digits."""
    memory: float
    """GiB on the box; 0: it comes with any amount."""
    bandwidth: float
    """GB/s."""
    compute: str
    source: str


def read_table(path: str = PATH) -> tuple[Row, ...]:
    """Read the table. Blocks; raises OSError and ValueError for a file that is not one."""
    import csv  # not into the memory of a machine without cards

    with open(path, encoding="utf-8", newline="") as file:
        return tuple(
            Row(
                vendor=each["vendor"],
                pattern=each["name_pattern"],
                memory=float(each["mem_gib"] or 0),
                bandwidth=float(each["bandwidth_gbps"]),
                compute=each["compute_capability"],
                source=each["source"],
            )
            for each in csv.DictReader(file)
        )


def flaws(rows: Sequence[Row]) -> list[str]:
    """Return what is wrong with a table: what cannot be read, cannot be true, or stands there twice."""
    found = []
    seen: set[tuple[str, str, float, float]] = set()
    for row in rows:
        key = (row.vendor, row.pattern, row.memory, row.bandwidth)
        if key in seen:
            found.append(f"{row.pattern} stands there twice")
        seen.add(key)
        if row.vendor not in _VENDORS:
            found.append(f"{row.pattern}: nobody is called {row.vendor}")
        try:
            re.compile(row.pattern)
        except re.error:
            found.append(f"{row.pattern} is no pattern")
        if not 1.0 < row.bandwidth < FASTEST or row.memory < 0:
            found.append(f"{row.pattern}: {row.bandwidth} GB/s, {row.memory} GiB cannot be")
        if not row.source:
            found.append(f"{row.pattern} has no source")
    return found


def look_up(rows: Sequence[Row], gpu: Gpu) -> Bandwidth | None:
    """Return how fast the memory of a card is by the table; ``None`` where the table does not know it."""
    if gpu.name is None:
        return None
    if gpu.kind == "slice":
        return _of_slice(rows, gpu)
    known = _matching(rows, gpu.vendor, gpu.name, gpu.cores)
    fitting = [row for row in known if row.memory == 0 or _is_memory(row, gpu)]
    return _interval(_nearest(fitting, gpu))


def _of_slice(rows: Sequence[Row], gpu: Gpu) -> Bandwidth | None:
    """A slice has the share of the card's bandwidth that it has of its memory, near enough."""
    whole = _interval(known := _matching(rows, gpu.vendor, re.sub(r" MIG .*", "", gpu.name or ""), None))
    if whole is None or gpu.memory is None or len({row.memory for row in known}) != 1 or not known[0].memory:
        return None
    share = min(1.0, gpu.memory / GIB / known[0].memory)
    note = "its share of the whole card's"
    return Bandwidth(low=whole.low * share, high=whole.high * share, source="table", note=note)


def _matching(rows: Sequence[Row], vendor: str, name: str, cores: int | None) -> list[Row]:
    """Return the rows whose pattern takes most of the name: ``rtx 3080`` is in ``rtx 3080 ti`` too."""
    found: dict[int, Row] = {}
    for part in _alternatives(name.lower()):
        # Of a family's name ("rx 7900 xt/7900 xtx") each member counts, whatever its length.
        found |= {id(row): row for row in _longest(rows, vendor, part, cores)}
    return list(found.values())


def _longest(rows: Sequence[Row], vendor: str, said: str, cores: int | None) -> list[Row]:
    found: list[tuple[int, Row]] = []
    for row in rows:
        if row.vendor != vendor:
            continue
        pattern = row.pattern
        if cores_of := _CORES.search(pattern):
            if cores is not None and cores != int(cores_of[1]):
                continue
            pattern = pattern[: cores_of.start()]  # without a count, each of them may be it
        match = re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9]){_NOT_ANOTHER}", said)
        if match is not None and (not _MOBILE.search(said) or _MOBILE.search(match[0])):
            found.append((len(match[0]), row))
    longest = max((length for length, _ in found), default=0)
    return [row for length, row in found if length == longest]


def _alternatives(name: str) -> list[str]:
    """Return the cards of a family's name: ``radeon rx 7900 xt/7900 xtx`` is two."""
    first, *others = [part.strip() for part in name.split("/")]
    prefix = re.match(r"(.*?)(?=\d{3,4})", first)
    return [first, *(f"{prefix[1]}{other}" if prefix and other[:1].isdigit() else other for other in others)]


def _is_memory(row: Row, gpu: Gpu) -> bool:
    return gpu.memory is None or abs(gpu.memory / GIB - row.memory) <= SAME_MEMORY * row.memory


def _nearest(rows: list[Row], gpu: Gpu) -> list[Row]:
    if gpu.memory is None or not rows:
        return rows
    size = gpu.memory / GIB
    best = min(abs(row.memory - size) for row in rows)
    return [row for row in rows if abs(row.memory - size) == best]


def _interval(rows: Sequence[Row]) -> Bandwidth | None:
    if not rows:
        return None
    speeds = [row.bandwidth * GB for row in rows]
    is_one_card = len({row.pattern for row in rows}) == 1
    note = (
        "sold under this name with either memory" if is_one_card else "which of these cards it is, is unknown"
    )
    note = note if min(speeds) != max(speeds) else ""
    return Bandwidth(low=min(speeds), high=max(speeds), source="table", note=note)


def told_apart(rows: Sequence[Row], gpu: Gpu) -> str | None:
    """Return the one of a family's names (``Radeon RX 7900 XT/7900 XTX``) that has this card's memory.

    A name that the table does not know may be the card's as well.
    """
    if gpu.name is None or "/" not in gpu.name or gpu.memory is None:
        return gpu.name

    def may_be(part: str) -> bool:
        known = _matching(rows, gpu.vendor, part, None)
        return not known or any(row.memory == 0 or _is_memory(row, gpu) for row in known)

    fitting = [part for part in _alternatives(gpu.name) if may_be(part)]
    return fitting[0] if len(fitting) == 1 else gpu.name


def _with_memory(rows: Sequence[Row], gpu: Gpu) -> Gpu:
    """Give a card that sleeps, and was not seen awake, the memory of the only one of its name."""
    sizes = {row.memory for row in _matching(rows, gpu.vendor, gpu.name or "", None)}
    if len(sizes) != 1 or not (size := sizes.pop()):
        return gpu
    source = f"{gpu.source}, table" if gpu.source else "table"
    return msgspec.structs.replace(gpu, memory=int(size * GIB), estimated=True, source=source)


def with_bandwidth(rows: Sequence[Row], gpu: Gpu, machine: int | None = None) -> Gpu:
    """Give a card its bandwidth: what its driver tells, checked against the table, or the table's.

    ``machine``: the memory of the whole machine, by which a card of NVIDIA's that works in it is told apart,
    whatever a container leaves of it.
    """
    gpu = msgspec.structs.replace(gpu, name=told_apart(rows, gpu))
    if gpu.asleep and gpu.memory is None:
        gpu = _with_memory(rows, gpu)
    is_unified = gpu.shared and gpu.vendor == "nvidia" and machine is not None
    as_sold = msgspec.structs.replace(gpu, memory=machine) if is_unified else gpu
    listed, live = look_up(rows, as_sold), gpu.bandwidth
    if live is None or live.source == "table":
        return msgspec.structs.replace(gpu, bandwidth=listed)
    if listed is None or listed.low * (1 - DISAGREEMENT) <= live.low <= listed.high * (1 + DISAGREEMENT):
        return gpu
    note = f"the table says {listed.low / GB:.0f} GB/s"
    if listed.high != listed.low:
        note += f" to {listed.high / GB:.0f}"
    return msgspec.structs.replace(gpu, bandwidth=msgspec.structs.replace(live, note=note))
