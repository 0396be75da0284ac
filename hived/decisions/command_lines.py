"""What the name and the command line of a process say about the server behind it. Pure."""

from __future__ import annotations

import os.path
from collections.abc import Sequence

FORWARDERS = frozenset(
    (
        *("ssh", "sshd", "sshd-session", "autossh", "dbclient", "dropbear", "plink", "sshuttle"),
        *("socat", "ncat", "nc", "rinetd", "redir", "simpleproxy", "systemd-socket-proxyd", "websocat"),
        *("kubectl", "oc", "k9s", "telepresence", "session-manager-plugin", "tsh", "boundary"),
        *("chisel", "frpc", "frps", "cloudflared", "ngrok", "tailscaled", "rathole", "bore", "gost"),
        *("wstunnel", "stunnel", "stunnel4", "xray", "v2ray"),
        *("nginx", "haproxy", "caddy", "traefik", "envoy"),
    )
)
"""Programs that hand connections on, perhaps to another machine.

Those that only lead into a container or a virtual machine on this device (docker-proxy, rootlessport,
slirp4netns, pasta, gvproxy) are not among them.
"""

VLLM_PORT = 8000
"""The port of a vLLM server whose command line names none."""

_VLLM_MODULE = "vllm.entrypoints.openai.api_server"
_VLLM_MAIN = "vllm.entrypoints.cli.main"


def forwarder(program: str) -> str:
    """Return the program's name if it is known to hand connections on; else nothing."""
    name = program.casefold().removesuffix(".exe")
    return program if name in FORWARDERS else ""


def is_vllm(words: Sequence[str]) -> bool:
    """Tell whether a command line is that of a vLLM server for its API."""
    return _vllm_options(words) is not None


def vllm_port(words: Sequence[str]) -> int | None:
    """Return the port that a vLLM server will listen at; ``None`` where its command line does not tell.

    A configuration file may name any port, and a Unix socket is none.
    """
    options = _vllm_options(words)
    if options is None:
        return None
    port = _option(options, "--port")
    if port is not None:
        return int(port) if port.isdecimal() and 0 < int(port) < 65_536 else None
    if _option(options, "--config") is not None or _option(options, "--uds") is not None:
        return None
    return VLLM_PORT


def _vllm_options(words: Sequence[str]) -> Sequence[str] | None:
    """Return what follows ``vllm serve`` or its older twin, where that is what the process itself runs."""
    if len(words) < 2:
        return None
    rest = list(words)
    if os.path.basename(rest[0]).casefold().startswith(("python", "pypy")):
        rest = rest[1:]
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            rest = rest[2 if rest[0] in ("-X", "-W") else 1 :]
        if rest[:1] == ["-m"]:
            module, rest = "".join(rest[1:2]), rest[2:]
            if module == _VLLM_MODULE:
                return rest
            return rest[1:] if module in (_VLLM_MAIN, "vllm") and rest[:1] == ["serve"] else None
    if len(rest) < 2 or os.path.basename(rest[0]) != "vllm" or rest[1] != "serve":
        return None
    return rest[2:]


def _option(words: Sequence[str], name: str) -> str | None:
    """Return the last value of an option, written as two words or with ``=``; the last one counts."""
    found = None
    for position, word in enumerate(words):
        if word == name and position + 1 < len(words):
            found = words[position + 1]
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found
