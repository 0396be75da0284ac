"""One conversation with the daemon, sans-I/O: what to send, and what the bytes that came mean."""

from __future__ import annotations

import msgspec

from hived_client.doors.frames import AFTER_HELLO, FrameReader, TooLong, frame
from hived_client.doors.wire import HELLO_BODY, Reply, Welcome, read_reply, read_welcome, request_body
from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import fault

HELLO = frame(HELLO_BODY)
"""The first bytes that a client sends. A first request may follow at once, in the same write."""


class Session:
    """Numbers requests and cuts the answers. ``welcome`` is set once the daemon has greeted."""

    def __init__(self) -> None:
        self.welcome: Welcome | None = None
        self._reader = FrameReader(AFTER_HELLO)
        self._number = 0

    def __repr__(self) -> str:
        return f"<Session {'greeted' if self.welcome else 'new'}, {self._number} requests>"

    def request(self, method: str, params: msgspec.Struct) -> tuple[int, bytes]:
        """Return the number of a request and the bytes to send."""
        self._number += 1
        return self._number, frame(request_body(self._number, method, params))

    def feed(self, data: bytes) -> list[Reply]:
        """Take what came and return the replies in it. Raises ``Unavailable`` when it makes no sense.

        No bytes mean that the daemon has closed the connection.
        """
        if not data:
            raise Unavailable(fault("protocol.broken", why="it was closed"))
        try:
            bodies = self._reader.feed(data)
        except TooLong as error:
            raise Unavailable(fault("protocol.broken", why=str(error))) from error
        if bodies and self.welcome is None:
            self.welcome = read_welcome(bodies.pop(0))
        return [read_reply(body) for body in bodies]
