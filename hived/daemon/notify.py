"""Tell whoever started the daemon how it goes: systemd over its datagram socket, a client over a pipe.

The words are those of sd_notify(3). What systemd does with them: it counts the unit as started at READY; it
kills and restarts one that owes it a WATCHDOG; between RELOADING and READY it shows the unit as reloading.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import msgspec

from hived_client.doors.launch import NOTIFY_FD, Report
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.services import AGENT


class Notifier:
    """Reports to systemd (``NOTIFY_SOCKET``) and to a launching client (``HIVED_NOTIFY_FD``)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        pipe = environment.get(NOTIFY_FD, "")
        self._pipe = int(pipe) if pipe.isdigit() else -1
        self._feed_every = _watchdog(environment) / 4
        self._fed = float("-inf")

    def ready(self) -> None:
        """Say that clients can connect."""
        self._systemd("READY=1")
        self._report(Report(ready=True, pid=os.getpid()))

    def failed(self, problem: Fault) -> None:
        """Say why there will be no daemon."""
        self._systemd(f"STATUS={problem.message}")
        self._report(Report(ready=False, pid=os.getpid(), fault=problem))

    def reloading(self, monotonic_ns: int) -> None:
        """Say that the configuration is read again; ``ready`` ends it."""
        self._systemd(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> None:
        """Say that the daemon is on its way out."""
        self._systemd("STOPPING=1")

    def extend(self, seconds: float) -> None:
        """Ask for so much time from now on, for a start or an end that may take longer than usual."""
        self._systemd(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self, now: float) -> None:
        """Feed the watchdog, if there is one and it is time; called only by who knows that all goes well."""
        if self._feed_every > 0 and now - self._fed >= self._feed_every:
            self._fed = now
            self._systemd("WATCHDOG=1")

    def _systemd(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError:
            return  # the manager is gone or busy; the daemon's work does not depend on it

    def _report(self, report: Report) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, msgspec.json.encode(report) + b"\n")
            os.close(self._pipe)
        except OSError:
            pass
        self._pipe = -1


def managed_by(environment: Mapping[str, str]) -> str:
    """Return who looks after this daemon."""
    if environment.get("HIVED_MANAGED_BY") == "client":
        return "client"
    # A shell that a unit started (a terminal's, say) has the unit's INVOCATION_ID too: it proves nothing.
    if environment.get("NOTIFY_SOCKET") or environment.get("SYSTEMD_EXEC_PID") == str(os.getpid()):
        return "systemd"
    # An editor that launchd has started has a name there too, and so has every terminal in it.
    if environment.get("XPC_SERVICE_NAME", "").startswith(AGENT):
        return "launchd"
    return "foreground"


def _watchdog(environment: Mapping[str, str]) -> float:
    """Return the seconds within which systemd wants to hear from this very process; 0: it does not."""
    pid, usec = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if pid not in ("", str(os.getpid())) or not (usec.isascii() and usec.isdigit()):
        return 0.0
    return int(usec) / 1e6
