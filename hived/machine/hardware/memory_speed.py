"""``python -m hived.machine.hardware.memory_speed``: measure how fast this machine's memory is, and print it.

Every thread copies a block of its own from one place to another, all at once, and bytes read and written
both count. Python's own lock is let go while a block is copied. Bounded in time and memory, and at a low
priority, so that whoever works meanwhile is not held up. That makes the figure smaller: the best of several
rounds is taken, and beside it what comes out where only that time counts for which the threads had a
processor. On a machine that is idle both are the same; on a busy one the truth lies between them.
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
MOST_DILUTED = 100.0
"""How many times longer than it worked a copy may take, for its figure to be believed."""

Block = ctypes.Array[ctypes.c_char]


def main() -> None:
    """Print the bytes a second of all threads together: at least, and at most."""
    try:
        os.nice(NICE)
    except OSError:
        pass
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    room = int(sys.argv[2]) if len(sys.argv) > 2 else MOST_BYTES
    together = measure(min(threads, MOST_THREADS), min(room, MOST_BYTES))
    low, high = together or (None, None)
    said = {"bytes_per_second": low, "at_most": high, "threads": min(threads, MOST_THREADS)}
    json.dump(said, sys.stdout)


def measure(threads: int, room: int = MOST_BYTES, *, least: int = LEAST_BYTES) -> tuple[float, float] | None:
    """Return the bytes a second that so many threads read and write together; ``None`` without the room.

    The first figure is by the clock, the second by the time for which the threads had a processor.
    """
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
    rounds = [_round(blocks, block) for _ in range(ROUNDS)]
    by_clock = max(low for low, _ in rounds)
    return by_clock, max(by_clock, *(high for _, high in rounds))


def _round(blocks: list[tuple[Block, Block]], block: int) -> tuple[float, float]:
    barrier = threading.Barrier(len(blocks))
    speeds = [(0.0, 0.0)] * len(blocks)

    def copy(at: int) -> None:
        source, target = blocks[at]
        barrier.wait()
        begun, worked, copied = time.perf_counter(), time.thread_time(), 0
        while time.perf_counter() - begun < SECONDS or not copied:
            ctypes.memmove(target, source, block)
            copied += 2 * block
        spent = time.perf_counter() - begun
        # A clock of processors may be coarse; no thread has one for longer than the time that passes.
        speeds[at] = (
            copied / spent,
            copied / min(spent, max(time.thread_time() - worked, spent / MOST_DILUTED)),
        )

    workers = [threading.Thread(target=copy, args=(at,)) for at in range(len(blocks))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(low for low, _ in speeds), sum(high for _, high in speeds)


if __name__ == "__main__":
    main()
