"""Where hived's files are. The same answer in every process of a user, whatever launched it.

A path never depends on ``TMPDIR``: editors, agents and shells see different ones, and would each talk
to a daemon of their own. A folder is believed only if it is ours and closed to others: whoever can
write there could tell an agent to send its prompts elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

import msgspec

from hived_client.errors import Unavailable
from hived_client.vocabulary.faults import Fault, fault, quoted
from hived_client.vocabulary.homes import home_of

CONTRACT = "v1"
"""Folder of the wire contract: a contract that an old client could not parse gets another one."""

SUN_PATH = 103
"""Bytes that a Unix socket's path may have on every system (macOS: 104 with its NUL, Linux: 108)."""

BREADCRUMB = "hived.json"


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Every path of one daemon."""

    home: str
    """``~/.hive`` or ``HIVE_HOME``."""
    runtime: str
    """The runtime folder without the contract's own."""
    state: str
    socket: str

    @property
    def folder(self) -> str:
        return f"{self.runtime}/{CONTRACT}"

    @property
    def snapshot(self) -> str:
        return f"{self.folder}/snapshot"

    @property
    def beat(self) -> str:
        return f"{self.folder}/beat"

    @property
    def lock(self) -> str:
        return f"{self.folder}/lock"

    @property
    def start_lock(self) -> str:
        return f"{self.folder}/start.lock"

    @property
    def last_known(self) -> str:
        return f"{self.state}/last-known"

    @property
    def claim(self) -> str:
        return f"{self.state}/claim"

    @property
    def started(self) -> str:
        return f"{self.state}/started"

    @property
    def logs(self) -> str:
        return f"{self.state}/logs"

    @property
    def configuration(self) -> str:
        return f"{self.home}/configuration.json"

    @property
    def breadcrumb(self) -> str:
        return f"{self.home}/run/{BREADCRUMB}"


def places(environment: Mapping[str, str] | None = None) -> Places:
    """Return the paths that a daemon in this environment would use. Touches the disk only to look.

    Raises ``Unavailable`` (``runtime.unsafe``) where no folder could be safe.
    """
    env = os.environ if environment is None else environment
    own_home = _own_home(env)
    home = os.path.abspath(os.path.expanduser(env["HIVE_HOME"])) if env.get("HIVE_HOME") else own_home
    name = "hived" if home == own_home else f"hived-{short_hash(home)}"
    runtime = _runtime(env, home, name)
    state = f"{_state_root(env)}/{name}"
    for path, variable in ((home, "HIVE_HOME"), (runtime, "HIVED_RUNTIME_DIR"), (state, "XDG_STATE_HOME")):
        _check_text(path, variable)
    return Places(home=home, runtime=runtime, state=state, socket=socket_path(runtime))


def candidates(environment: Mapping[str, str] | None = None) -> list[Places]:
    """Return the places where a daemon of ours may be, the likeliest first.

    The second comes from the breadcrumb that a daemon leaves in its home: a daemon that was started
    with ``XDG_RUNTIME_DIR`` is found by a client that has none (cron, ssh, su).
    """
    first = places(environment)
    env = os.environ if environment is None else environment
    if env.get("HIVED_RUNTIME_DIR"):
        return [first]
    runtime = _read_breadcrumb(first.breadcrumb)
    if runtime is None or runtime == first.runtime:
        return [first]
    other = msgspec.structs.replace(first, runtime=runtime, socket=socket_path(runtime))
    return [first, other]


def socket_path(runtime: str) -> str:
    """Return the socket's path: in the runtime folder, or, where that is too long, in a short one in /tmp."""
    path = f"{runtime}/{CONTRACT}/hived.sock"
    if len(os.fsencode(path)) <= SUN_PATH:
        return path
    return f"/tmp/hived-{os.getuid()}-{short_hash(path)}/hived.sock"


def check_folder(path: str) -> None:
    """Raise ``Unavailable`` (``runtime.unsafe``) unless this is a folder of ours that is closed to others."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(denied(path, error)) from error
    if not stat.S_ISDIR(found.st_mode):
        raise Unavailable(fault("runtime.unsafe", path=path, why="it is not a folder"))
    if found.st_uid != os.getuid():
        why, mend = f"it belongs to user {found.st_uid}", "export HIVED_RUNTIME_DIR=~/.hive/run"
        raise Unavailable(fault("runtime.unsafe", path=path, why=why, mend=mend))
    if found.st_mode & 0o022:
        mend = f"chmod go-w {quoted(path)}"
        raise Unavailable(fault("runtime.unsafe", path=path, why="others may write to it", mend=mend))


def ensure_folder(path: str, *, close: bool = True) -> None:
    """Make a folder of ours (0700) with its parents, and check it. Raises ``Unavailable``.

    ``close``: one that is there already is closed to others. Not for a folder that the user named: it may
    be the home.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        check_folder(path)
        if close and os.lstat(path).st_mode & 0o077:
            os.chmod(path, 0o700)
    except OSError as error:
        raise Unavailable(unwritable(path, error)) from error


def unwritable(path: str, error: OSError) -> Fault:
    """Say why something could not be written: a disk without room is its own fault, with its own cure."""
    if is_full(error):
        return fault("disk.full", path=path)
    return fault("runtime.unwritable", path=path, why=_why(error), folder=nearest(path))


def denied(path: str, error: OSError) -> Fault:
    """Say why something may not be looked at: what lies in a folder of ours was left by a hived of root's."""
    outermost, above = path, os.path.dirname(path)
    while not _belongs_to_us(above) and above != outermost:
        outermost, above = above, os.path.dirname(above)
    is_left = above != outermost and os.path.lexists(outermost) and not _belongs_to_us(outermost)
    mend = f"sudo chown -R {os.getuid()} {quoted(outermost)}" if is_left else None
    return fault("runtime.unsafe", path=path, why=_why(error), mend=mend, folder=nearest(path))


def nearest(path: str) -> str:
    """Return a path, or what is above it and can be seen."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def is_full(error: OSError) -> bool:
    """Tell whether a disk, or the share of it that this user has, has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def short_hash(text: str) -> str:
    """Return 8 hex digits that stand for a path."""
    import hashlib  # only another home or a path that is too long pays for it

    return hashlib.blake2b(os.fsencode(text), digest_size=4).hexdigest()


def _own_home(env: Mapping[str, str]) -> str:
    home = home_of(env)
    if not home.startswith("/"):
        why = "HOME is no absolute path" if env.get("HOME") else "HOME is not set, and the user has none"
        raise Unavailable(fault("runtime.unsafe", path=home, why=why, mend="export HOME=/home/USER"))
    return os.path.abspath(f"{home}/.hive")


def _check_text(path: str, variable: str) -> None:
    """Raise ``Unavailable`` for a path that can be told to nobody: all messages and files are UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "replace").decode()
        mend = f"export {variable}=/path/in/UTF-8"
        problem = fault("runtime.unsafe", path=shown, why="its name is no UTF-8", mend=mend)
        raise Unavailable(problem) from error


def _state_root(env: Mapping[str, str]) -> str:
    given = env.get("XDG_STATE_HOME", "")
    return given.rstrip("/") if given.startswith("/") else f"{os.path.dirname(_own_home(env))}/.local/state"


def _runtime(env: Mapping[str, str], home: str, name: str) -> str:
    given = env.get("HIVED_RUNTIME_DIR")
    if given:
        return os.path.abspath(given)
    for root in (env.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}"):
        if root.startswith("/") and _is_ours(root):
            return f"{root.rstrip('/')}/{name}"
    return f"{home}/run"


def _belongs_to_us(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.getuid()
    except OSError:
        return False


def _is_ours(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(path, os.W_OK)


class _Breadcrumb(msgspec.Struct):
    """The one word of a daemon's breadcrumb that is needed; what else a newer daemon writes is no matter."""

    runtime: str


def _read_breadcrumb(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            runtime = msgspec.json.decode(file.read(65_536), type=_Breadcrumb).runtime
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    return runtime if runtime.startswith("/") and "\0" not in runtime else None


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
