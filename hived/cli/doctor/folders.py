"""Where hived's files are: each runtime folder there could be, which is used and why, whose they are."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from hived.cli.doctor.findings import Finding, fail, note, ok, warn
from hived.cli.doctor.service import over
from hived.machine.owners import Owner, holder_of_lock, is_hived, owner_of_process, user_name
from hived.machine.processes import words_of
from hived_client.doors.files import accepts
from hived_client.doors.paths import SUN_PATH, Places, candidates, nearest
from hived_client.vocabulary.faults import quoted

Origin = Literal["HIVED_RUNTIME_DIR", "XDG_RUNTIME_DIR", "/run/user", "the home", "the breadcrumb"]


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a path."""

    path: str
    is_there: bool
    is_folder: bool = False
    uid: int = -1
    mode: int = 0
    is_writable: bool = False
    can_be_made: bool = False
    """Whether it is missing, and the folder that it would be made in can be written."""
    why: str = ""
    """Why it could not be looked at."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime folder that could be used, and the folder that it hangs on."""

    origin: Origin
    runtime: str
    root: Folder
    is_used: bool


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """The lock of the daemon."""

    is_there: bool
    holder: Owner | None = None
    is_hived: bool = False


class FilesFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of hived's files."""

    uid: int
    places: Places
    candidates: tuple[Candidate, ...]
    folders: tuple[Folder, ...]
    """Those that hived writes to, as far as they are there."""
    socket_bytes: int
    has_socket: bool
    accepts: bool
    lock: Lock


def read_files(places: Places, environment: Mapping[str, str]) -> FilesFacts:
    """Look at the files. Blocks; writes nothing, and makes nothing."""
    holder = holder_of_lock(places.lock)
    folders = (places.runtime, places.folder, os.path.dirname(places.socket), places.state, places.logs)
    return FilesFacts(
        uid=os.getuid(),
        places=places,
        candidates=tuple(_candidates(places, environment)),
        folders=tuple(look_at(path) for path in dict.fromkeys(folders)),
        socket_bytes=len(os.fsencode(places.socket)),
        has_socket=os.path.lexists(places.socket),
        accepts=accepts(places.socket),
        lock=Lock(
            is_there=os.path.lexists(places.lock),
            holder=owner_of_process(holder) if holder is not None else None,
            is_hived=holder is not None and is_hived(words_of(holder)),
        ),
    )


def look_at(path: str) -> Folder:
    """Say what lies at a path, without following a link that lies there itself."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return Folder(
            path=path,
            is_there=False,
            can_be_made=os.access(nearest(path), os.W_OK | os.X_OK),
        )
    except OSError as error:
        return Folder(path=path, is_there=False, why=error.strerror or type(error).__name__)
    return Folder(
        path=path,
        is_there=True,
        is_folder=stat.S_ISDIR(found.st_mode),
        uid=found.st_uid,
        mode=stat.S_IMODE(found.st_mode),
        is_writable=os.access(path, os.W_OK | os.X_OK),
    )


def check_files(facts: FilesFacts) -> list[Finding]:
    """Judge them."""
    found = [*_runtime(facts), *_safety(facts), *_socket(facts), *_lock(facts)]
    missing = [folder.path for folder in facts.folders if folder.can_be_made]
    if missing:
        found.append(ok("files.missing", f"made by the first start: {', '.join(missing)}"))
    return found


def _candidates(places: Places, environment: Mapping[str, str]) -> Iterator[Candidate]:
    name = os.path.basename(places.state)
    roots: list[tuple[Origin, str, str]] = []
    if environment.get("HIVED_RUNTIME_DIR"):
        given = os.path.abspath(environment["HIVED_RUNTIME_DIR"])
        roots.append(("HIVED_RUNTIME_DIR", given, given))
    if environment.get("XDG_RUNTIME_DIR"):
        root = environment["XDG_RUNTIME_DIR"].rstrip("/")
        roots.append(("XDG_RUNTIME_DIR", root, f"{root}/{name}"))
    root = f"/run/user/{os.getuid()}"
    roots.append(("/run/user", root, f"{root}/{name}"))
    roots.append(("the home", places.home, f"{places.home}/run"))
    seen: set[str] = set()
    for origin, root, runtime in roots:
        if runtime in seen:
            continue
        seen.add(runtime)
        yield Candidate(origin=origin, runtime=runtime, root=look_at(root), is_used=runtime == places.runtime)
    for other in candidates(environment)[1:]:
        if other.runtime not in seen:
            yield Candidate(
                origin="the breadcrumb", runtime=other.runtime, root=look_at(other.runtime), is_used=False
            )


def _runtime(facts: FilesFacts) -> Iterator[Finding]:
    used = next((each for each in facts.candidates if each.is_used), None)
    by = f", by {used.origin}" if used is not None else ""
    yield ok("files.runtime", f"runtime folder {facts.places.runtime}{by}", brief=True)
    for each in facts.candidates:
        if each.is_used:
            continue
        if each.origin == "the breadcrumb":
            said = f"the last hived ran in {each.runtime}, as it saw another environment"
            yield note("files.runtime.other", said, brief=each.root.is_there)
        else:
            said = f"not used: {each.runtime}, by {each.origin}: {_why_not(each, facts.uid)}"
            yield ok("files.runtime.other", said)
    if used is not None and used.origin == "the home":
        said = "there is no runtime folder of this login, so that hived's files lie on a disk"
        yield note("files.runtime.home", said, brief=False)


def _why_not(candidate: Candidate, uid: int) -> str:
    root = candidate.root
    if root.why:
        return root.why
    if not root.is_there:
        return f"{root.path} is not there"
    if not root.is_folder:
        return f"{root.path} is not a folder"
    if root.uid != uid:
        return f"{root.path} belongs to {user_name(root.uid)}"
    if not root.is_writable:
        return f"{root.path} cannot be written"
    return "another one comes first"


def _safety(facts: FilesFacts) -> Iterator[Finding]:
    for folder in facts.folders:
        if not folder.can_be_made:
            yield _safe(folder, facts)


def _safe(folder: Folder, facts: FilesFacts) -> Finding:
    path, shows = folder.path, f"ls -ld {quoted(folder.path)}"
    if folder.why:
        return fail("files.unreadable", f"{path} cannot be looked at: {folder.why}", shows)
    if not folder.is_there:
        return fail("files.missing", f"{path} cannot be made", f"ls -ld {quoted(nearest(path))}")
    if not folder.is_folder:
        return fail("files.no_folder", f"{path} is not a folder", shows)
    if folder.uid != facts.uid:
        whose = user_name(folder.uid)
        # In our own home it was left by a hived that somebody ran as root; elsewhere it may be anybody's.
        is_home = path.startswith((f"{os.path.dirname(facts.places.home)}/", facts.places.state))
        mend = f"sudo chown -R {quoted(user_name(facts.uid))} {quoted(path)}"
        mend = mend if is_home else "export HIVED_RUNTIME_DIR=~/.hive/run"
        return fail("files.owner", f"{path} belongs to {whose}, and hived does not trust it", mend)
    mode = f"mode {folder.mode:04o}"
    if folder.mode & 0o022:
        mend = f"chmod go-w {quoted(path)}"
        return fail("files.mode", f"others may write to {path} ({mode})", mend)
    if not folder.is_writable:
        mend = f"chmod u+rwx {quoted(path)}" if folder.mode & 0o300 != 0o300 else shows
        return fail("files.unwritable", f"{path} cannot be written ({mode})", mend)
    return ok("files.folder", f"{path} is ours ({mode})")


def _socket(facts: FilesFacts) -> Iterator[Finding]:
    if facts.places.socket.startswith(f"{facts.places.runtime}/"):
        said = f"the socket's path has {facts.socket_bytes} of {SUN_PATH} bytes"
        yield ok("files.socket.length", said)
    else:
        said = f"the runtime folder's path is too long for a socket, which is {facts.places.socket}"
        yield note("files.socket.length", said)
    if facts.has_socket and not facts.accepts and facts.lock.holder is None:
        said = "an earlier hived left its socket, which the next start replaces"
        yield note("files.socket.stale", said, brief=False)


def _lock(facts: FilesFacts) -> Iterator[Finding]:
    holder = facts.lock.holder
    if holder is None:
        yield ok("files.lock", "nobody holds the lock" if facts.lock.is_there else "there is no lock yet")
    elif not facts.lock.is_hived:
        said = f"{holder.words} holds the lock, and is no hived"
        yield fail("files.lock", said, f"ps -fp {holder.pid}")
    elif not facts.accepts:
        said = f"{holder.words} holds the lock and does not listen: it begins, ends or hangs"
        is_managed = re.fullmatch(r"user unit hived[0-9a-f-]*\.service", holder.unit) is not None
        mend = over(holder.pid, is_managed=is_managed) if holder.pid is not None else "hived doctor"
        yield warn("files.lock", said, mend)
    else:
        yield ok("files.lock", f"{holder.words} holds the lock")
