"""``python -m hived.machine.hardware.memory_speed``: measure how fast this machine's memory is, and print it.

Every thread copies a block of its own from one place to another, all at once, and bytes read and written
both count. Python's own lock is let go while a block is copied. Bounded in time and memory, and at a low
priority, so that whoever works meanwhile is not held up (and may make the figure smaller: the best of several
rounds is taken, and it is measured once).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time

MOST_THREADS = 8
MOST_BYTES = 512 << 20
"""Of all blocks together."""
LEAST_BYTES = 256 << 20
"""The same at least: of less, a processor's caches hold so much that they would be measured."""
BLOCK = 256 << 20
"""Of one at most: far more than a processor's caches hold."""
ROUNDS = 24
SECONDS = 0.01
"""Of one round at least: one copy of a large block takes longer."""
NICE = 10

Block = ctypes.Array[ctypes.c_char]


def main() -> None:
    """Print the bytes a second of all threads together."""
    try:
        os.nice(NICE)
    except OSError:
        pass
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    room = int(sys.argv[2]) if len(sys.argv) > 2 else MOST_BYTES
    together = measure(min(threads, MOST_THREADS), min(room, MOST_BYTES))
    json.dump({"bytes_per_second": together, "threads": min(threads, MOST_THREADS)}, sys.stdout)


def measure(threads: int, room: int = MOST_BYTES, *, least: int = LEAST_BYTES) -> float | None:
    """Return the bytes a second that so many threads read and write together; ``None`` without the room."""
    block = min(BLOCK, room // (2 * threads)) & ~4095
    if not block or 2 * threads * block < least:
        return None
    # As any program has its data: where two blocks lie to the page a fixed distance apart, they get into each
    # other's way (seen: an eighth slower), and with large pages they are faster than a model's file.
    new = ctypes.create_string_buffer
    blocks = [(new(block), new(block)) for _ in range(threads)]
    for source, target in blocks:  # touched once, so that the pages are there before the clock runs
        ctypes.memset(source, 1, block)
        ctypes.memset(target, 2, block)
    return max(_round(blocks, block) for _ in range(ROUNDS))


def _round(blocks: list[tuple[Block, Block]], block: int) -> float:
    barrier = threading.Barrier(len(blocks))
    speeds = [0.0] * len(blocks)

    def copy(at: int) -> None:
        source, target = blocks[at]
        barrier.wait()
        begun, copied = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS or not copied:
            ctypes.memmove(target, source, block)
            copied += 2 * block
        speeds[at] = copied / (time.perf_counter() - begun)

    workers = [threading.Thread(target=copy, args=(at,)) for at in range(len(blocks))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(speeds)


if __name__ == "__main__":
    main()
