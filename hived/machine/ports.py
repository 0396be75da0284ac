"""Which ports of this machine a server could listen at. Opens sockets and never listens itself."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

KNOCK = 0.5
"""Seconds for a connection to a port of this machine."""


class PortRefused(PermissionError):
    """This user may not open a port."""

    def __init__(self, port: int) -> None:
        super().__init__(errno.EACCES, f"port {port} may not be opened by this user")
        self.port = port


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now. Another may take it before it is used."""
    with _server_socket(host) as (one, address):
        one.bind((address, 0))
        return int(one.getsockname()[1])


def choose_port(host: str, asked: int | None, usual: int | None) -> int | None:
    """Return the port that was asked for, the usual one if it is free, else any free one.

    ``asked``: 0 is any; ``None`` where nobody asked. Returns ``None`` where the one asked for is taken.
    """
    if asked:
        return asked if is_port_free(host, asked) else None
    if asked is None and usual is not None and is_port_free(host, usual):
        return usual
    return free_port(host)


def is_port_free(host: str, port: int) -> bool:
    """Say whether a server could listen there.

    Raises OSError for a host that is not this machine's, and ``PortRefused`` for a port that this user may
    not open and at which nobody listens.
    """
    with _server_socket(host) as (one, address):
        try:
            one.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            if error.errno != errno.EACCES:
                raise
            if _is_somebody_at(one.family, address, port):
                return False
            raise PortRefused(port) from error
        return True


def _is_somebody_at(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(KNOCK)
        return one.connect_ex((address, port)) == 0


@contextlib.contextmanager
def _server_socket(host: str) -> Iterator[tuple[socket.socket, str]]:
    """Open a socket as a server would, and give it with the numeric address of its host."""
    family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as one:
        # As llama.cpp does: else connections that ended a moment ago would make a free port look taken.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield one, str(address[0])
