"""The baseline of the RPC rows: a blocking Python server, a thread a connection, the same frames and hello.

It decides nothing: it answers every request with the same bytes. What hived adds to it is its price.
Run as ``python -m tests.benchmarks.baseline_server SOCKET``.
"""

from __future__ import annotations

import socket
import sys
import threading

import msgspec

from hived_client.doors.frames import FrameReader, frame
from hived_client.doors.wire import Reply, Request, Welcome

_request = msgspec.msgpack.Decoder(Request).decode
_encode = msgspec.msgpack.Encoder().encode

WELCOME = frame(
    _encode(
        Welcome(
            use=1,
            version="baseline",
            features=(),
            daemon_id="",
            boot_id="",
            pid=0,
            started_at=0.0,
            generation=1,
            managed_by="foreground",
        )
    )
)
ANSWER = msgspec.Raw(_encode({"generation": 1, "padding": "x" * 480}))


def serve(connection: socket.socket) -> None:
    """Greet, then answer until the peer goes."""
    reader, greeted = FrameReader(), False
    with connection:
        while data := connection.recv(65_536):
            for body in reader.feed(data):
                if not greeted:
                    connection.sendall(WELCOME)
                    greeted = True
                else:
                    connection.sendall(frame(_encode(Reply(id=_request(body).id, result=ANSWER))))


def main(path: str) -> None:
    """Accept for ever."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(512)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
