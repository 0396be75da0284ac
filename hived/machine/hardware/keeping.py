"""What was captured of this machine, kept on disk for one boot of it. Blocks."""

from __future__ import annotations

import msgspec

from hived.machine.hardware.understanding import Captured
from hived_client.doors.whole import write_whole
from hived_client.vocabulary.hardware import Bandwidth

MOST_BYTES = 16 << 20


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    mark: str
    """Differs as soon as what was captured may: another boot, machine, driver or program."""
    captured: Captured
    bandwidth: Bandwidth | None = None


def read_kept(path: str) -> Kept | None:
    """Read the file; ``None`` where there is none that makes sense."""
    try:
        with open(path, "rb") as file:
            return msgspec.msgpack.decode(file.read(MOST_BYTES), type=Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_kept(path: str, kept: Kept) -> None:
    """Write the file; a disk that is full costs a look at the next start and nothing else."""
    try:
        write_whole(path, msgspec.msgpack.encode(kept))
    except OSError:
        pass
