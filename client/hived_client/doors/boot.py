"""Which boot of the machine this is, so that a file from before a restart is never believed."""

from __future__ import annotations

import os
import sys

_LINUX = "/proc/sys/kernel/random/boot_id"
_known: list[str] = []
_bytes: list[bytes] = []


def boot_id() -> str:
    """Return a name for this boot of the machine; the same in every process until the next boot.

    Linux: the kernel's ``boot_id``. macOS: ``kern.bootsessionuuid`` (unproven there).
    Elsewhere an empty string, which equals itself, so that files are believed by their age alone.
    """
    if not _known:
        _known.append(_read())
    return _known[0]


def boot_bytes() -> bytes:
    """Return this boot as 16 bytes, for a file's header."""
    if not _bytes:
        digits = boot_id().replace("-", "")[:32]
        try:
            _bytes.append(bytes.fromhex(digits.ljust(32, "0")))
        except ValueError:
            _bytes.append(bytes(16))
    return _bytes[0]


def _read() -> str:
    try:
        fd = os.open(_LINUX, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _sysctl() if sys.platform == "darwin" else ""
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def _sysctl() -> str:
    import subprocess

    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, timeout=2.0, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("ascii", "replace").strip()
