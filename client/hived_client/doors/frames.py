"""Frames on the socket: a length and that many bytes. Sans-I/O: bytes in, messages out.

``u32 big-endian length | body``. What is longer than the limit is refused from its length alone,
before a byte of it is kept. Half a frame is kept until the rest comes.
"""

from __future__ import annotations

import struct

BEFORE_HELLO = 64 * 1024
"""Bytes that a frame may have before both sides have said hello."""

AFTER_HELLO = 8 * 1024 * 1024
"""Bytes that a frame may have afterwards."""

_LENGTH = struct.Struct(">I")


class TooLong(Exception):
    """A frame announces more than may be sent. The connection cannot go on."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes, and {limit} is the limit")
        self.length = length
        self.limit = limit


class FrameReader:
    """Cut a stream of bytes into frames. ``limit`` may be raised once the peer is known."""

    def __init__(self, limit: int = BEFORE_HELLO) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<FrameReader {len(self._buffer)} bytes waiting, limit {self.limit}>"

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the frames that they complete, in order. Raises ``TooLong``."""
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self.limit:
                raise TooLong(length, self.limit)
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        if start:
            del buffer[:start]
        return frames


def frame(body: bytes) -> bytes:
    """Put a length before a body. Raises ``TooLong`` for one that no peer would take."""
    if len(body) > AFTER_HELLO:
        raise TooLong(len(body), AFTER_HELLO)
    return _LENGTH.pack(len(body)) + body
