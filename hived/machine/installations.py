"""Whether a server's program is on this device, and who starts and stops it. Reads files, runs nothing.

A program is looked for on PATH and where its official installers put it. Its owner is told by the files
that make it one: a systemd unit, a launch agent, an application. Nothing here says that it runs.

Every path is looked up below ``root``, the folder taken for ``/``; only PATH and the home are taken as they
stand in the environment. Blocks; never raises.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping

import msgspec

from hived_client.doors.regular import open_regular
from hived_client.vocabulary.faults import quoted
from hived_client.vocabulary.world import Installation

MOST_BYTES = 65_536
"""Bytes of a unit or of a settings file that are read."""

_BIN = (
    *("usr/local/bin", "usr/bin", "bin", "opt/homebrew/bin", "home/linuxbrew/.linuxbrew/bin"),
    *("opt/local/bin", "snap/bin", "run/current-system/sw/bin"),
)
_HOME_BIN = (".local/bin", "bin", ".nix-profile/bin")
_SYSTEM_UNITS = (
    *("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system"),
    *("usr/lib/systemd/system", "lib/systemd/system"),
)
_USER_UNITS = ("etc/systemd/user", "usr/local/lib/systemd/user", "usr/lib/systemd/user")
_HOME_UNITS = (".config/systemd/user", ".local/share/systemd/user")

_EXEC = re.compile(r"^\s*ExecStart\s*=\s*[-@:+!|]*\"?(/[^\s\"]+)", re.MULTILINE)

NO_PROGRAM = Installation(found=False)


class _Owner(msgspec.Struct, frozen=True):
    """Who starts a program, how, and the program itself where the owner's file names it."""

    name: str
    start: str
    program: str | None = None


class Installations:
    """The programs of this device, as one user's environment shows them."""

    def __init__(
        self, environment: Mapping[str, str], *, studio: Callable[[], str] | None = None, root: str = "/"
    ) -> None:
        """``studio`` returns LM Studio's own folder, where it is known how to find it."""
        self._environment = environment
        self._home = environment.get("HOME", "")
        self._studio = studio
        self._root = root

    def __repr__(self) -> str:
        return f"<Installations below {self._root}>"

    def find(self, provider: str) -> Installation | None:
        """Look for a provider's program; ``None`` where it cannot be said whether it is there."""
        try:
            look = {
                "ollama": self._ollama,
                "vllm": self._vllm,
                "lm_studio": self._lm_studio,
                "llamacpp": self._llamacpp,
            }.get(provider)
            return look() if look is not None else None
        except (OSError, ValueError):  # a path that cannot be one: what it would have said is not known
            return None

    def _ollama(self) -> Installation:
        app = self._app("Ollama.app")
        path = self._program("ollama")
        if path is None and app is not None:
            inner = f"{app}/Contents/Resources/ollama"
            path = inner if self._is_file(inner) else None
        owner = self._unit("ollama") or self._brew("ollama") or self._snap("ollama")
        if owner is None and app is not None:
            owner = _Owner("the Ollama app", "open -a Ollama")
        return self._installation(path, owner, lambda program: f"{program} serve", "ollama")

    def _vllm(self) -> Installation:
        beside = os.path.join(os.path.dirname(sys.executable), "vllm")
        path = self._program("vllm") or (beside if os.access(beside, os.X_OK) else None)
        return self._installation(
            path,
            self._unit("vllm"),
            lambda program: f"{program} serve MODEL --host 127.0.0.1",
            "vllm",
        )

    def _lm_studio(self) -> Installation:
        folder = self._studio() if self._studio is not None else os.path.join(self._home, ".lmstudio")
        tool = os.path.join(folder, "bin", "lms")
        path = self._program("lms") or (tool if os.access(tool, os.X_OK) else None)
        owner = self._unit("lmstudio") or self._unit("lm-studio")
        if path is not None:
            # `lms` wakes the application or the headless one, whichever there is.
            return self._installation(path, owner, lambda program: f"{program} server start", "lms")
        for marker in ("app-install-location.json", "llmster-install-location.json"):
            named = _named_path(os.path.join(folder, ".internal", marker))
            if named is not None and os.path.exists(named):
                return Installation(found=True, path=named, owner="the LM Studio app", start=_open(named))
        app = self._app("LM Studio.app")
        if app is not None:
            return Installation(found=True, path=app, owner="the LM Studio app", start="open -a 'LM Studio'")
        return NO_PROGRAM

    def _llamacpp(self) -> Installation | None:
        path = self._program("llama-server")
        owner = self._unit("llama-server") or self._unit("llamacpp") or self._brew("llama.cpp")
        if path is not None or owner is not None:
            return self._installation(path, owner, lambda program: "", "llama-server")
        if importlib.util.find_spec("xllamacpp") is not None:
            return Installation(found=True)
        # A `llama` may be llama.cpp's, with a verb `serve`, or anything: its help would have to be asked.
        return None if self._program("llama") is not None else NO_PROGRAM

    def _installation(
        self, path: str | None, owner: _Owner | None, start: Callable[[str], str], usual: str
    ) -> Installation:
        """Put together what was found; a unit whose program is gone is what an uninstaller left behind."""
        if path is None and owner is not None and owner.program and self._is_file(owner.program):
            path = owner.program
        if path is None:
            return NO_PROGRAM
        if owner is not None:
            return Installation(found=True, path=path, owner=owner.name, start=owner.start)
        on_path = shutil.which(usual, path=self._environment.get("PATH", "")) == path
        return Installation(found=True, path=path, start="" if on_path else start(quoted(path)))

    def _program(self, name: str) -> str | None:
        """Find a program on PATH, else where installers put it; the path as it is below the root."""
        found = shutil.which(name, path=self._environment.get("PATH", ""))
        if found is not None and os.path.isabs(found):
            return found
        for folder in _BIN:
            if self._is_program(f"/{folder}/{name}"):
                return f"/{folder}/{name}"
        for folder in _HOME_BIN if self._home else ():
            path = os.path.join(self._home, folder, name)
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
        return None

    def _unit(self, name: str) -> _Owner | None:
        """Find a systemd unit: the system's, then the user's, then Homebrew's for Linux."""
        if not os.path.isdir(self._below("/run/systemd/system")):
            return None  # systemd does not run here, so that its units start nothing (a container, WSL)
        unit = f"{name}.service"
        for folder in _SYSTEM_UNITS:
            text = self._read_unit(self._below(f"/{folder}/{unit}"))
            if text is not None:
                return _Owner(f"system unit {unit}", f"sudo systemctl start {name}", _program_of(text))
        for path in self._user_units(unit):
            text = self._read_unit(path)
            if text is not None:
                return _Owner(f"user unit {unit}", f"systemctl --user start {name}", _program_of(text))
        for path in self._user_units(f"homebrew.{unit}"):
            text = self._read_unit(path)
            if text is not None:
                return _Owner(f"brew service {name}", f"brew services start {name}", _program_of(text))
        return None

    def _user_units(self, unit: str) -> Iterator[str]:
        named = self._environment.get("XDG_CONFIG_HOME", "")
        if os.path.isabs(named):
            yield os.path.join(named, "systemd/user", unit)
        if self._home:
            yield from (os.path.join(self._home, folder, unit) for folder in _HOME_UNITS)
        yield from (self._below(f"/{folder}/{unit}") for folder in _USER_UNITS)

    def _brew(self, formula: str) -> _Owner | None:
        """Find Homebrew's launch agent, which is there once its service was started."""
        plist = f"homebrew.mxcl.{formula}.plist"
        agent = os.path.join(self._home, "Library/LaunchAgents", plist) if self._home else ""
        if agent and os.path.isfile(agent):
            return _Owner(f"brew service {formula}", f"brew services start {formula}")
        if self._is_file(f"/Library/LaunchDaemons/{plist}"):
            return _Owner(f"brew service {formula}", f"sudo brew services start {formula}")
        return None

    def _snap(self, name: str) -> _Owner | None:
        if not os.path.isdir(self._below(f"/snap/{name}/current")):
            return None
        return _Owner(f"snap {name}", f"sudo snap start {name}")

    def _app(self, name: str) -> str | None:
        for folder in ("/Applications", os.path.join(self._home, "Applications") if self._home else ""):
            path = self._below(f"/Applications/{name}") if folder == "/Applications" else f"{folder}/{name}"
            if folder and os.path.isdir(path):
                return f"{folder}/{name}"
        return None

    def _read_unit(self, path: str) -> str | None:
        """Read a unit; ``None`` for none and for one that is masked (a link to /dev/null)."""
        text = _text(path)
        return text if text is not None and text.strip() else None

    def _is_program(self, path: str) -> bool:
        real = self._below(path)
        return os.path.isfile(real) and os.access(real, os.X_OK)

    def _is_file(self, path: str) -> bool:
        return os.path.isfile(self._below(path))

    def _below(self, path: str) -> str:
        if self._home and path.startswith(f"{self._home}/"):
            return path
        return os.path.join(self._root, path.lstrip("/"))


def _program_of(unit: str) -> str | None:
    found = _EXEC.search(unit)
    return found.group(1) if found else None


def _open(path: str) -> str:
    """Return the command that opens an application."""
    return f"open {quoted(path)}" if path.endswith(".app") else quoted(path)


def _named_path(marker: str) -> str | None:
    """Return the path that one of LM Studio's markers names (``{"path": …}``)."""
    try:
        document = json.loads(_text(marker) or "null")
    except (ValueError, RecursionError):
        return None
    path = document.get("path") if isinstance(document, dict) else None
    fits = isinstance(path, str) and os.path.isabs(path) and path.isprintable() and len(path) < 4096
    return path if fits else None


def _text(path: str) -> str | None:
    """Read a small regular file; ``None`` for anything else."""
    try:
        with open_regular(path) as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
