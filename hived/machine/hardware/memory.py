"""The machine's memory: /proc/meminfo, its parts near each processor, and what limits leave of it. Pure."""

from __future__ import annotations

from hived.machine.hardware.limits import Limits, count_list
from hived.machine.hardware.texts import Texts, sizes, text, under
from hived_client.vocabulary.hardware import Memory, NumaNode


def understand_memory(texts: Texts, limits: Limits) -> Memory:
    """Read the memory, with what is available within every limit."""
    said = sizes(text(texts, "proc/meminfo"))
    total, available = said.get("MemTotal"), said.get("MemAvailable")
    if limits.memory is not None and total is not None and limits.memory >= total:
        limits = Limits()  # a limit above what there is limits nothing
    left = [each for each in (available, limits.free) if each is not None]
    sources = ["/proc/meminfo"] if said else []
    return Memory(
        total=total or None,
        available=min(left) if left else None,
        limit=limits.memory,
        swap=said.get("SwapTotal"),
        numa=_numa(texts),
        source=", ".join([*sources, *([limits.source] if limits.memory is not None else [])]),
    )


def _numa(texts: Texts) -> tuple[NumaNode, ...]:
    """Return the nodes, where there is more than one."""
    nodes = []
    for match, said in under(texts, r"sys/devices/system/node/node(\d+)/meminfo"):
        # "Node 0 MemTotal:  12345 kB"
        found = sizes(said.replace(f"Node {match[1]} ", ""))
        processors = text(texts, f"sys/devices/system/node/node{match[1]}/cpulist")
        nodes.append(
            NumaNode(
                number=int(match[1]),
                memory=found.get("MemTotal"),
                processors=count_list(processors) if processors else 0,
            )
        )
    return tuple(nodes) if len(nodes) > 1 else ()
