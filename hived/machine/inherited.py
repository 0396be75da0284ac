"""Which variables of the daemon's own environment a server that it starts may see."""

from __future__ import annotations

from collections.abc import Mapping

_OURS = ("WATCHDOG_", "LISTEN_")
_EXACTLY = frozenset(
    (
        *("NOTIFY_SOCKET", "HIVED_NOTIFY_FD", "HIVED_MANAGED_BY", "FDSTORE", "MAINPID", "MANAGERPID"),
        *("INVOCATION_ID", "JOURNAL_STREAM"),
        *("SYSTEMD_EXEC_PID", "CREDENTIALS_DIRECTORY", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"),
        *("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "LOGS_DIRECTORY", "CACHE_DIRECTORY"),
    )
)


def without_ours(base: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment without what a service manager or hived meant for the daemon alone.

    With the service manager's variables a child could speak in the daemon's name.
    """
    return {name: text for name, text in base.items() if not name.startswith(_OURS) and name not in _EXACTLY}
