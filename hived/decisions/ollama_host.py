"""What ``OLLAMA_HOST`` means, by Ollama's own rules (its ``envconfig.Host``). Pure.

The rules are not those of a URL: no scheme means port 11434, ``http://`` means 80, and a port that is
none is the default one. The server and its clients read the same variable, so an address to bind to
is turned into one to connect to.
"""

from __future__ import annotations

import ipaddress
import re

from hived.decisions.addresses import BadAddress, read_url

DEFAULT_PORT = 11434

_SCHEMES = {"http": 80, "https": 443}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def read_ollama_host(text: str) -> str:
    """Return the URL at which the server that this value means is reached.

    Raises ``BadAddress`` for one that nothing can connect to: port 0, a scheme that is not HTTP, or a
    name and password, of which Ollama would take the name for the host.
    """
    if "@" in text.rpartition("://")[2].partition("/")[0]:
        raise BadAddress("has a name or password in it, which Ollama does not read")
    return read_url(written_host(text))


def written_host(text: str) -> str:
    """Return the URL that Ollama itself makes of the value, where no host means every interface."""
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("https", "ollama.com:443") if text == "ollama.com" else ("http", text)
        default = DEFAULT_PORT
    else:
        default = _SCHEMES.get(scheme, DEFAULT_PORT)
    authority, slash, path = rest.partition("/")
    host, port = _split(authority) or (_bare_host(authority), "")
    number = int(port) if _WHOLE.fullmatch(port) else -1
    number = number if 0 <= number <= 65535 else default
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{number}{(slash + path).rstrip('/')}"


def _bare_host(authority: str) -> str:
    """Read what has no port: an address with or without brackets, or any other text."""
    bare = authority.strip("[]")
    try:
        return str(ipaddress.ip_address(bare)) if "%" not in bare else authority
    except ValueError:
        return authority or "127.0.0.1"


def _split(authority: str) -> tuple[str, str] | None:
    """Split host and port as Go's ``net.SplitHostPort`` does; ``None`` where it would refuse."""
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or not port.startswith(":"):
            return None
        host, port = host, port[1:]
    else:
        host, colon, port = authority.rpartition(":")
        if not colon or ":" in host:
            return None
    return None if ":" in port or set("[]") & set(host + port) else (host, port)
