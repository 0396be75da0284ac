"""``hived plugin``: let the programs that are here use hived, or no longer.

hived plugin enable hive

What changes is Hive's Python environment, by one file, and nothing of Hive's: not its configuration, not its
code. ``disable`` removes that file; the client stays installed, and nothing imports it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hived.cli.rendering import as_json
from hived.cli.running import NO, YES, shown
from hived_client._version import __version__
from hived_client.agent.hook import FINDER, LINE
from hived_client.doors.origin import requirement
from hived_client.errors import Refused
from hived_client.vocabulary.faults import fault, quoted

FILE = "hived_hive.pth"
ACTIONS = ("enable", "disable", "status")
ASK = 30.0
"""Seconds for a Python to say what it is."""
INSTALL = 600.0
"""Seconds for pip."""

_QUERY = f"""
import json, os, sys, sysconfig
sys.path[:] = [each for each in sys.path if each]
from importlib.util import find_spec
def has(name):
    try:
        return find_spec(name)
    except Exception:
        return None
try:
    import msgspec
    from hived_client._version import __version__ as client
except Exception:
    client = None
folders = getattr(has("framework"), "submodule_search_locations", None) or ()
print(json.dumps({{
    "version": list(sys.version_info[:2]),
    "folder": sysconfig.get_path("purelib"),
    "client": client,
    "hive": next((f for f in folders if os.path.exists(os.path.join(f, "llm", "litellm.py"))), None),
    "pip": has("pip") is not None,
    "managed": sys.prefix == sys.base_prefix
        and os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")),
    "active": any(getattr(each, "__name__", "") == {FINDER!r} for each in sys.meta_path),
}}))
"""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a Python says of itself."""

    version: tuple[int, int]
    folder: str
    """Where its packages are."""
    client: str | None = None
    """The version of hived's client that it can import."""
    hive: str | None = None
    """The folder of Hive's package ``framework``, where it is installed."""
    pip: bool = False
    managed: bool = False
    """Whether the system's package manager forbids others to install here."""
    active: bool = False
    """Whether it has just started with hived plugged in."""


class Plugged(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand."""

    program: str
    enabled: bool
    python: str
    file: str
    client: str | None
    ours: str = __version__
    hive: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("program", choices=("hive",))
    parser.add_argument("--python", metavar="PATH", help="the Python that runs it, or its environment")
    parser.add_argument("--json", action="store_true", help="print how things stand as JSON")


def run(options: argparse.Namespace) -> int:
    python = interpreter(options.python, os.environ, os.getcwd(), is_new=options.action == "enable")
    place = look(python)
    if options.action == "enable":
        place = enable(python, place)
    elif options.action == "disable":
        place = disable(python, place)
    plugged = Plugged(
        program=options.program,
        enabled=place.active,
        python=python,
        file=_file(place),
        client=place.client,
        hive=place.hive,
    )
    print(as_json(plugged) if options.json else "\n".join(lines(plugged)))
    return YES if plugged.enabled or options.action == "disable" else NO


def enable(python: str, place: Place) -> Place:
    """Plug hived in: the client, where it is not there, and the file. Idempotent. Raises ``Refused``."""
    folder = place.folder
    if place.version < (3, 11):
        why = f"it is Python {place.version[0]}.{place.version[1]}, and hived needs 3.11"
        raise Refused(fault("plugin.no_python", path=python, why=why))
    if place.managed:
        raise Refused(fault("plugin.managed", path=folder))
    if not os.access(folder, os.W_OK):
        why = "it is not there" if not os.path.isdir(folder) else "this user may not"
        raise Refused(fault("plugin.unwritable", path=folder, why=why))
    if place.client != __version__:
        _install(python, place)
    before = _content(place)
    if before != LINE:
        _write(_file(place), LINE)
    now = look(python)
    if now.active and now.client == __version__:
        return now
    if before is None:
        disable(python, place)  # what does not work is not left behind
    why = "it does not import the client" if now.active else f"it does not run {_file(place)}"
    raise Refused(fault("plugin.install_failed", path=python, why=why, install=f"ls -l {quoted(folder)}"))


def disable(python: str, place: Place) -> Place:
    """Unplug it. Idempotent. Raises ``Refused``."""
    try:
        os.unlink(_file(place))
    except FileNotFoundError:
        return place
    except OSError as error:
        raise Refused(fault("plugin.unwritable", path=place.folder, why=error.strerror)) from error
    return look(python)


def lines(plugged: Plugged) -> list[str]:
    """Return how things stand for people."""
    state = "is plugged into Hive" if plugged.enabled else "is not plugged into Hive"
    client = f"version {plugged.client}" if plugged.client else "not installed"
    rows = [
        f"hived {state}",
        f"  python   {plugged.python}",
        f"  hive     {plugged.hive or 'not installed there (run from a checkout?)'}",
        f"  client   {client}",
    ]
    rows += [f"  file     {plugged.file}"] if plugged.enabled else []
    return [shown(row) for row in rows]


def interpreter(
    given: str | None, environment: Mapping[str, str], folder: str, *, is_new: bool = True
) -> str:
    """Return the Python that runs Hive. Raises ``Refused``.

    Its links are kept: an environment's Python is a link, by whose place it knows what it is. That of the
    folder that one stands in is run where hived ``is_new`` to it, or is there already: a look at how things
    stand does not run the program of just any clone.
    """
    if given is not None:
        path = os.path.abspath(os.path.expanduser(given))
        inner = os.path.join(path, "bin", "python")
        return inner if os.path.isdir(path) and os.path.exists(inner) else path
    own = os.path.join(folder, ".venv")
    is_known = is_new or any(Path(own).glob(f"lib/python*/site-packages/{FILE}"))
    found = [os.path.join(own, "bin", "python")] if is_known else []
    hive = shutil.which("hive", path=environment.get("PATH"))
    if hive is not None:
        beside = os.path.dirname(os.path.realpath(hive))
        found = [
            os.path.join(beside, "python"),
            os.path.join(beside, ".venv", "bin", "python"),
            *_first_line(hive),
            *found,
        ]
    for path in found:
        if os.access(path, os.X_OK):
            return path
    raise Refused(fault("plugin.no_hive"))


def look(python: str) -> Place:
    """Ask a Python what it is. Raises ``Refused``."""
    try:
        done = subprocess.run(
            [python, "-c", _QUERY],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=_bare(os.environ),
            timeout=ASK,
            check=False,
        )
        return msgspec.json.decode(done.stdout.splitlines()[-1] if done.stdout else b"", type=Place)
    except subprocess.TimeoutExpired:
        why = f"it said nothing within {ASK:g} s"
    except OSError as error:
        why = error.strerror or type(error).__name__
    except msgspec.MsgspecError:
        why = _last_line(done.stderr) or f"it ended with {done.returncode}"
    raise Refused(fault("plugin.no_python", path=python, why=why))


def _install(python: str, place: Place) -> None:
    wanted = requirement()
    uv = shutil.which("uv")
    if place.pip:
        command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", wanted]
    elif uv is not None:
        command = [uv, "pip", "install", "--python", python, wanted]
    else:
        install = shlex.join([python, "-m", "ensurepip", "--upgrade"])
        raise Refused(fault("plugin.no_pip", path=python, install=install))
    print(f"hived: {shown(shlex.join(command))}", file=sys.stderr)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=_bare(os.environ),
            timeout=INSTALL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(python, f"it took longer than {INSTALL:g} s", command) from error
    except OSError as error:
        raise _failed(python, error.strerror or type(error).__name__, command) from error
    if done.returncode != 0:
        raise _failed(python, _last_line(done.stderr) or f"it ended with {done.returncode}", command)


def _failed(python: str, why: str, command: Sequence[str]) -> Refused:
    install = shlex.join(command)
    return Refused(fault("plugin.install_failed", path=python, why=why.rstrip("."), install=install))


def _bare(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a Python finds what is installed, and not what our caller added."""
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _first_line(script: str) -> list[str]:
    """Return the Python of a script's first line, where there is one."""
    try:
        with open(script, "rb") as file:
            first = file.readline(1024)
    except OSError:
        return []
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    return words[:1] if words and os.path.basename(words[0]).startswith("python") else []


def _last_line(output: bytes) -> str:
    """Return what a program said last, an error before all else; as one line that can be shown."""
    said = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("ERROR:")]
    return shown((errors or said)[-1])[:200] if said else ""


def _file(place: Place) -> str:
    return os.path.join(place.folder, FILE)


def _content(place: Place) -> str | None:
    try:
        with open(_file(place), encoding="utf-8", errors="replace") as file:
            return file.read(65_536)
    except OSError:
        return None


def _write(path: str, text: str) -> None:
    """Write a file whole: a Python that starts meanwhile sees the old one or the new one."""
    folder = os.path.dirname(path)
    try:
        number, temporary = tempfile.mkstemp(dir=folder, prefix=".hived", suffix=".new")
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise Refused(fault("plugin.unwritable", path=folder, why=why)) from error
