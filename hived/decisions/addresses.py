"""What a server's address says as a user wrote it, and whether two of them are the same place. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from hived_client.vocabulary.kinds import root_url


class BadAddress(ValueError):
    """The text is not the address of a server; its message says why."""


def read_url(text: str) -> str:
    """Return the root URL that a user's text means: ``http://`` unless it says otherwise, no ``/v1``.

    An address to bind to is turned into one to connect to: ``0.0.0.0`` into ``127.0.0.1``, ``::`` into
    ``::1``. Raises ``BadAddress``.
    """
    text = text.strip()
    if not text:
        raise BadAddress("is empty")
    if not text.isprintable() or " " in text:
        # It is shown on terminals and written into the snapshot, which is UTF-8.
        raise BadAddress("has a space or a character that cannot be shown in it")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
    except ValueError as error:
        raise BadAddress("is not an address that can be read") from error
    if parts.scheme not in ("http", "https"):
        raise BadAddress(f"begins with {parts.scheme}://, and only http:// and https:// can be used")
    if parts.username or parts.password:
        raise BadAddress("has a name or password in it; name a variable in api_key_env_var instead")
    try:
        port = parts.port
    except ValueError as error:
        raise BadAddress("has a port that is not a number up to 65535") from error
    if port == 0:
        raise BadAddress("has port 0, which is whatever port was free and not one to connect to")
    host = _to_connect(parts.hostname or "")
    shown = f"[{host}]" if ":" in host else host
    return root_url(f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path}")


def _to_connect(host: str) -> str:
    """Turn a host to bind to into one to connect to."""
    try:
        address = ipaddress.ip_address(host or "0.0.0.0")
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def host_and_port(url: str) -> tuple[str, int]:
    """Return the host (without brackets) and the port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


def place(url: str) -> tuple[str, int, str]:
    """Return what two URLs of the same server have in common: ``localhost`` is ``127.0.0.1``.

    The path counts: behind one gateway there may be several servers.
    """
    host, port = host_and_port(url)
    return ("127.0.0.1" if host == "localhost" else host), port, urlsplit(root_url(url)).path
