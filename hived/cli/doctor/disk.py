"""Room on the disks that hived writes to, and on those that models are fetched to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import msgspec

from hived.cli.doctor.findings import Finding, of_fault, ok, warn
from hived.cli.rendering import size
from hived.providers.disk_huggingface import hub_folder
from hived.providers.disk_lm_studio import models_folder, studio_folder
from hived.providers.disk_ollama import model_folders
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import fault, quoted

FULL = 1_000_000
"""Bytes below which hived itself cannot write."""
SHORT = 2_000_000_000
"""Bytes below which no model of use can be fetched."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One file system."""

    path: str
    """A folder on it."""
    device: int
    free: int
    """Bytes that this user may still write."""
    total: int
    has_models: bool


def models_folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders that models of servers of this device are in, as far as they are there."""
    found = (
        *model_folders(environment),
        hub_folder(environment),
        models_folder(studio_folder(environment)),
    )
    return tuple(folder for folder in dict.fromkeys(found) if os.path.isdir(folder))


def read_disks(places: Places, models: Iterable[str]) -> tuple[Disk, ...]:
    """Look at each file system once. Blocks, and for a disk that hangs for ever."""
    found: dict[int, Disk] = {}
    own = [(_there(path), False) for path in (places.state, places.runtime, places.home)]
    for path, has_models in [*((_there(each), True) for each in models), *own]:
        try:
            device, room = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue
        found.setdefault(
            device,
            Disk(
                path=path,
                device=device,
                free=room.f_bavail * room.f_frsize if room.f_favail or not room.f_files else 0,
                total=room.f_blocks * room.f_frsize,
                has_models=has_models,
            ),
        )
    return tuple(found.values())


def check_disks(disks: Iterable[Disk]) -> list[Finding]:
    """Judge them. Pure."""
    found = []
    for disk in disks:
        said = f"{size(disk.free)} of {size(disk.total)} are free on the disk of {disk.path}"
        if disk.free < FULL:
            found.append(of_fault(fault("disk.full", path=disk.path), "fail"))
        elif disk.has_models and disk.free < SHORT:
            mend = f"du -h -d 2 {quoted(disk.path)} | sort -h"
            found.append(warn("disk.short", f"{said}: too little for a model", mend))
        else:
            found.append(ok("disk.room", said))
    return found


def _there(path: str) -> str:
    """Return the folder, or the nearest one above it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
