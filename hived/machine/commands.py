"""A program of this machine, run for what it says, within a time and a length. Never with a shell."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

MOST = 262_144
"""Bytes of an answer that are kept."""
AT_ONCE = 65_536


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended and what it said."""

    code: int
    out: str
    err: str
    is_late: bool = False
    """Whether it was ended because its time was over."""
    left: int | None = None
    """Its number, where the kernel holds it and it was left behind."""


class Run(Protocol):
    """Runs a program within a time, as ``run_bounded`` does."""

    def __call__(
        self,
        words: Sequence[str],
        *,
        seconds: float,
        environment: Mapping[str, str] | None = None,
        begun: Callable[[int], None] | None = None,
    ) -> Done | None: ...


def run_bounded(
    words: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    begun: Callable[[int], None] | None = None,
) -> Done | None:
    """Run a program and return what it said; ``None`` where it cannot be run. Blocks; never raises.

    ``begun`` is called with its number, which is that of its group too, for whoever may want to end it early.

    One that is late is killed with its whole group. One that the kernel holds (a driver that hangs) cannot be
    killed: it is left behind after another second, and not waited for.
    """
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if environment is None else environment), "LC_ALL": "C"},
            start_new_session=True,
            cwd="/",
        )
    except (OSError, ValueError):
        return None
    if begun is not None:
        begun(process.pid)
    try:
        out, err = _said(process, time.monotonic() + seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        left = process.pid if process.returncode is None else None
        if left is not None:
            process.returncode = -signal.SIGKILL  # nobody waits for what the kernel holds
        return Done(code=-signal.SIGKILL, out="", err="", is_late=True, left=left)
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return Done(code=process.returncode, out=_text(out), err=_text(err))


def _said(process: subprocess.Popen[bytes], until: float) -> tuple[bytes, bytes]:
    """Return what it prints until it ends. All is read, and no more is kept than is wanted."""
    kept: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                kept[pipe.fileno()] = bytearray()
                selector.register(pipe.fileno(), selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(_left(process, until)):
                part = os.read(key.fd, AT_ONCE)
                if not part:
                    selector.unregister(key.fd)
                kept[key.fd] += part[: MOST - len(kept[key.fd])]
    process.wait(_left(process, until))
    out, err = kept.values()
    return bytes(out), bytes(err)


def _left(process: subprocess.Popen[bytes], until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise subprocess.TimeoutExpired(process.args, 0.0)
    return left


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
