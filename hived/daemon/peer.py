"""One peer on the socket: bytes in, bytes out, with nothing between them and the kernel.

Most requests are answered before the next look at the event loop: what has come is read and what is
answered is written at once, and only a read or a write that would wait goes to the loop. The loop is
given the file descriptor, not the socket: its selector formats whatever it is given into an exception,
twice a request, and for a socket that costs more than the answer.
"""

from __future__ import annotations

import socket

import anyio
import anyio.lowlevel

READ = 65_536
"""Bytes read at once."""

SEND_TIMEOUT = 5.0
"""Seconds that a peer may leave what is sent to it unread."""

TURN = 16
"""Reads that need not wait before the others get their turn."""


class Peer:
    """A connection that was accepted. Closed by whoever opened it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._fd = connection.fileno()
        self._reads = 0

    def __repr__(self) -> str:
        return f"<Peer {self._fd}>"

    async def receive(self) -> bytes:
        """Wait for bytes; none mean that the peer has nothing more to say. Raises OSError. Safe to cancel."""
        self._reads += 1
        if self._reads % TURN == 0:
            await anyio.lowlevel.checkpoint()
        while True:
            try:
                return self._socket.recv(READ)
            except BlockingIOError:
                await anyio.wait_readable(self._fd)

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError for a peer that is gone, TimeoutError for one that does not read.

        Cancelled in the middle, it leaves half a frame behind, and the connection must be closed.
        """
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    def hang_up(self) -> None:
        """Read no more: what is being answered is answered, and an idle peer sees the end."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            return  # the peer was quicker

    def close(self) -> None:
        """Close the connection, waking whatever still waits for it."""
        anyio.notify_closing(self._fd)
        self._socket.close()

    async def _send_rest(self, rest: memoryview) -> None:
        with anyio.fail_after(SEND_TIMEOUT) as patience:
            while rest:
                await anyio.wait_writable(self._fd)
                try:
                    sent = self._socket.send(rest)
                except BlockingIOError:
                    continue
                rest = rest[sent:]
                patience.deadline = anyio.current_time() + SEND_TIMEOUT
