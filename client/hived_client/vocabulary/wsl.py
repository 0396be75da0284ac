"""Whether a Linux is Windows' own (WSL), and which of the two. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def wsl_of(kernel: str, environment: Mapping[str, str]) -> str:
    """Return ``1`` or ``2``; empty for any other Linux.

    ``kernel`` is its release, or all of ``/proc/version``: Microsoft's say so (``…-Microsoft`` is WSL 1,
    ``…-microsoft-standard-WSL2`` is WSL 2). One that was built by hand is told by the variable, which only a
    login from Windows has: no service of systemd, no ``su`` and no ``cron``.
    """
    release = kernel.partition(" (")[0]  # who built it, and with what, says nothing
    if "-Microsoft" in release:
        return "1"
    return "2" if "microsoft" in release or "WSL_DISTRO_NAME" in environment else ""
