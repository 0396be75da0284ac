"""Who listens at a port, read from Linux's own tables of sockets.

Only the rows of those who listen are read: on a machine that has just had many connections the tables have
thousands of others, which wait for their end and cost a fifth of a second. And only where somebody listens
are the descriptors of processes gone through. Blocks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

TABLES = ("proc/net/tcp", "proc/net/tcp6")

_LISTEN = rb"0A"


class Listening(NamedTuple):
    """A socket that listens."""

    address: Address
    uid: int
    """Its user, which is told although the process may be hidden."""
    inode: int


def rows_at(port: int, root: str = "/") -> list[Listening] | None:
    """Return the sockets that listen at a port; ``None`` on a system without these tables.

    ``root`` is the folder taken for ``/``.
    """
    tables = [_read(f"{root}{path}") for path in TABLES]
    return [row for table in tables for row in listening_in(table, port)] if any(tables) else None


def listeners_at(port: int) -> Iterator[tuple[Address, int | None]]:
    """Yield each address where somebody listens, with each process that does; ``None``: not ours to see.

    Whose socket is another user's is not sought: only root may see the descriptors of others.
    """
    found: dict[int, list[Address]] = {}
    ours: set[int] = set()
    for row in rows_at(port) or ():
        found.setdefault(row.inode, []).append(row.address)
        if row.uid == os.geteuid() or os.geteuid() == 0:
            ours.add(row.inode)
    owners = _owners(ours) if ours else {}
    for inode, addresses in found.items():
        for address in addresses:
            for pid in owners.get(inode, [None]):
                yield address, pid


def listening_in(table: bytes, port: int) -> Iterator[Listening]:
    """Yield each row of a table that listens at a port. Pure."""
    head = rb"^ *\d+: ([0-9A-F]{8}|[0-9A-F]{32}):%04X [0-9A-F:]+ %b " % (port, _LISTEN)
    row = head + rb"(?:\S+ +){3}(\d+) +\S+ +(\d+)"
    for match in re.finditer(row, table, re.MULTILINE):
        yield Listening(_address(match[1]), int(match[2]), int(match[3]))


def _address(written: bytes) -> Address:
    """Read an address: words of 32 bits, each as this machine has them in memory."""
    words = [int(written[at : at + 8], 16) for at in range(0, len(written), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 4:
        return ipaddress.IPv4Address(packed)
    address = ipaddress.IPv6Address(packed)
    return address.ipv4_mapped or address


def _read(path: str) -> bytes:
    """Return the head of a table: the rows that listen, which the kernel writes before all others."""
    rows: list[bytes] = []
    try:
        with open(path, "rb") as file:
            for row in file:
                if rows and row.split(None, 4)[3:4] != [_LISTEN]:
                    break
                rows.append(row)
    except OSError:
        return b""  # a system without IPv6
    return b"".join(rows)


def _owners(inodes: Iterable[int]) -> dict[int, list[int | None]]:
    """Return the processes that have a descriptor of these sockets, of those that we may see."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, list[int | None]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            for inode in _sockets_of(name, wanted):
                owners.setdefault(inode, []).append(int(name))
    return owners


def _sockets_of(pid: str, wanted: dict[str, int]) -> set[int]:
    folder = f"/proc/{pid}/fd"
    found: set[int] = set()
    try:
        for descriptor in os.listdir(folder):
            try:
                inode = wanted.get(os.readlink(f"{folder}/{descriptor}"))
            except OSError:
                continue  # it was closed meanwhile
            if inode is not None:
                found.add(inode)
    except OSError:
        pass  # not ours to see, or gone
    return found
